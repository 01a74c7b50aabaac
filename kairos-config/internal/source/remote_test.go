package source

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/facts"
	"github.com/kairos-io/toolkit/kairos-config/internal/fetch"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/template"
	"github.com/kairos-io/toolkit/kairos-config/internal/testroot"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

const fetched = "#cloud-config\nhostname: fetched\nlocal: fetched\n"

// site is a node and a server that it fetches its config from, over https.
type site struct {
	*httptest.Server
	root    *rootfs.Root
	dir     string
	handler http.HandlerFunc
	calls   atomic.Int32
}

func newSite(t *testing.T, configs ...string) *site {
	t.Helper()
	s := &site{dir: testroot.New(t), handler: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, fetched) }}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.calls.Add(1)
		s.handler(w, r)
	}))
	t.Cleanup(s.Close)
	for i, text := range configs {
		text = "#cloud-config\n" + strings.ReplaceAll(text, "URL", s.URL) + "\n"
		if err := os.WriteFile(filepath.Join(s.dir, "oem", fmt.Sprintf("%d.yaml", i)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := rootfs.Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	s.root = root
	return s
}

// fetch does what the stage network does and returns what is told.
func (s *site) fetch(t *testing.T, again bool) string {
	t.Helper()
	f := &Fetcher{Root: s.root, Templates: template.New(facts.Sample), Client: fetch.Client{Transport: s.Client().Transport}, Backoff: time.Millisecond}
	var texts []string
	for _, p := range f.Fetch(t.Context(), Collect(s.root).Remotes, again) {
		texts = append(texts, strings.ReplaceAll(p.Error(), s.URL, "URL"))
	}
	return strings.Join(texts, "\n")
}

func (s *site) value(t *testing.T, key string) *tree.Node {
	t.Helper()
	n := value(t, Collect(s.root), key)
	if n == nil {
		return &tree.Node{}
	}
	return n
}

// TestConfigURL is the life of a node that fetches its config.
func TestConfigURL(t *testing.T) {
	s := newSite(t, "config_url: URL/node.yaml?token=hunter2\nhostname: own\nlocal: own")
	if err := os.WriteFile(filepath.Join(s.dir, "proc/cmdline"), []byte("kairos.config=local=line"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := s.value(t, "hostname"); got.Text != "own" {
		t.Errorf("before the first fetch: %+v", got)
	}
	if told := s.fetch(t, false); told != "" {
		t.Error(told)
	}
	got := s.value(t, "hostname")
	if got.Text != "fetched" || got.Pos.FileLine() != "config_url "+s.URL+"/node.yaml:2" {
		t.Errorf("after it: %+v", got)
	}
	if got := s.value(t, "local"); got.Text != "line" {
		t.Errorf("the kernel command line wins: %+v", got)
	}
	s.fetch(t, false)
	if n := s.calls.Load(); n != 1 {
		t.Errorf("%d requests in one boot", n)
	}
	// The next boot has no network.
	if err := os.RemoveAll(filepath.Join(s.dir, "run/kairos")); err != nil {
		t.Fatal(err)
	}
	s.handler = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusBadGateway) }
	told := s.fetch(t, true)
	if !strings.HasPrefix(told, "/oem/0.yaml:2:13: warning: config_url URL/node.yaml: status 502 Bad Gateway: the last good copy is used, of 20") || strings.Contains(told, "hunter2") {
		t.Errorf("got %s", told)
	}
	if n := s.calls.Load(); n != 4 {
		t.Errorf("%d requests, want 3 more", n)
	}
	if got := s.value(t, "hostname"); got.Text != "fetched" {
		t.Errorf("without network: %+v", got)
	}
	st, err := os.Stat(filepath.Join(s.dir, "oem/.config-url"))
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("copies may hold secrets: %v, %v", st, err)
	}
}

func TestConfigURLFaults(t *testing.T) {
	pin := func(text string) string { return fmt.Sprintf("#sha256=%x", sha256.Sum256([]byte(text))) }
	write := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
	}
	for name, c := range map[string]struct {
		config, told, hostname string
		handler                http.HandlerFunc
	}{
		"pinned":     {"config_url: URL/x" + pin(fetched), "", "fetched", nil},
		"pinned map": {"config_url: {url: URL/x, sha256: 'sha256:" + pin(fetched)[8:] + "'}", "", "fetched", nil},
		"another":    {"config_url: URL/x" + pin("other"), "error: config_url URL/x: its SHA-256 digest is", "", nil},
		"no config":  {"config_url: URL/x", "it is not a config: the first lines have no header, and there is no copy of it", "", write("<html>")},
		"no text":    {"config_url: URL/x", "it is not UTF-8 text", "", write("#cloud-config\n\xff")},
		"endless": {"config_url: URL/x", "refused more than 1048576 bytes", "", func(w http.ResponseWriter, _ *http.Request) {
			for _, err := w.Write(make([]byte, 1<<16)); err == nil; _, err = w.Write(make([]byte, 1<<16)) {
			}
		}},
		"not found": {"config_url: URL/x", "status 404 Not Found, and there is no copy of it", "", http.NotFound},
		"redirect": {"config_url: URL/x", "", "fetched", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/x" {
				http.Redirect(w, r, "/y", http.StatusFound)
				return
			}
			fmt.Fprint(w, fetched)
		}},
		"redirect loop": {"config_url: URL/x", "refused to follow more than 5 redirects", "", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }},
		"to http": {"config_url: URL/x", "refused to follow a redirect from https to http://192.0.2.1", "", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		}},
		"nested": {"config_url: URL/x", "error: config_url http://127.0.0.1:1/: dial tcp", "nested", write("#cloud-config\nhostname: nested\nconfig_url: 'http://127.0.0.1:1/#sha256=" + pin("x")[8:] + "'\n")},
		"templated": {"config_url: 'URL/{{ .Values.node.hostname }}?id={{ \"a b\" }}'", "", "node/a b", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "#cloud-config\nhostname: %s/%s\n", path.Base(r.URL.Path), r.URL.Query().Get("id"))
		}},
		"no such fact": {"config_url: 'URL/x?id={{ .Values.product.nope }}'", "template in the address: this machine does not have one of its facts, and there is no copy of it", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, c.config)
			if c.handler != nil {
				s.handler = c.handler
			}
			told := s.fetch(t, true)
			if (c.told == "") != (told == "") || !strings.Contains(told, c.told) {
				t.Errorf("got %q, want %q", told, c.told)
			}
			if got := s.value(t, "hostname").Text; got != c.hostname {
				t.Errorf("host name %q", got)
			}
		})
	}
}

