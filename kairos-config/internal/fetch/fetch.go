// Package fetch gets files over HTTP with bounds on everything that the other
// side could stretch: time, size and redirects.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/kairos-io/toolkit/lib/cmdline"
)

const (
	maxRedirects = 5
	// stall is how long the other side may say nothing.
	stall = 30 * time.Second
)

// Client fetches. The zero value is ready.
type Client struct {
	// Transport is http.DefaultTransport's kind when nil.
	Transport http.RoundTripper
}

// StatusError is an answer that is no success.
type StatusError struct {
	URL    string
	Status int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("get %s: %d %s", e.URL, e.Status, http.StatusText(e.Status))
}

// Get writes what an http or https address holds to w, at most limit bytes.
// Passwords in addresses never get into errors.
func (c Client) Get(ctx context.Context, address string, w io.Writer, limit int64) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("not the address of a file on an http or https server")
	}
	shown := u.Redacted()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(stall, func() { cancel(fmt.Errorf("nothing came for %v", stall)) })
	defer watch.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("not an address")
	}
	request.Header.Set("User-Agent", "kairos-config/"+cmdline.Version)
	client := http.Client{Transport: c.Transport, CheckRedirect: checkRedirect}
	if client.Transport == nil {
		client.Transport = transport
	}
	answer, err := client.Do(request)
	if err != nil {
		return explain(ctx, shown, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return &StatusError{shown, answer.StatusCode}
	}
	alive := &reader{answer.Body, func() { watch.Reset(stall) }}
	n, err := io.Copy(w, io.LimitReader(alive, limit+1))
	switch {
	case err != nil:
		return explain(ctx, shown, err)
	case n > limit:
		return fmt.Errorf("get %s: more than %d bytes", shown, limit)
	}
	return nil
}

// explain names the address without its password, and the true cause.
func explain(ctx context.Context, shown string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	var inner *url.Error
	if errors.As(err, &inner) { // it repeats the address
		err = inner.Err
	}
	return fmt.Errorf("get %s: %w", shown, err)
}

// transport follows the proxies of the environment, as curl does.
var transport = &http.Transport{
	Proxy:                 http.ProxyFromEnvironment,
	DialContext:           (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
	TLSHandshakeTimeout:   15 * time.Second,
	ResponseHeaderTimeout: stall,
	DisableKeepAlives:     true,
}

// checkRedirect follows a few redirects, and none from https to http.
func checkRedirect(next *http.Request, before []*http.Request) error {
	if len(before) > maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	if before[0].URL.Scheme == "https" && next.URL.Scheme != "https" {
		return errors.New("the server leads from https to another scheme")
	}
	return nil
}

// reader tells when something came.
type reader struct {
	io.Reader
	alive func()
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.alive()
	}
	return n, err
}
