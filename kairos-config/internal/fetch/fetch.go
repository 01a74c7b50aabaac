// Package fetch gets files over HTTP, with limits on time, size and redirects.
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

	"github.com/kairos-io/toolkit/lib/buildinfo"
)

const (
	maxRedirects = 5
	// stall is how long a server may send nothing.
	stall = 30 * time.Second
)

// Client fetches. The zero value is ready.
type Client struct {
	// Transport is http.DefaultTransport's kind when nil.
	Transport http.RoundTripper
}

// Error is a failed fetch.
type Error struct {
	URL    string // without possible secrets: credentials and the query
	Status int    // of the answer, 0 when there was none
	Err    error
}

func (e *Error) Error() string { return "get " + e.URL + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Passing reports whether the failure may be temporary.
func (e *Error) Passing() bool {
	if e.Status != 0 && e.Status != http.StatusOK {
		return e.Status >= 500 || e.Status == http.StatusTooManyRequests
	}
	return !errors.Is(e.Err, errRefused) && !errors.Is(e.Err, errAddress)
}

var (
	errAddress = errors.New("not the address of a file on an http or https server")
	errRefused = errors.New("refused")
)

// Get writes the content of an http or https URL to w, at most limit bytes. Its errors
// are *Error.
func (c Client) Get(ctx context.Context, address string, w io.Writer, limit int64) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return &Error{"the file", 0, errAddress} // it can't be told what of it is secret
	}
	failed := &Error{URL: u.Scheme + "://" + u.Host + u.EscapedPath()}
	if failed.Status, failed.Err = c.get(ctx, address, w, limit); failed.Err != nil {
		return failed
	}
	return nil
}

func (c Client) get(ctx context.Context, address string, w io.Writer, limit int64) (status int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(stall, func() { cancel(fmt.Errorf("no data for %v", stall)) })
	defer watch.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, errAddress
	}
	request.Header.Set("User-Agent", "kairos-config/"+buildinfo.Version)
	client := http.Client{Transport: c.Transport, CheckRedirect: checkRedirect}
	if client.Transport == nil {
		client.Transport = transport
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, explain(ctx, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return answer.StatusCode, fmt.Errorf("status %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	}
	alive := &reader{answer.Body, func() { watch.Reset(stall) }}
	n, err := io.Copy(w, io.LimitReader(alive, limit+1))
	switch {
	case err != nil:
		return answer.StatusCode, explain(ctx, err)
	case n > limit:
		return answer.StatusCode, fmt.Errorf("%w more than %d bytes", errRefused, limit)
	}
	return answer.StatusCode, nil
}

// explain returns the cause of an error, without the URL.
func explain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var inner *url.Error
	if errors.As(err, &inner) {
		return inner.Err
	}
	return err
}

// transport uses the proxies of the environment, as curl does.
var transport = &http.Transport{
	Proxy:                  http.ProxyFromEnvironment,
	DialContext:            (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
	TLSHandshakeTimeout:    15 * time.Second,
	ResponseHeaderTimeout:  stall,
	MaxResponseHeaderBytes: 64 << 10,
	DisableKeepAlives:      true,
}

// checkRedirect follows a few redirects, but none from https to http.
func checkRedirect(next *http.Request, before []*http.Request) error {
	if len(before) > maxRedirects {
		return fmt.Errorf("%w to follow more than %d redirects", errRefused, maxRedirects)
	}
	if before[0].URL.Scheme == "https" && next.URL.Scheme != "https" {
		return fmt.Errorf("%w to follow a redirect from https to %s://%s", errRefused, next.URL.Scheme, next.URL.Host)
	}
	return nil
}

// reader resets the timer of stall with each read.
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
