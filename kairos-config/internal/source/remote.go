package source

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/fetch"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/template"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/report"
)

// Directories of cached copies of fetched configs: those of this boot, and the last
// good ones, for boots without a network. The name of a copy is the SHA-256 digest of
// its URL, which is no valid name of a config.
const (
	bootCopies = report.ConfigCopies
	goodCopies = "/oem/" + report.KeptConfigCopies
)

// Remote is a config to fetch.
type Remote struct {
	schema.ConfigURL
	Key string // the key that names it: config_url or cos.setup

	link bool // a fetched config names it
}

// maxChain is how many configs may name each other in a chain.
const maxChain = 10

// name returns the config's name for messages and origins: its URL without possible
// secrets, credentials and the query.
func (r Remote) name() string {
	address, _, _ := strings.Cut(r.URL, "?")
	u, err := url.Parse(address)
	if err != nil {
		return r.Key
	}
	path := u.EscapedPath()
	if template.Has(address) {
		path = u.Path // as it is written
	}
	return r.Key + " " + u.Scheme + "://" + u.Host + path
}

// file returns the name of the cached copies. For a URL with facts it is that of the
// template, so that the copy also serves boots in which a fact has another value.
func (r Remote) file() string {
	sum := sha256.Sum256([]byte(r.URL))
	return hex.EncodeToString(sum[:])
}

// check returns an error for content that isn't the config, so that it is not cached.
func (r Remote) check(data []byte) error {
	if want := strings.ToLower(strings.TrimPrefix(r.SHA256, "sha256:")); want != "" {
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != want {
			return fmt.Errorf("its SHA-256 digest is %x, not %s", sum, want)
		}
	}
	switch {
	case !utf8.Valid(data):
		return errors.New("it is not UTF-8 text")
	case !IsConfig(data):
		return errors.New("it is not a config: the first lines have no header")
	}
	return nil
}

// remotes returns the configs to fetch that the node's own configs name, in order of
// precedence: config_url, then cos.setup.
func (c *Collection) remotes(line *tree.Node, setups []*tree.Node) []Remote {
	merged, _ := c.Merged()
	if line != nil {
		var ignored diag.List
		merged = tree.Merge(merged, line, &ignored)
	}
	var list []Remote
	list = c.addRemotes(list, "config_url", []*tree.Node{merged.Field("config_url")})
	return c.addRemotes(list, "cos.setup", setups)
}

func (c *Collection) addRemotes(list []Remote, key string, nodes []*tree.Node) []Remote {
	for _, n := range nodes {
		if n == nil || n.Kind == tree.Null || n.Scalar() && n.Text == "" {
			continue
		}
		u, problems := schema.DecodeConfigURL(n, key)
		c.Problems = append(c.Problems, problems...)
		if !problems.Failed() {
			list = append(list, Remote{ConfigURL: u, Key: key})
		}
	}
	return list
}

// follow adds a fetched config, and those that it names in turn, which take precedence
// over it.
func (c *Collection) follow(root *rootfs.Root, r Remote) {
	for asked := false; ; asked = true {
		again := func(other Remote) bool { return other.URL == r.URL }
		switch {
		case slices.ContainsFunc(c.Remotes, again):
			if asked {
				c.Problems.Warnf(r.Pos, "%s: not fetched again", r.name())
			}
			return
		case len(c.Remotes) == maxChain:
			c.Problems.Errorf(r.Pos, "%s: not fetched: a config may lead to %d others at most", r.name(), maxChain)
			return
		}
		c.Remotes = append(c.Remotes, r)
		next := c.readCopy(root, r).Field("config_url")
		found := c.addRemotes(nil, "config_url", []*tree.Node{next})
		if len(found) == 0 {
			return
		}
		r = found[0]
		r.link = true
	}
}

// readCopy adds and returns the cached copy of a fetched config: of this boot, or the
// last good one. A missing copy is no problem: only a fetch can report that.
func (c *Collection) readCopy(root *rootfs.Root, r Remote) *tree.Node {
	for _, dir := range []string{bootCopies, goodCopies} {
		data, err := root.ReadFile(path.Join(dir, r.file()), MaxSize)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = r.check(data)
		}
		if err != nil {
			c.Problems.Warnf(r.Pos, "%s: the copy in %s is not used: %v", r.name(), dir, err)
			continue
		}
		before := len(c.Documents)
		c.Add(r.name(), data)
		if len(c.Documents) > before && c.Documents[before].Header {
			return c.Documents[before].Root
		}
		return nil
	}
	c.Missing = append(c.Missing, r)
	return nil
}

