// Package registry runs a real container registry (docker-registry of the tools root) on the host's
// loopback, behind a proxy that counts what is fetched.
package registry

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/kairos-io/toolkit/tests/workspace"
)

// Registry is a running registry, with one door to begin with.
type Registry struct {
	*Door
	process *exec.Cmd
	ended   <-chan error
	dir     string
}

// Door is an address of the registry, which counts what is fetched through it: each node has its own.
type Door struct {
	Log
	server *http.Server
	port   int
}

// Start starts an empty registry. Its storage is removed when it is stopped.
func Start(ctx context.Context) (*Registry, error) {
	dir, err := os.MkdirTemp("/tmp", "kairos-registry-")
	if err != nil {
		return nil, err
	}
	r := &Registry{dir: dir}
	if err := r.start(ctx); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("start the registry: %w", err)
	}
	return r, nil
}

const config = `version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %[1]s/storage}
  delete: {enabled: true}
http: {net: unix, addr: %[1]s/socket}
`

func (r *Registry) start(ctx context.Context) error {
	file := filepath.Join(r.dir, "config.yml")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, r.dir), 0o644); err != nil {
		return err
	}
	r.process = workspace.Tool(context.Background(), "docker-registry", "serve", file)
	messages := &startup{ready: make(chan struct{})}
	r.process.Stderr = messages
	var err error
	if r.ended, err = workspace.Start(r.process); err != nil {
		return err
	}
	select {
	case <-messages.ready:
	case err := <-r.ended:
		return fmt.Errorf("it ended: %w: %s", err, messages.said.String())
	case <-ctx.Done():
		r.process.Process.Kill()
		return context.Cause(ctx)
	}
	r.Door, err = r.Open()
	return err
}

// startup reads the registry's messages until it says that it listens.
type startup struct {
	said  bytes.Buffer
	ready chan struct{}
	done  bool
}

func (s *startup) Write(p []byte) (int, error) {
	if s.done {
		return len(p), nil
	}
	s.said.Write(p)
	if bytes.Contains(s.said.Bytes(), []byte("listening on")) {
		s.done = true
		close(s.ready)
	}
	return len(p), nil
}

// Open opens one more door to the world: to this host's loopback, that is.
func (r *Registry) Open() (*Door, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &Door{port: listener.Addr().(*net.TCPAddr).Port}
	socket := filepath.Join(r.dir, "socket")
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: "registry"})
		r.Out.Host = r.In.Host // the registry builds the addresses of uploads from it
	}}
	proxy.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	d.server = &http.Server{Handler: d.Watch(proxy)}
	go d.server.Serve(listener)
	return d, nil
}

// Close closes the door.
func (d *Door) Close() { d.server.Close() }

// Stop ends the registry and removes its storage.
func (r *Registry) Stop() {
	r.Close()
	r.process.Process.Kill()
	<-r.ended
	os.RemoveAll(r.dir)
}

// Host names the registry as a virtual machine with user networking sees it.
func (d *Door) Host() string { return fmt.Sprintf("10.0.2.2:%d", d.port) }

// LocalHost names it as this host sees it.
func (d *Door) LocalHost() string { return fmt.Sprintf("127.0.0.1:%d", d.port) }

// Push copies an image (a reference of containers/image, "oci:…") to repository:tag, as it is.
func (r *Registry) Push(ctx context.Context, image, name string, option ...string) error {
	args := append([]string{"copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", "--preserve-digests"}, option...)
	if slices.Contains(option, "--format") || slices.Contains(option, "--dest-compress-format") {
		args = slices.DeleteFunc(args, func(arg string) bool { return arg == "--preserve-digests" })
	}
	_, err := workspace.RunTool(ctx, "skopeo", append(args, image, "docker://"+r.LocalHost()+"/"+name)...)
	return err
}
