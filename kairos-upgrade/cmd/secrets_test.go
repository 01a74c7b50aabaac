package cmd

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
)

// TestNoSecretLeaves: what an address has of secrets is in none of the messages
// about it: a login before the registry, the signature in the address to which a
// registry redirects.
func TestNoSecretLeaves(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	registry.Push("os", "v1", imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{{Tar: osLayer(t, 3, nil), Compression: "gzip"}}}))
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		panic(http.ErrAbortHandler) // whose address the error tells
	}))
	defer elsewhere.Close()
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		if blob == nil || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		http.Redirect(w, r, elsewhere.URL+"/blob?X-Amz-Signature=hunter2", http.StatusTemporaryRedirect)
		return true
	})
	n := newNode(t)
	for _, args := range [][]string{
		{"--insecure", registry.Host + "/os:v1"},
		{"--insecure", "--json", registry.Host + "/os:v1"},
		{"docker://me:hunter2@registry.example/os:1"},
		{"me:hunter2@registry.example/os:1"},
		{"oci:me:hunter2@registry.example/os:1"},
	} {
		status, out := n.run("stage", args...)
		if status == 0 || strings.Contains(out, "hunter2") || !strings.Contains(out, "(secret)") {
			t.Errorf("stage %v: exit status %d: %s", args, status, out)
		}
	}
}