// Fetcher fetches configs.
type Fetcher struct {
	Root   *rootfs.Root
	Client fetch.Client
	// Templates expands facts in URLs.
	Templates *template.Renderer
	// Backoff is the time before the first retry, which doubles with each; one second
	// when 0.
	Backoff time.Duration
}

// Limits of a fetch.
const (
	fetchAttempts = 3
	fetchTimeout  = 20 * time.Second // of one attempt
)

// Fetch fetches the configs that the node's configs name, and those that they name in
// turn, and caches them. With again it ignores the cached copies of this boot. It
// reports what can't be fetched, and the copy that is used instead.
func (f *Fetcher) Fetch(ctx context.Context, remotes []Remote, again bool) diag.List {
	var problems diag.List
	seen := map[string]bool{}
	for _, r := range remotes {
		for next := r; !next.link && next.URL != "" && !seen[next.URL] && len(seen) < maxChain; {
			seen[next.URL] = true
			f.fetch(ctx, next, again, &problems)
			next = f.next(next)
		}
	}
	return problems
}

// next returns the config that a fetched config names; collecting reports problems with
// it.
func (f *Fetcher) next(r Remote) Remote {
	var one Collection
	one.follow(f.Root, r)
	if len(one.Remotes) < 2 {
		return Remote{}
	}
	next := one.Remotes[1]
	next.link = false
	return next
}

func (f *Fetcher) fetch(ctx context.Context, r Remote, again bool, problems *diag.List) {
	if !again && f.Root.Exists(path.Join(bootCopies, r.file())) {
		return
	}
	if strings.HasPrefix(r.URL, "http://") && r.SHA256 == "" {
		problems.Add(diag.Warnf(r.Pos, "%s: fetched without encryption, an attacker on the network can change it", r.name()).
			WithHint("use https, or end the URL in #sha256=DIGEST"))
	}
	address, err := r.URL, error(nil)
	if template.Has(address) {
		address, err = f.Templates.Address(address)
	}
	var data []byte
	if err == nil {
		data, err = f.get(ctx, address)
	}
	if err == nil {
		err = r.check(data)
	}
	if err != nil {
		f.failed(r, err, problems)
		return
	}
	if err := f.keep(r, data); err != nil {
		problems.Warnf(r.Pos, "%s: no copy could be saved: %v", r.name(), err)
	}
}

// failed reports which copy is used in the place of a config that could not be fetched.
func (f *Fetcher) failed(r Remote, err error, problems *diag.List) {
	for _, dir := range []string{bootCopies, goodCopies} {
		if st, statErr := f.Root.Stat(path.Join(dir, r.file())); statErr == nil {
			when := time.Unix(st.Mtim.Unix()).UTC().Format("2006-01-02 15:04 MST")
			problems.Warnf(r.Pos, "%s: %v: the last good copy is used, of %s", r.name(), err, when)
			return
		}
	}
	problems.Errorf(r.Pos, "%s: %v, and there is no copy of it", r.name(), err)
}

// keep stores the copies: of this boot, and the last good one if COS_OEM exists, which
// a live system does not have.
func (f *Fetcher) keep(r Remote, data []byte) error {
	directory := rootfs.Attr{Mode: 0o700, UID: rootfs.Keep, GID: rootfs.Keep}
	file := rootfs.Attr{Mode: 0o600, UID: rootfs.Keep, GID: rootfs.Keep}
	dirs := []string{bootCopies}
	if f.Root.Exists(path.Dir(goodCopies)) {
		dirs = append(dirs, goodCopies)
	}
	var errs []error
	for _, dir := range dirs {
		_, err := f.Root.Mkdir(dir, directory)
		if err == nil {
			_, err = f.Root.WriteFile(path.Join(dir, r.file()), data, file)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (f *Fetcher) get(ctx context.Context, address string) ([]byte, error) {
	wait := cmp.Or(f.Backoff, time.Second)
	for attempt := 1; ; attempt++ {
		data, err := f.once(ctx, address)
		var failed *fetch.Error
		if err == nil || !errors.As(err, &failed) {
			return data, err
		}
		err = failed.Err // what it is called is said already
		if attempt == fetchAttempts || !failed.Passing() {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(wait << (attempt - 1)):
		}
	}
}

// once makes one attempt.
func (f *Fetcher) once(ctx context.Context, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	var data bytes.Buffer
	err := f.Client.Get(ctx, address, &data, MaxSize)
	return data.Bytes(), err
}
