package imagetest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// Registry is a registry on the loopback that serves images without TLS.
type Registry struct {
	// Host is HOST:PORT.
	Host     string
	mu       sync.Mutex
	fault    Fault
	images   map[string]*Built // by repository:tag
	requests []string
}

// Fault sees every request first and returns true if it has answered it.
type Fault func(w http.ResponseWriter, r *http.Request, blob []byte) bool

// SetFault sets the fault of all requests from now on; nil is none.
func (r *Registry) SetFault(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = f
}

// NewRegistry starts a registry that ends with the test.
func NewRegistry(t testing.TB) *Registry {
	t.Helper()
	r := &Registry{images: make(map[string]*Built)}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.Host = strings.TrimPrefix(server.URL, "http://")
	return r
}

// Push offers an image.
func (r *Registry) Push(repository, tag string, b *Built) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.images[repository+":"+tag] = b
}

// Blobs returns how many requests for blobs there were.
func (r *Registry) Blobs() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, path := range r.requests {
		if strings.Contains(path, "/blobs/") {
			n++
		}
	}
	return n
}

// Conf writes a registries.conf that knows this registry and returns its path.
func (r *Registry) Conf(t testing.TB) string {
	t.Helper()
	path := t.TempDir() + "/registries.conf"
	Write(t, path, []byte("[[registry]]\nlocation = \""+r.Host+"\"\ninsecure = true\n"))
	return path
}

// ServeHTTP implements as much of the distribution API as a pull needs.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.requests = append(r.requests, req.URL.Path)
	r.mu.Unlock()
	path, _ := strings.CutPrefix(req.URL.Path, "/v2/")
	if repository, reference, ok := strings.Cut(path, "/manifests/"); ok {
		r.manifest(w, req, repository, reference)
		return
	}
	if repository, d, ok := strings.Cut(path, "/blobs/"); ok {
		r.blob(w, req, repository, digest.Digest(d))
		return
	}
	if repository, ok := strings.CutSuffix(path, "/tags/list"); ok {
		r.answer(w, req, nil, func() { r.tags(w, req, repository) })
		return
	}
	r.answer(w, req, nil, func() {})
}

// tagsPage is how many tags are told at once.
const tagsPage = 3

// tags lists the tags of a repository, by pages.
func (r *Registry) tags(w http.ResponseWriter, req *http.Request, repository string) {
	r.mu.Lock()
	var tags []string
	for name := range r.images {
		if tag, ok := strings.CutPrefix(name, repository+":"); ok {
			tags = append(tags, tag)
		}
	}
	r.mu.Unlock()
	if len(tags) == 0 {
		unknown(w, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	slices.Sort(tags)
	last := req.URL.Query().Get("last")
	tags = slices.DeleteFunc(tags, func(tag string) bool { return tag <= last })
	if len(tags) > tagsPage {
		tags = tags[:tagsPage]
		w.Header().Set("Link", `</v2/`+repository+`/tags/list?last=`+tags[tagsPage-1]+`>; rel="next"`)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"name": repository, "tags": tags})
}

func (r *Registry) answer(w http.ResponseWriter, req *http.Request, blob []byte, serve func()) {
	r.mu.Lock()
	fault := r.fault
	r.mu.Unlock()
	if fault != nil && fault(w, req, blob) {
		return
	}
	serve()
}

// large returns the name of the file of a large blob, or "".
func (r *Registry) large(repository string, d digest.Digest) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, b := range r.images {
		if strings.HasPrefix(name, repository+":") && b.Large[d] != "" {
			return b.Large[d]
		}
	}
	return ""
}

// find returns a blob of any image of the repository.
func (r *Registry) find(repository string, d digest.Digest) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, b := range r.images {
		if strings.HasPrefix(name, repository+":") && b.Blobs[d] != nil {
			return b.Blobs[d]
		}
	}
	return nil
}

func (r *Registry) manifest(w http.ResponseWriter, req *http.Request, repository, reference string) {
	d := digest.Digest(reference)
	if d.Validate() != nil {
		r.mu.Lock()
		b := r.images[repository+":"+reference]
		r.mu.Unlock()
		if b == nil {
			r.answer(w, req, nil, func() { unknown(w, "MANIFEST_UNKNOWN", "manifest unknown") })
			return
		}
		d = b.Manifest
	}
	data := r.find(repository, d)
	r.answer(w, req, data, func() {
		if data == nil {
			unknown(w, "MANIFEST_UNKNOWN", "manifest unknown")
			return
		}
		b := Built{Blobs: map[digest.Digest][]byte{d: data}, Manifest: d}
		w.Header().Set("Content-Type", b.mediaType())
		w.Header().Set("Docker-Content-Digest", d.String())
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(data))
	})
}

func (r *Registry) blob(w http.ResponseWriter, req *http.Request, repository string, d digest.Digest) {
	if name := r.large(repository, d); name != "" {
		r.answer(w, req, nil, func() { http.ServeFile(w, req, name) })
		return
	}
	data := r.find(repository, d)
	r.answer(w, req, data, func() {
		if data == nil {
			unknown(w, "BLOB_UNKNOWN", "blob unknown to registry")
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(data))
	})
}

func unknown(w http.ResponseWriter, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	io.WriteString(w, `{"errors":[{"code":"`+code+`","message":"`+message+`"}]}`)
}

// Cut passes n bytes of a body on and then drops the connection.
func Cut(w http.ResponseWriter, n int) http.ResponseWriter { return &cut{ResponseWriter: w, left: n} }

type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	if len(p) <= c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	c.ResponseWriter.Write(p[:c.left])
	http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// Stall passes n bytes of a body on and then sends nothing, until the client
// hangs up.
func Stall(w http.ResponseWriter, r *http.Request, n int) http.ResponseWriter {
	return &stall{cut{ResponseWriter: w, left: n}, r}
}

type stall struct {
	cut
	r *http.Request
}

func (s *stall) Write(p []byte) (int, error) {
	if len(p) > s.left {
		s.ResponseWriter.Write(p[:s.left])
		http.NewResponseController(s.ResponseWriter).Flush()
		<-s.r.Context().Done()
		panic(http.ErrAbortHandler)
	}
	s.left -= len(p)
	return s.ResponseWriter.Write(p)
}
