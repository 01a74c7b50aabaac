package registry

import (
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Log remembers the requests that a server has answered.
type Log struct {
	mu       sync.Mutex
	requests []Request
}

// Request is one request that a server has answered.
type Request struct {
	Method, Path string
	Status       int
	Bytes        int64 // of the answer's body, as they were sent
}

// Blob tells whether the request asked for content by digest: a layer or an image's config.
func (r Request) Blob() bool {
	return r.Method == http.MethodGet && strings.Contains(r.Path, "/blobs/")
}

// Watch returns a handler whose requests are remembered.
func (l *Log) Watch(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		counted := &countingWriter{ResponseWriter: w, status: http.StatusOK}
		defer func() { // also when the client has gone away, which panics
			l.mu.Lock()
			defer l.mu.Unlock()
			l.requests = append(l.requests, Request{request.Method, request.URL.Path, counted.status, counted.bytes})
		}()
		handler.ServeHTTP(counted, request)
	})
}

// Mark is the number of requests answered so far.
func (l *Log) Mark() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.requests)
}

// Since returns the requests answered after mark.
func (l *Log) Since(mark int) []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.requests[mark:])
}

// Fetched sums what was downloaded.
func Fetched(requests []Request) (bytes int64) {
	for _, request := range requests {
		if request.Method == http.MethodGet {
			bytes += request.Bytes
		}
	}
	return bytes
}

type countingWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *countingWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
