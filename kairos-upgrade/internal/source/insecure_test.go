package source

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
)

// plainRegistry is a registry without TLS that registries.conf does not know.
func plainRegistry(t *testing.T) (*imagetest.Registry, string, *imagetest.Built, Options) {
	t.Helper()
	b := chunkedImage(t, 10)
	registry, ref, o := faulty(t, b)
	o.RegistriesConf = filepath.Join(t.TempDir(), "registries.conf")
	imagetest.Write(t, o.RegistriesConf, nil)
	return registry, ref, b, o
}

// A registry without TLS is accepted when somebody says so, and then by its name
// alone.
func TestInsecure(t *testing.T) {
	registry, ref, _, o := plainRegistry(t)
	_, port, _ := strings.Cut(registry.Host, ":")
	for name, test := range map[string]struct {
		insecure bool
		known    string
		accepted bool
	}{
		"not said":     {false, "", false},
		"said":         {true, "", true},
		"known":        {false, registry.Host, true},
		"another host": {false, "localhost:" + port, false},
		"another port": {false, "127.0.0.1", false},
	} {
		o.Insecure, o.InsecureRegistry = test.insecure, test.known
		img, err := Open(t.Context(), ref, o)
		if (err == nil) != test.accepted {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			if img.InsecureRegistry != registry.Host {
				t.Errorf("%s: accepted was %q", name, img.InsecureRegistry)
			}
			img.Close()
		}
		if _, err := Tags(t.Context(), strings.TrimSuffix(ref, ":v1"), o); (err == nil) != test.accepted {
			t.Errorf("%s, tags: %v", name, err)
		}
	}
}

// Where it sends for its blobs is another host: that needs TLS and a certificate.
func TestInsecureElsewhere(t *testing.T) {
	registry, ref, b, o := plainRegistry(t)
	o.Insecure = true
	plain := httptest.NewServer(registry)
	defer plain.Close()
	unknown := httptest.NewTLSServer(registry)
	defer unknown.Close()
	for to, want := range map[string]string{plain.URL: "has no TLS", unknown.URL: "certificate"} {
		to = strings.Replace(to, "127.0.0.1", "localhost", 1)
		registry.SetFault(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			if !isLayer(r, b) || strings.HasPrefix(r.Host, "localhost") {
				return false
			}
			http.Redirect(w, r, to+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		})
		img, err := Open(t.Context(), ref, o)
		if err != nil {
			t.Fatal(err)
		}
		r, err := img.OpenLayer(t.Context(), 0)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", to, err)
		}
		img.Close()
	}
}

// Its mirrors are other hosts as well: what registries.conf says of them holds.
func TestInsecureMirror(t *testing.T) {
	registry, ref, b, o := plainRegistry(t)
	mirror := imagetest.NewRegistry(t)
	mirror.Push("os", "v1", b)
	o.Insecure = true
	for _, loose := range []bool{false, true} {
		o.RegistriesConf = filepath.Join(t.TempDir(), "registries.conf") // containers/image reads one once
		imagetest.Write(t, o.RegistriesConf, fmt.Appendf(nil, "[[registry]]\nlocation = %q\n[[registry.mirror]]\nlocation = %q\ninsecure = %t\n",
			registry.Host, mirror.Host, loose))
		asked := 0
		mirror.SetFault(func(http.ResponseWriter, *http.Request, []byte) bool { asked++; return false })
		img, err := Open(t.Context(), ref, o)
		if err != nil {
			t.Errorf("mirror insecure = %t: %v", loose, err)
			continue
		}
		r, err := img.OpenLayer(t.Context(), 0)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			r.Close()
		}
		if err != nil || (asked > 0) != loose {
			t.Errorf("mirror insecure = %t: %d requests, %v", loose, asked, err)
		}
		img.Close()
	}
}
