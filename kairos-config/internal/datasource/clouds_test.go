package datasource

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
)

const config = "#cloud-config\nhostname: from-user-data\n"

// service is a metadata service: what it answers by method and path. A value
// may start with lines "< Name: value" that the request must have, and
// "> Name: value" that the answer has.
type service map[string]string

func (s service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.URL.RequestURI()
	if r.Method != http.MethodGet {
		key = r.Method + " " + key
	}
	body, ok := s[key]
	if !ok {
		http.NotFound(w, r)
		return
	}
	for {
		line, rest, more := strings.Cut(body, "\n")
		name, value, _ := strings.Cut(strings.TrimLeft(line, "<> "), ": ")
		switch {
		case strings.HasPrefix(line, "< ") && more:
			if got := r.Header.Get(name); !strings.Contains(got, value) {
				http.Error(w, fmt.Sprintf("%s is %q", name, got), http.StatusUnauthorized)
				return
			}
		case strings.HasPrefix(line, "> ") && more:
			w.Header().Set(name, value)
		default:
			fmt.Fprint(w, body)
			return
		}
		body = rest
	}
}

func machine(t testing.TB, files map[string]string) *rootfs.Root {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := rootfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// clouds are the services as their documentation has them.
var clouds = map[string]service{
	"aws": {
		"PUT /latest/api/token":                       "< X-aws-ec2-metadata-token-ttl-seconds: 300\nthe-token",
		"/latest/user-data":                           "< X-Aws-Ec2-Metadata-Token: the-token\n" + config,
		"/latest/meta-data/local-hostname":            "< X-Aws-Ec2-Metadata-Token: the-token\nhost-1.internal",
		"/latest/meta-data/public-keys/":              "< X-Aws-Ec2-Metadata-Token: the-token\n0=one\n1=two",
		"/latest/meta-data/public-keys/0/openssh-key": "< X-Aws-Ec2-Metadata-Token: the-token\nssh-ed25519 AAAA one\n",
		"/latest/meta-data/public-keys/1/openssh-key": "< X-Aws-Ec2-Metadata-Token: the-token\nssh-ed25519 BBBB two\n",
	},
	"azure": {
		"/metadata/instance/compute/userData?api-version=2021-02-01&format=text":             "< Metadata: true\n" + base64.StdEncoding.EncodeToString([]byte(config)),
		"/metadata/instance/compute/name?api-version=2021-02-01&format=text":                 "< Metadata: true\nhost-1.internal",
		"/metadata/instance/compute/publicKeys/0/keyData?api-version=2021-02-01&format=text": "< Metadata: true\nssh-ed25519 AAAA one\r\nssh-ed25519 BBBB two",
	},
	"gcp": {
		"/computeMetadata/v1/instance/attributes/user-data": "< Metadata-Flavor: Google\n> Metadata-Flavor: Google\n" + config,
		"/computeMetadata/v1/instance/hostname":             "< Metadata-Flavor: Google\n> Metadata-Flavor: Google\nhost-1.internal",
		"/computeMetadata/v1/instance/attributes/ssh-keys":  "< Metadata-Flavor: Google\n> Metadata-Flavor: Google\nalice:ssh-ed25519 AAAA one",
		"/computeMetadata/v1/project/attributes/ssh-keys":   "< Metadata-Flavor: Google\n> Metadata-Flavor: Google\nbob:ssh-ed25519 BBBB two\n",
	},
	"openstack": {
		"/openstack/latest/user_data":      config,
		"/openstack/latest/meta_data.json": `{"hostname": "host-1.internal", "uuid": "x", "public_keys": {"a": "ssh-ed25519 AAAA one\n", "b": "ssh-ed25519 BBBB two"}}`,
	},
	"hetzner": {
		"/hetzner/v1/userdata":             config,
		"/hetzner/v1/metadata/hostname":    "host-1.internal",
		"/hetzner/v1/metadata/public-keys": `["ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"]`,
	},
	"vultr": {
		"/v1/": "index", "/user-data/user-data": config, "/v1/hostname": "host-1.internal",
		"/v1/public-keys": "ssh-ed25519 AAAA one\nssh-ed25519 BBBB two",
	},
	"digitalocean": {
		"/metadata/v1/user-data": config, "/metadata/v1/hostname": "host-1.internal",
		"/metadata/v1/public-keys": "ssh-ed25519 AAAA one\nssh-ed25519 BBBB two",
	},
	"packet": {
		"/userdata": config,
		"/metadata": `{"hostname": "host-1.internal", "ssh_keys": ["ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"], "network": {}}`,
	},
	"scaleway": {
		"/conf?format=json":     `{"hostname": "host-1.internal", "ssh_public_keys": [{"key": "ssh-ed25519 AAAA one"}, {"key": "ssh-ed25519 BBBB two"}]}`,
		"/user_data/cloud-init": config,
	},
	"metaldata": {
		"/get/user": config, "/get/meta/hostname": "host-1.internal", "/get/meta/authorized-keys": "ssh-ed25519 AAAA one\nssh-ed25519 BBBB two",
	},
	"maas": {
		"/MAAS/metadata/2012-03-01/user-data":                config,
		"/MAAS/metadata/2012-03-01/meta-data/local-hostname": "< Authorization: oauth_token=\"t%20k\", oauth_signature_method=\"PLAINTEXT\", oauth_signature=\"cs%26ts\"\nhost-1.internal",
		"/MAAS/metadata/2012-03-01/meta-data/public-keys":    "< Authorization: oauth_consumer_key=\"ck\"\nssh-ed25519 AAAA one\nssh-ed25519 BBBB two",
	},
	"cmdline": {"/user-data": config, "/meta-data": "local-hostname: host-1.internal\npublic-keys: [ssh-ed25519 AAAA one, ssh-ed25519 BBBB two]\n"},
	"nocloud": {"/user-data": config, "/meta-data": "instance-id: x\nlocal-hostname: host-1.internal\npublic-keys: [ssh-ed25519 AAAA one, ssh-ed25519 BBBB two]\n"},
}

// filesOf are what a machine at a cloud has, beside its service.
func filesOf(name, address string) map[string]string {
	switch name {
	case "maas":
		return map[string]string{"proc/cmdline": "quiet cloud-config-url=" + address + "/preseed"}
	case "cmdline":
		return map[string]string{"proc/cmdline": `quiet "ds=nocloud-net;s=` + address + `/"`}
	case "nocloud":
		return map[string]string{"sys/class/dmi/id/product_serial": "ds=nocloud;s=" + address + "\n"}
	}
	return nil
}

func TestClouds(t *testing.T) {
	for name, answers := range clouds {
		t.Run(name, func(t *testing.T) {
			if name == "scaleway" && os.Geteuid() != 0 {
				t.Skip("needs root for a privileged port")
			}
			var handler http.Handler = answers
			if name == "scaleway" {
				handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					var port int
					fmt.Sscanf(r.RemoteAddr[strings.LastIndex(r.RemoteAddr, ":"):], ":%d", &port)
					if strings.HasPrefix(r.URL.Path, "/user_data") && port >= 1024 {
						http.Error(w, "unprivileged port", http.StatusForbidden)
						return
					}
					answers.ServeHTTP(w, r)
				})
			}
			server := httptest.NewServer(handler)
			defer server.Close()
			if name == "maas" {
				answers["/preseed"] = "#cloud-config\ndatasource:\n  MAAS: {metadata_url: '" + server.URL + "/MAAS/metadata/', consumer_key: ck, consumer_secret: cs, token_key: t k, token_secret: ts}\n"
			}
			got, err := Fetch(t.Context(), []string{name}, Options{Root: machine(t, filesOf(name, server.URL)), AnyPlatform: true, Base: map[string]string{name: server.URL}})
			want := Result{Provider: name, UserData: UserData{Kind: Config, Text: []byte(config)}, Hostname: "host-1.internal", SSHKeys: []string{"ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"}}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
			}
		})
	}
	for _, name := range Names() {
		if _, tested := clouds[name]; !tested && !strings.Contains("cdrom config-drive credential file smbios vmware", name) {
			t.Errorf("%s is not tested", name)
		}
	}
}

