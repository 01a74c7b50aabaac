package source

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
)

// lacking is a registry that says of some paths that it has nothing there.
func lacking(t *testing.T, b *imagetest.Built, lacks func(path string) bool) *imagetest.Registry {
	registry := imagetest.NewRegistry(t)
	registry.Push("os", "v1", b)
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if !lacks(r.URL.Path) {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}`)
		return true
	})
	return registry
}

// What one mirror lacks comes from the next, or from the registry itself; where
// nobody has it, the error says who was asked.
func TestIncompleteMirrors(t *testing.T) {
	b := testImage(t, "gzip")
	layer := func(path string) bool { return strings.HasSuffix(path, "/blobs/"+b.Layers[0].String()) }
	blobs := func(path string) bool { return strings.Contains(path, "/blobs/") }
	none := func(string) bool { return false }
	for _, test := range []struct {
		name    string
		mirrors []func(string) bool
		self    func(string) bool
		fails   bool
	}{
		{"a layer", []func(string) bool{layer}, none, false},
		{"all blobs", []func(string) bool{blobs}, none, false},
		{"two mirrors", []func(string) bool{blobs, layer}, none, false},
		{"only the second is whole", []func(string) bool{layer, none}, blobs, false},
		{"nobody has it", []func(string) bool{layer, layer}, layer, true},
	} {
		self := lacking(t, b, test.self)
		conf := fmt.Sprintf("[[registry]]\nprefix = \"os.example.com\"\nlocation = %q\ninsecure = true\n", self.Host)
		first := ""
		for _, lacks := range test.mirrors {
			mirror := lacking(t, b, lacks)
			if first == "" {
				first = mirror.Host
			}
			conf += fmt.Sprintf("[[registry.mirror]]\nlocation = %q\ninsecure = true\n", mirror.Host)
		}
		o := accepting(t)
		o.RegistriesConf = filepath.Join(t.TempDir(), "registries.conf")
		imagetest.Write(t, o.RegistriesConf, []byte(conf))
		img, err := Open(t.Context(), "os.example.com/os:v1", o)
		for i := 0; err == nil && i < len(b.Layers); i++ {
			var r *LayerReader
			if r, err = img.OpenLayer(t.Context(), i); err == nil {
				_, err = io.Copy(io.Discard, r)
				r.Close()
			}
		}
		if img != nil {
			img.Close()
		}
		if (err != nil) != test.fails {
			t.Errorf("%s: %v", test.name, err)
		}
		if test.fails && !strings.Contains(fmt.Sprint(err), first) {
			t.Errorf("%s: the error doesn't name the mirror %s: %v", test.name, first, err)
		}
	}
}

// Debian 12's docker-registry understands ranges, but answers 416 with the
// length of the whole blob and hangs up.
func TestRangesBehindBadLength(t *testing.T) {
	b := chunkedImage(t, 100)
	registry, ref, o := faulty(t, b)
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		var from int
		if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); n == 0 || from < len(blob) || len(blob) == 0 {
			return false
		}
		hijack(w, fmt.Sprintf("416 Requested Range Not Satisfiable\r\nContent-Length: %d\r\nContent-Type: text/plain", len(blob)), []byte("invalid range\n"))
		return true
	})
	img, err := Open(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	bytes, err := readFrames(t, img)
	if err != nil {
		t.Fatal(err)
	}
	if have := img.Fetched(); have > bytes+100*gapInRequest {
		t.Errorf("%d bytes were fetched for %d", have, bytes)
	}
}
