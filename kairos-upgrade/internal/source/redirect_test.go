package source

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
)

// A registry redirects blobs to a store at another port of the same host, which
// refuses whoever sends a token beside the signature in the address: the blobs
// come all the same, whole and in ranges, and the token stays with the registry.
func TestRedirects(t *testing.T) {
	b := chunkedImage(t, 100)
	store := imagetest.NewRegistry(t)
	store.Push("os", "v1", b)
	var served atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			http.Error(w, "only one way to log in", http.StatusBadRequest)
			return
		}
		served.Add(1)
		store.ServeHTTP(w, r)
	}))
	defer front.Close()
	for _, host := range []string{"127.0.0.1", "localhost"} {
		to := "http://" + host + front.URL[strings.LastIndex(front.URL, ":"):]
		registry, ref, o := faulty(t, b)
		registry.SetFault(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			if user, password, _ := r.BasicAuth(); user != "a" || password != "b" {
				w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			if !strings.Contains(r.URL.Path, "/blobs/") {
				return false
			}
			http.Redirect(w, r, to+r.URL.Path+"?signature=1", http.StatusTemporaryRedirect)
			return true
		})
		o.AuthFile = filepath.Join(t.TempDir(), "auth.json")
		imagetest.Write(t, o.AuthFile, []byte(`{"auths":{"`+registry.Host+`":{"auth":"YTpi"}}}`))
		img, err := Open(t.Context(), ref, o)
		if err != nil {
			t.Errorf("to %s: %v", host, err)
			continue
		}
		before := served.Load()
		if n, err := readFrames(t, img); err != nil || img.Fetched() > n+100*gapInRequest {
			t.Errorf("to %s, in ranges: %d bytes for %d, %v", host, img.Fetched(), n, err)
		}
		r, err := img.OpenLayer(t.Context(), 0)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			r.Close()
		}
		if err != nil || served.Load() == before {
			t.Errorf("to %s, whole: %v", host, err)
		}
		img.Close()
	}
}

// The same host and port is the same place; another scheme is not.
func TestOrigin(t *testing.T) {
	for _, test := range []struct {
		from, to string
		keeps    bool
	}{
		{"https://r.example.com/v2/", "https://r.example.com:443/x", true},
		{"https://r.example.com/v2/", "http://r.example.com/x", false},
		{"https://r.example.com/v2/", "https://r.example.com:8443/x", false},
		{"https://r.example.com/v2/", "https://cdn.r.example.com/x", false},
		{"http://r.example.com:5000/v2/", "http://r.example.com:5000/x", true},
	} {
		from, _ := http.NewRequest(http.MethodGet, test.from, nil)
		to, _ := http.NewRequest(http.MethodGet, test.to, nil)
		to.Header.Set("Authorization", "Bearer token")
		if err := checkRedirect(to, []*http.Request{from}); err != nil || (to.Header.Get("Authorization") != "") != test.keeps {
			t.Errorf("%s to %s: %v, %q", test.from, test.to, err, to.Header)
		}
	}
}
