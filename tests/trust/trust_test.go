// Package trust holds kairos-upgrade's trust in images against the programs by which people sign them:
// skopeo and GnuPG make the signatures, a real registry and a lookaside directory keep them, and
// containers-policy.json(5) says what is wanted.
//
// What it can't prove: signatures of Fulcio and Rekor, which need services on the network.
package trust

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/tests/oci"
	"github.com/kairos-io/toolkit/tests/registry"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// site is a registry, keys, and the settings of a node.
type site struct {
	registry *registry.Registry
	dir      string // of keys and of what signs
	home     string // of the node: its settings are in .config/containers
	image    string // source of all images
}

func newSite(t *testing.T) *site {
	t.Helper()
	if _, err := os.Stat(workspace.Cache("tools", "usr/bin/skopeo")); err != nil {
		t.Skip("needs the tools root: run tests/setup")
	}
	if _, err := os.Stat(program()); err != nil {
		t.Skip("needs kairos-upgrade: run make build")
	}
	r, err := registry.Start(t.Context())
	must(t, err)
	t.Cleanup(r.Stop)
	s := &site{registry: r, dir: t.TempDir(), home: t.TempDir()}
	layer, err := oci.CreateLayer(filepath.Join(s.dir, "layer"), "test", func(w io.Writer) error {
		archive := tar.NewWriter(w)
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/os-release", Mode: 0o644}); err != nil {
			return err
		}
		return archive.Close()
	})
	must(t, err)
	layout := filepath.Join(s.dir, "layout")
	must(t, oci.WriteLayout(layout, []oci.Image{{Name: "v1", Layers: []oci.Layer{layer}, Created: time.Unix(0, 0)}}))
	s.image = "oci:" + layout + ":v1"
	s.write(t, "registries.conf", fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", r.LocalHost()))
	return s
}

func program() string { return filepath.Join(workspace.Top(), "build/bin/kairos-upgrade") }

// write writes one of the node's settings.
func (s *site) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(s.home, ".config/containers", name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

// require makes the node want something of the images of a repository, and refuse all others.
func (s *site) require(t *testing.T, repository string, requirement map[string]any) {
	t.Helper()
	policy, err := json.Marshal(map[string]any{
		"default": []any{map[string]any{"type": "reject"}},
		"transports": map[string]any{"docker": map[string]any{
			s.registry.LocalHost() + "/" + repository: []any{requirement},
		}},
	})
	must(t, err)
	s.write(t, "policy.json", string(policy))
}

// tool runs a program of the tools root with the keys at hand.
func (s *site) tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	command := workspace.Tool(t.Context(), name, args...)
	command.Env = append(command.Environ(), "GNUPGHOME="+filepath.Join(s.dir, "gnupg"), "HOME="+s.dir)
	out, err := workspace.Run(command)
	must(t, err)
	return out
}

// push copies the image into the registry, with options that sign it.
func (s *site) push(t *testing.T, name string, option ...string) {
	t.Helper()
	args := []string{"--registries.d", filepath.Join(s.home, ".config/containers/registries.d"),
		"copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"}
	s.tool(t, "skopeo", append(append(args, option...), s.image, "docker://"+s.registry.LocalHost()+"/"+name)...)
}

// inspect opens an image as the node does.
func (s *site) inspect(t *testing.T, name string) (status int, stderr string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), program(), "inspect", "--json", s.registry.LocalHost()+"/"+name)
	command.Env = []string{"HOME=" + s.home, "PATH=" + os.Getenv("PATH")}
	var said bytes.Buffer
	command.Stderr = &said
	err := command.Run()
	if command.ProcessState == nil {
		t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), said.String()
}

func (s *site) accepts(t *testing.T, name string) {
	t.Helper()
	if status, said := s.inspect(t, name); status != 0 {
		t.Errorf("%s is refused: %d %s", name, status, said)
	}
}

// refuses wants exit status 4, with scope, requirement, cause and hint.
func (s *site) refuses(t *testing.T, name, requirement, cause string) {
	t.Helper()
	status, said := s.inspect(t, name)
	var e struct {
		Code          int
		Message, Hint string
	}
	if err := json.Unmarshal([]byte(said), &e); err != nil {
		t.Fatalf("%s: %d %s", name, status, said)
	}
	repository, _, _ := strings.Cut(name, ":")
	scope := fmt.Sprintf(`transport docker, scope "%s/%s", requirement 1 of 1 (%s`, s.registry.LocalHost(), repository, requirement)
	if status != 4 || e.Code != 4 || e.Hint == "" || !strings.Contains(e.Message, scope) || !strings.Contains(e.Message, cause) {
		t.Errorf("%s: %d %s\nwant exit status 4, %s and %s", name, status, said, scope, cause)
	}
}