// TestWithoutTokens: services that imitate the first version of Amazon's.
func TestWithoutTokens(t *testing.T) {
	server := httptest.NewServer(service{"/latest/user-data": config})
	defer server.Close()
	got, err := Fetch(t.Context(), []string{"aws"}, Options{Root: machine(t, nil), AnyPlatform: true, Base: map[string]string{"aws": server.URL}})
	if err != nil || string(got.UserData.Text) != config {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestHostile: a service that does what it should not. None takes the program
// down, holds it up for longer than its time, or gets it to talk to others.
func TestHostile(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		fmt.Fprint(w, config)
	}))
	defer other.Close()
	bomb := zip(t, make([]byte, 8<<20))
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"redirect":      {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL+"/x", http.StatusFound) }, "refused to follow a redirect to " + other.URL},
		"redirect loop": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, "refused to follow a redirect"},
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			for _, err := w.Write(make([]byte, 1<<16)); err == nil; _, err = w.Write(make([]byte, 1<<16)) {
			}
		}, "larger than 1.5 MiB"},
		"never answers": {hang, "no answer within 300ms"},
		"stops midway": {func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "#cloud")
			w.(http.Flusher).Flush()
			hang(w, r)
		}, "no answer within 300ms"},
		"large headers": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, "exceeded"},
		"no text":       {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "#cloud-config\n\xff\xfe") }, "not UTF-8 text, and not gzip"},
		"a web page":    {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>login</html>") }, "not a config or a script"},
		"forbidden":     {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }, "status 403 Forbidden"},
		"bomb":          {func(w http.ResponseWriter, _ *http.Request) { w.Write(bomb) }, "larger than 1 MB"},
		"broken gzip":   {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "\x1f\x8bxx") }, "decompress"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(c.handler)
			defer server.Close()
			opts := Options{Root: machine(t, nil), AnyPlatform: true, Base: map[string]string{"digitalocean": server.URL}, Timeout: time.Minute}
			if strings.Contains(c.want, "300ms") {
				opts.Timeout = 300 * time.Millisecond
			}
			got, err := Fetch(t.Context(), []string{"digitalocean"}, opts)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %+v, %v; want %q", got, err, c.want)
			}
		})
	}
	t.Cleanup(func() {
		if n := elsewhere.Load(); n > 0 {
			t.Errorf("%d requests went elsewhere", n)
		}
	})
}

// TestPassingFailure: what fails twice and then works is tried again.
func TestPassingFailure(t *testing.T) {
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch calls.Add(1) {
		case 1:
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		case 2:
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				conn.Close()
			}
		default:
			fmt.Fprint(w, config)
		}
	}))
	defer server.Close()
	got, err := Fetch(t.Context(), []string{"hetzner"}, Options{Root: machine(t, nil), AnyPlatform: true, Base: map[string]string{"hetzner": server.URL}, Backoff: time.Millisecond})
	if err != nil || got.UserData.Kind != Config {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestSomebodyElse: the server at this address is not Google's.
func TestSomebodyElse(t *testing.T) {
	server := httptest.NewServer(service{"/computeMetadata/v1/instance/attributes/user-data": config})
	defer server.Close()
	_, err := Fetch(t.Context(), []string{"gcp"}, Options{Root: machine(t, nil), AnyPlatform: true, Base: map[string]string{"gcp": server.URL}})
	if err == nil || !strings.Contains(err.Error(), "does not come from Google") {
		t.Errorf("got %v", err)
	}
}