// TestChain: a fetched config may ask for another, which counts after it.
func TestChain(t *testing.T) {
	s := newSite(t, "config_url: URL/1\nhostname: own")
	asked := map[string]int{}
	s.handler = func(w http.ResponseWriter, r *http.Request) {
		asked[r.URL.Path]++
		n, _ := strconv.Atoi(r.URL.Path[1:])
		next := ""
		if n < 3 {
			next = fmt.Sprintf("config_url: %s/%d\n", s.URL, n+1)
		}
		fmt.Fprintf(w, "#cloud-config\nhostname: h%d\nv%d: true\n%s", n, n, next)
	}
	if told := s.fetch(t, true); told != "" {
		t.Error(told)
	}
	if got := s.value(t, "hostname").Text; got != "h3" || s.value(t, "v1").Text != "true" || s.value(t, "v2").Text != "true" {
		t.Errorf("the last of the chain counts last: %q", got)
	}
	s.fetch(t, true)
	if asked["/1"] != 2 || asked["/2"] != 2 || asked["/3"] != 2 {
		t.Errorf("each is asked for once each time: %v", asked)
	}
	// The chain becomes another: what is not asked for any more is neither fetched nor counts.
	s.handler = func(w http.ResponseWriter, r *http.Request) {
		asked[r.URL.Path]++
		if r.URL.Path == "/1" {
			fmt.Fprintf(w, "#cloud-config\nhostname: h1\nconfig_url: %s/9\n", s.URL)
			return
		}
		http.NotFound(w, r)
	}
	told := s.fetch(t, true)
	if !strings.Contains(told, "config_url URL/9: status 404") || asked["/2"] != 2 || asked["/9"] != 1 {
		t.Error(told, asked)
	}
	if got := s.value(t, "hostname").Text; got != "h1" {
		t.Error(got)
	}
	// A circle and an endless chain end.
	for path, c := range map[string]struct{ next, want string }{
		"circle":  {"/1", "config_url " + s.URL + "/1: not fetched again"},
		"endless": {"", "a config may lead to 10 others at most"},
	} {
		s.handler = func(w http.ResponseWriter, r *http.Request) {
			next := c.next
			if next == "" {
				next = r.URL.Path + "x"
			}
			fmt.Fprintf(w, "#cloud-config\nconfig_url: %s%s\n", s.URL, next)
		}
		before := s.calls.Load()
		s.fetch(t, true)
		if n := s.calls.Load() - before; n > maxChain {
			t.Errorf("%s: %d requests", path, n)
		}
		if got := fmt.Sprint(Collect(s.root).Problems); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s", path, got)
		}
	}
}

