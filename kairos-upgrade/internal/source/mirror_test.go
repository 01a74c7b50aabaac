package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// failing answers requests in a way that is of no use.
type failing func(w http.ResponseWriter, r *http.Request, blob []byte)

func status(code int, contentType, body string) failing {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(code)
		io.WriteString(w, body)
	}
}

// unreliable is a registry that fails at some paths.
func unreliable(t *testing.T, b *imagetest.Built, at func(path string) bool, how failing) *imagetest.Registry {
	registry := imagetest.NewRegistry(t)
	registry.Push("os", "v1", b)
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		if !at(r.URL.Path) {
			return false
		}
		how(w, r, blob)
		return true
	})
	return registry
}

// behindMirrors are options with mirrors of os.example.com.
func behindMirrors(t *testing.T, self *imagetest.Registry, mirrors ...*imagetest.Registry) Options {
	conf := fmt.Sprintf("[[registry]]\nprefix = \"os.example.com\"\nlocation = %q\ninsecure = true\n", self.Host)
	for _, mirror := range mirrors {
		conf += fmt.Sprintf("[[registry.mirror]]\nlocation = %q\ninsecure = true\n", mirror.Host)
	}
	o := accepting(t)
	o.RegistriesConf = filepath.Join(t.TempDir(), "registries.conf")
	imagetest.Write(t, o.RegistriesConf, []byte(conf))
	return o
}

// readRetrying reads the layers of an image, again where that is worth it.
func readRetrying(t *testing.T, o Options) error {
	img, err := Open(t.Context(), "os.example.com/os:v1", o)
	if err != nil {
		return err
	}
	t.Cleanup(func() { img.Close() })
	for i := range img.Layers {
		if err := img.Retry(t.Context(), func() error {
			r, err := img.OpenLayer(t.Context(), i)
			if err != nil {
				return err
			}
			defer r.Close()
			_, err = io.Copy(io.Discard, r)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// Whatever a mirror lacks, has damaged or keeps to itself comes from the next, or
// from the registry itself; where nobody has it, the error says who was asked.
func TestIncompleteMirrors(t *testing.T) {
	image := testImage(t, "gzip")
	var m imgspecv1.Manifest
	if err := json.Unmarshal(image.Blobs[image.Manifest], &m); err != nil {
		t.Fatal(err)
	}
	b := imagetest.Join(t, map[string]*imagetest.Built{runtime.GOARCH: image})
	ends := func(with string) func(string) bool {
		return func(path string) bool { return strings.HasSuffix(path, with) }
	}
	manifest, config, layer := ends("/manifests/"+image.Manifest.String()), ends("/blobs/"+m.Config.Digest.String()), ends("/blobs/"+image.Layers[0].String())
	blobs := func(path string) bool { return strings.Contains(path, "/blobs/") }
	none := func(string) bool { return false }
	lacks := status(404, "application/json", `{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}`)
	flip := func(at func(n int) int) failing {
		return func(w http.ResponseWriter, _ *http.Request, blob []byte) {
			blob = bytes.Clone(blob)
			blob[at(len(blob))] ^= 1
			w.Write(blob)
		}
	}
	hows := map[string]failing{
		"lacks it":                 lacks,
		"has a page instead":       status(404, "text/html", "<html>not found</html>"),
		"has it no more":           status(410, "text/plain", "gone"),
		"keeps it to itself":       status(403, "application/json", `{"errors":[{"code":"DENIED","message":"denied"}]}`),
		"wants credentials":        status(401, "application/json", `{"errors":[{"code":"UNAUTHORIZED","message":"who?"}]}`),
		"is in trouble":            status(503, "text/plain", "busy"),
		"asks to log in":           status(200, "text/html", "<html>log in</html>"),
		"has it empty":             status(200, "application/octet-stream", ""),
		"has its first byte wrong": flip(func(int) int { return 0 }),
		"has its last byte wrong":  flip(func(n int) int { return n - 1 }),
		"has half of it":           func(w http.ResponseWriter, _ *http.Request, blob []byte) { w.Write(blob[:len(blob)/2]) },
		"breaks off": func(w http.ResponseWriter, _ *http.Request, blob []byte) {
			hijack(w, "200 OK\r\nContent-Length: "+strconv.Itoa(len(blob)), blob[:len(blob)/2])
		},
		"hangs up": func(w http.ResponseWriter, _ *http.Request, _ []byte) { hijack(w, "", nil) },
	}
	for what, at := range map[string]func(string) bool{"the image of a list": manifest, "the configuration": config, "a layer": layer} {
		for how, fails := range hows {
			if err := readRetrying(t, behindMirrors(t, unreliable(t, b, none, nil), unreliable(t, b, at, fails))); err != nil {
				t.Errorf("the mirror %s, %s: %v", how, what, err)
			}
		}
	}
	flips := hows["has its last byte wrong"]
	for _, test := range []struct {
		name string
		self *imagetest.Registry
		of   []*imagetest.Registry
	}{
		{"all blobs", unreliable(t, b, none, nil), []*imagetest.Registry{unreliable(t, b, blobs, lacks)}},
		{"two mirrors", unreliable(t, b, none, nil), []*imagetest.Registry{unreliable(t, b, blobs, lacks), unreliable(t, b, layer, lacks)}},
		{"only the second is whole", unreliable(t, b, blobs, lacks), []*imagetest.Registry{unreliable(t, b, layer, lacks), unreliable(t, b, none, nil)}},
		{"four damaged ones", unreliable(t, b, none, nil), []*imagetest.Registry{
			unreliable(t, b, layer, flips), unreliable(t, b, layer, flips), unreliable(t, b, layer, flips), unreliable(t, b, layer, flips)}},
	} {
		if err := readRetrying(t, behindMirrors(t, test.self, test.of...)); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	first := unreliable(t, b, layer, lacks)
	err := readRetrying(t, behindMirrors(t, unreliable(t, b, layer, lacks), first, unreliable(t, b, layer, flips)))
	if err == nil || !strings.Contains(err.Error(), first.Host) {
		t.Errorf("nobody has it: the error doesn't name the mirror %s: %v", first.Host, err)
	}
}

// A mirror that lacks a layer does not make that be read whole.
func TestRangesOfTheNextMirror(t *testing.T) {
	b := chunkedImage(t, 100)
	lacks := status(404, "text/plain", "not here")
	mirror := unreliable(t, b, func(path string) bool { return strings.HasSuffix(path, "/blobs/"+b.Layers[0].String()) }, lacks)
	img, err := Open(t.Context(), "os.example.com/os:v1", behindMirrors(t, unreliable(t, b, func(string) bool { return false }, nil), mirror))
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if bytes, err := readFrames(t, img); err != nil || img.Fetched() > bytes+100*gapInRequest {
		t.Errorf("%d bytes were fetched for %d: %v", img.Fetched(), bytes, err)
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