// TestSimpleSigning signs with GnuPG, and keeps signatures in a lookaside directory.
func TestSimpleSigning(t *testing.T) {
	s := newSite(t)
	must(t, os.Mkdir(filepath.Join(s.dir, "gnupg"), 0o700))
	t.Cleanup(func() { s.endAgent() })
	keys := map[string]string{}
	for _, who := range []string{"good@example.com", "bad@example.com"} {
		s.tool(t, "gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", who, "ed25519", "sign", "never")
		keys[who] = filepath.Join(s.dir, who+".gpg")
		must(t, os.WriteFile(keys[who], []byte(s.tool(t, "gpg", "--batch", "--export", who)), 0o644))
	}
	s.write(t, "registries.d/lookaside.yaml", fmt.Sprintf("default-docker:\n  lookaside: file://%[1]s/lookaside\n  lookaside-staging: file://%[1]s/lookaside\n", s.dir))
	s.push(t, "team/os:good", "--sign-by", "good@example.com")
	s.push(t, "mine/os:good", "--sign-by", "good@example.com")
	s.push(t, "other/os:bad", "--sign-by", "bad@example.com")
	s.push(t, "none/os:unsigned")
	// The signature says that it is for the image of another name.
	s.push(t, "else/os:alias", "--sign-by", "good@example.com", "--sign-identity", s.registry.LocalHost()+"/team/os:good")

	want := func(repository string) {
		s.require(t, repository, map[string]any{"type": "signedBy", "keyType": "GPGKeys", "keyPath": keys["good@example.com"]})
	}
	want("team/os")
	s.accepts(t, "team/os:good")
	if status, said := s.inspect(t, "mine/os:good"); status != 4 || !strings.Contains(said, "the default, requirement 1 of 1 (reject)") {
		t.Errorf("what the policy does not name: %d %s", status, said)
	}
	want("mine/os")
	s.accepts(t, "mine/os:good")
	want("other/os")
	s.refuses(t, "other/os:bad", "signedBy with "+keys["good@example.com"], "Key not found")
	want("none/os")
	s.refuses(t, "none/os:unsigned", "signedBy", "no signature exists")
	want("else/os")
	s.refuses(t, "else/os:alias", "signedBy", "is not accepted")
	must(t, os.RemoveAll(filepath.Join(s.dir, "lookaside")))
	want("team/os")
	s.refuses(t, "team/os:good", "signedBy", "no signature exists")
}

// endAgent ends the agent that GnuPG has started for its keys.
func (s *site) endAgent() {
	command := workspace.Tool(context.Background(), "gpgconf", "--homedir", filepath.Join(s.dir, "gnupg"), "--kill", "all")
	_ = command.Run()
}

// TestSigstore signs with a key of sigstore's kind, and keeps signatures in the registry.
func TestSigstore(t *testing.T) {
	s := newSite(t)
	must(t, os.WriteFile(filepath.Join(s.dir, "passphrase"), []byte("secret\n"), 0o600))
	for _, who := range []string{"good", "bad"} {
		s.tool(t, "skopeo", "generate-sigstore-key", "--output-prefix", filepath.Join(s.dir, who), "--passphrase-file", filepath.Join(s.dir, "passphrase"))
	}
	attachments := fmt.Sprintf("docker:\n  %s:\n    use-sigstore-attachments: true\n", s.registry.LocalHost())
	s.write(t, "registries.d/sigstore.yaml", attachments)
	sign := func(name, who string, option ...string) {
		s.push(t, name, append(option, "--sign-by-sigstore-private-key", filepath.Join(s.dir, who+".private"),
			"--sign-passphrase-file", filepath.Join(s.dir, "passphrase"))...)
	}
	sign("team/os:good", "good")
	sign("mine/os:bad", "bad")
	s.push(t, "none/os:unsigned")
	sign("else/os:alias", "good", "--sign-identity", s.registry.LocalHost()+"/team/os:good")

	want := func(repository string) {
		s.require(t, repository, map[string]any{"type": "sigstoreSigned", "keyPath": filepath.Join(s.dir, "good.pub")})
	}
	want("team/os")
	s.accepts(t, "team/os:good")
	want("mine/os")
	s.refuses(t, "mine/os:bad", "sigstoreSigned with "+filepath.Join(s.dir, "good.pub"), "cryptographic signature verification failed")
	want("none/os")
	s.refuses(t, "none/os:unsigned", "sigstoreSigned", "no signature exists")
	want("else/os")
	s.refuses(t, "else/os:alias", "sigstoreSigned", "is not accepted")
	// Signatures that nobody has said to look for are none; the hint says so.
	s.write(t, "registries.d/sigstore.yaml", "{}\n")
	want("team/os")
	s.refuses(t, "team/os:good", "sigstoreSigned", "no signature exists")
	if _, said := s.inspect(t, "team/os:good"); !strings.Contains(said, "use-sigstore-attachments") {
		t.Errorf("the hint does not help: %s", said)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
