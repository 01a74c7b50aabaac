package source

import (
	"errors"
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
	v := reflect.ValueOf(source)
	for _, field := range []string{"c", "client"} { // dockerImageSource, dockerClient
		if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
			return
		}
		if v = v.Elem().FieldByName(field); !v.IsValid() {
			return
		}
	}
	if v.Type() != reflect.TypeFor[*http.Client]() || v.IsNil() {
		return
	}
	(*http.Client)(v.UnsafePointer()).CheckRedirect = checkRedirect
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
