package datasource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/lib/bounded"
)

// Limits for a metadata service.
const (
	attempts      = 3
	dialTimeout   = 3 * time.Second
	headerTimeout = 5 * time.Second
	maxHeader     = 64 << 10
	maxBody       = source.MaxSize + source.MaxSize/2 // base64 of the largest config
)

var errRedirect = errors.New("refused to follow a redirect")

// client connects directly to one metadata service: it uses no proxy and follows no
// redirect.
type client struct {
	http *http.Client
	s    *session
	base string
}

func newClient(s *session) *client {
	transport := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		ResponseHeaderTimeout:  headerTimeout,
		TLSHandshakeTimeout:    headerTimeout,
		MaxResponseHeaderBytes: maxHeader,
	}
	refuse := func(req *http.Request, _ []*http.Request) error {
		return fmt.Errorf("%w to %s", errRedirect, req.URL.Redacted())
	}
	return &client{http: &http.Client{Transport: transport, CheckRedirect: refuse}, s: s}
}

// at sets the base address of paths, unless a test has set another.
func (c *client) at(base string) *client {
	c.base = base
	if other := c.s.Base[c.s.name]; other != "" {
		c.base = other
	}
	return c
}

// statusError is an answer other than 200.
type statusError struct {
	code int
	path string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s: status %d %s", e.path, e.code, http.StatusText(e.code))
}

func missing(err error) bool {
	var status *statusError
	return errors.As(err, &status) && status.code == http.StatusNotFound
}

// get fetches a path. It retries temporary failures.
func (c *client) get(ctx context.Context, path string, header ...string) ([]byte, error) {
	return c.do(ctx, http.MethodGet, path, header...)
}

func (c *client) do(ctx context.Context, method, path string, header ...string) (body []byte, err error) {
	for attempt := range attempts {
		if attempt > 0 {
			select {
			case <-ctx.Done():
				return nil, err
			case <-time.After(c.s.Backoff << (attempt - 1)):
			}
		}
		body, err = c.once(ctx, method, path, header)
		var status *statusError
		var network net.Error
		passing := errors.As(err, &network) && !errors.Is(err, errRedirect) ||
			errors.As(err, &status) && (status.code >= 500 || status.code == http.StatusTooManyRequests)
		if !passing || ctx.Err() != nil {
			return body, err
		}
	}
	return nil, err
}

func (c *client) once(ctx context.Context, method, path string, header []string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &statusError{resp.StatusCode, path}
	}
	if want := c.s.flavour(); want != "" && resp.Header.Get("Metadata-Flavor") != want {
		return nil, errors.New("the answer does not come from " + want)
	}
	body, err := bounded.Read(resp.Body, maxBody)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return body, nil
}

// flavour is the header by which answers of Google's service are recognized.
func (s *session) flavour() string {
	if s.name == "gcp" {
		return "Google"
	}
	return ""
}

// optional fetches a path that may be missing.
func (c *client) optional(ctx context.Context, path string, header ...string) ([]byte, error) {
	body, err := c.get(ctx, path, header...)
	if missing(err) {
		return nil, nil
	}
	return body, err
}

// text fetches a path that the machine can do without.
func (c *client) text(ctx context.Context, path string, header ...string) string {
	body, err := c.get(ctx, path, header...)
	if err != nil {
		if !missing(err) {
			c.s.Log.Warn(fmt.Sprintf("datasource %s: %v", c.s.name, err))
		}
		return ""
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(body), ""))
}

// object fetches a JSON object.
func (c *client) object(ctx context.Context, path string, into any) error {
	body, err := c.get(ctx, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// seed fetches NoCloud's files beneath an address.
func (c *client) seed(ctx context.Context, address string) (raw, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return raw{}, fmt.Errorf("seed %q is not a URL with http:// or https://", address)
	}
	c.at(strings.TrimSuffix(address, "/"))
	data, err := c.get(ctx, "/user-data")
	if err != nil {
		return raw{}, err
	}
	got := raw{userData: data}
	if meta, err := c.optional(ctx, "/meta-data"); err == nil {
		got.hostname, got.keys = metaData(meta)
	}
	return got, nil
}
