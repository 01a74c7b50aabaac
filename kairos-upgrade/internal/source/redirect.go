package source

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"

	"go.podman.io/image/v5/types"
)

// keepToken makes a source of a registry send its token to that registry alone.
//
// Many registries answer a request for a blob with a redirect to a store of
// objects, with a signature in the address. net/http takes the header
// Authorization off for another host, but not for another port of the same one:
// such a store gets a token that it must not see, and refuses the request for
// having two ways to log in. containers/image has no way to say otherwise, so its
// client is reached by reflection. A test holds it against a registry; where the
// client has another form, redirects are what net/http makes of them.
func keepToken(source types.ImageSource) {
	if client, _ := clientOf(source); client != nil {
		client.CheckRedirect = checkRedirect
	}
}

// clientOf returns the client of a source and the host that it is for, nil where
// there is none.
func clientOf(source types.ImageSource) (client *http.Client, host string) {
	v := reflect.ValueOf(source)
	for _, field := range []string{"c", "client"} { // dockerImageSource, dockerClient
		if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
			return nil, ""
		}
		if name := v.Elem().FieldByName("registry"); name.IsValid() && name.Kind() == reflect.String {
			host = name.String()
		}
		if v = v.Elem().FieldByName(field); !v.IsValid() {
			return nil, ""
		}
	}
	if v.Type() != reflect.TypeFor[*http.Client]() || v.IsNil() {
		return nil, ""
	}
	return (*http.Client)(v.UnsafePointer()), host
}

// keepInsecure makes a source verify the certificates of all hosts but the one that
// is accepted without: a registry may send for a blob to any other.
func keepInsecure(source types.ImageSource, host string) {
	client, own := clientOf(source)
	if host == "" || client == nil || own != host {
		return
	}
	loose, ok := client.Transport.(*http.Transport)
	if !ok || loose.TLSClientConfig == nil || !loose.TLSClientConfig.InsecureSkipVerify {
		return
	}
	strict := loose.Clone()
	strict.TLSClientConfig.InsecureSkipVerify = false
	client.Transport = &byHost{host: (&url.URL{Host: host}).Hostname(), loose: loose, strict: strict}
}

// byHost sends requests to one host through loose, others through strict.
type byHost struct {
	host          string
	loose, strict *http.Transport
}

func (b *byHost) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Hostname() == b.host {
		return b.loose.RoundTrip(req)
	}
	if req.URL.Scheme != "https" {
		return nil, fmt.Errorf("the registry sends to %s, which has no TLS: --insecure accepts %s alone", req.URL.Host, b.host)
	}
	return b.strict.RoundTrip(req)
}

// CloseIdleConnections is what http.Client calls.
func (b *byHost) CloseIdleConnections() {
	b.loose.CloseIdleConnections()
	b.strict.CloseIdleConnections()
}

// redirectsMax is net/http's own limit.
const redirectsMax = 10

func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= redirectsMax {
		return errors.New("too many redirects")
	}
	if origin(req.URL) != origin(via[0].URL) {
		req.Header.Del("Authorization")
	}
	return nil
}

// origin is scheme, host and port.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + u.Hostname() + ":" + port
}