// TestConfigURLWithoutEncryption is told, unless the digest is known.
func TestConfigURLWithoutEncryption(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, fetched) }))
	defer plain.Close()
	s := newSite(t, "config_url: "+plain.URL)
	if told := s.fetch(t, true); !strings.Contains(told, "fetched without encryption") {
		t.Error(told)
	}
	s = newSite(t, "config_url: "+plain.URL+fmt.Sprintf("#sha256=%x", sha256.Sum256([]byte(fetched))))
	if told := s.fetch(t, true); told != "" {
		t.Error(told)
	}
}

// TestDamagedCopy: what is kept is checked again before it is used.
func TestDamagedCopy(t *testing.T) {
	s := newSite(t, fmt.Sprintf("config_url: URL/x#sha256=%x", sha256.Sum256([]byte(fetched))))
	s.fetch(t, true)
	copies, err := filepath.Glob(filepath.Join(s.dir, "*/*/config-url/*"))
	if err != nil || len(copies) != 1 {
		t.Fatal(copies, err)
	}
	if err := os.WriteFile(copies[0], []byte("#cloud-config\nhostname: forged\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Collect(s.root)
	if got := value(t, c, "hostname"); got == nil || got.Text != "fetched" {
		t.Errorf("the copy on COS_OEM must be used: %v", got)
	}
	if len(c.Problems) != 1 || !strings.Contains(c.Problems[0].Message, "the copy in /run/kairos/config-url is not used: its SHA-256 digest is") {
		t.Errorf("got %v", c.Problems)
	}
}

func TestCosSetup(t *testing.T) {
	s := newSite(t)
	setup := filepath.Join(s.dir, "etc/setup.yaml")
	if err := os.WriteFile(setup, []byte("#cloud-config\nhostname: setup\nlocal: setup\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "proc/cmdline"), []byte("cos.setup=/etc/setup.yaml"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := s.value(t, "hostname").Text; got != "setup" {
		t.Errorf("got %q", got)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "proc/cmdline"), []byte("cos.setup=/etc/setup.yaml cos.setup="+s.URL+"/s"), 0o644); err != nil {
		t.Fatal(err)
	}
	if told := s.fetch(t, true); told != "" {
		t.Error(told)
	}
	if got := s.value(t, "hostname"); got.Text != "fetched" || !strings.HasPrefix(got.Pos.Source, "cos.setup https://") {
		t.Errorf("got %+v", got)
	}
}
