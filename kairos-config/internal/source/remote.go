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

// Copies of fetched configs: of this boot, and the last good ones, for boots
// without a network. A copy's name is the SHA-256 digest of its URL; it is not
// one of a config, so that the directory is none of configs either.
const (
	bootCopies = report.ConfigCopies
	goodCopies = "/oem/" + report.KeptConfigCopies
)

// Remote is a config to fetch.
type Remote struct {
	schema.ConfigURL
	Key string // what asks for it: config_url or cos.setup

	link bool // a config that is fetched asks for it
}

// maxChain is how many configs may ask for each other.
const maxChain = 10

// name is what messages and origins call the config: its address without what
// may be secret, which is the login and the query.
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

// file is the name of the copies. Of an address with facts in it, it is that of
// the template: a copy serves the boots too that know a fact otherwise.
func (r Remote) file() string {
	sum := sha256.Sum256([]byte(r.URL))
	return hex.EncodeToString(sum[:])
}

// check refuses what can't be the config, so that no copy of it is kept.
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

// remotes returns the configs to fetch that the node's own ask for, in the
// order in which they count: config_url, then cos.setup.
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

// follow adds a config that is fetched, and those that it asks for in turn, which
// count after it.
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

// readCopy adds the copy of a fetched config: of this boot, or the last good
// one, and returns it. Where there is none yet, nothing is said: only a fetch can
// tell that.
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
	// Templates fills addresses that have facts in them.
	Templates *template.Renderer
	// Backoff is the time before the first repetition, which doubles with
	// each; one second when 0.
	Backoff time.Duration
}

// Bounds on a fetch.
const (
	fetchAttempts = 3
	fetchTimeout  = 20 * time.Second // of one attempt
)

// Fetch fetches what the node's configs ask for, and what that asks for in turn,
// and keeps a copy of it. With again it does so even when there is a copy of this
// boot. What can't be fetched is told, with the copy that is used instead.
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

// next returns the config that the copy of another asks for; what is wrong with it
// is said by those who collect it.
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

// failed tells what is used instead of what could not be fetched.
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

// keep writes the copies: of this boot, and the last good one where there is
// COS_OEM, which a live system has not.
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
