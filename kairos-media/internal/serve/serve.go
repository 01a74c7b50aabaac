// Package serve lets firmware fetch a live medium by HTTP: UEFI HTTP boot, which keeps
// the file in memory and starts it as a disk (UEFI specification, 24.7).
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/kairos-io/toolkit/lib/disk"
)

// Medium is a file that is served.
type Medium struct {
	Name string // its path is /NAME
	Size int64  // bytes

	file     *os.File
	modified time.Time
}

// ErrNoMedium says that a file is no live medium.
var ErrNoMedium = errors.New("not a live medium: no partition " + disk.LabelLive)

// Open opens a medium.
func Open(path string) (*Medium, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	m, err := newMedium(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

func newMedium(f *os.File) (*Medium, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	parts, err := disk.ReadGPT(f, 512)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		if p.Label == disk.LabelLive && p.End() <= info.Size() {
			return &Medium{Name: filepath.Base(f.Name()), Size: info.Size(), file: f, modified: info.ModTime()}, nil
		}
	}
	return nil, ErrNoMedium
}

// Close closes the file.
func (m *Medium) Close() error { return m.file.Close() }

// system is how much memory a live system needs beside its medium, in bytes.
const system = 512 << 20

// Memory returns how much memory a machine needs at least to boot the medium by HTTP,
// in bytes.
func (m *Medium) Memory() int64 { return m.Size + system }

// URL returns the medium's address on a server that listens at an address.
func (m *Medium) URL(at net.Addr) string {
	return (&url.URL{Scheme: "http", Host: at.String(), Path: "/" + m.Name}).String()
}

// mediaType makes firmware take the file as a disk, whatever it is called.
const mediaType = "application/vnd.efi-iso"

// ServeHTTP answers with the medium, in whole or in ranges, and with nothing else.
func (m *Medium) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != "/"+m.Name:
		http.NotFound(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	default:
		w.Header().Set("Content-Type", mediaType)
		http.ServeContent(w, r, m.Name, m.modified, io.NewSectionReader(m.file, 0, m.Size))
	}
}

// Limits of a client that sends or takes nothing.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = time.Minute
	maxHeader     = 16 << 10 // bytes
)

// Run serves a handler until the context ends. Each request is reported when it has
// been answered.
func Run(ctx context.Context, listener net.Listener, handler http.Handler, report func(r *http.Request, status int, bytes int64)) error {
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c := &counter{ResponseWriter: w, status: http.StatusOK}
			defer func() { report(r, c.status, c.bytes) }()
			handler.ServeHTTP(c, r)
		}),
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		err := server.Close() // a download may take hours
		<-ended
		return err
	}
}

// counter counts what is sent.
type counter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (c *counter) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.bytes += int64(n)
	return n, err
}

// ReadFrom lets the kernel copy the file (sendfile).
func (c *counter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.ResponseWriter, r)
	c.bytes += n
	return n, err
}
