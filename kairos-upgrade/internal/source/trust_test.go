package source

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/lib/exit"
)

// Signatures are tested with the programs that make them, in tests/trust.

func TestRefusalNamesScopeAndRequirement(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	registry.Push("team/os", "v1", testImage(t, ""))
	o := accepting(t)
	o.RegistriesConf = registry.Conf(t)
	key := filepath.Join(t.TempDir(), "key.gpg")
	const accept = `{"type":"insecureAcceptAnything"}`
	for _, test := range []struct{ policy, want, hint string }{
		{`{"default":[{"type":"reject"}]}`, "the default, requirement 1 of 1 (reject): ", "rejects all images"},
		{`{"default":[` + accept + `],"transports":{"docker":{"HOST/team":[` + accept + `,{"type":"signedBy","keyType":"GPGKeys","keyPath":"` + key + `"}]}}}`,
			`transport docker, scope "HOST/team", requirement 2 of 2 (signedBy with ` + key + "): ", "lookaside"},
		{`{"default":[` + accept + `],"transports":{"docker":{"":[{"type":"sigstoreSigned","keyPath":"` + key + `"}],"HOST/other":[` + accept + `]}}}`,
			`transport docker, scope "", requirement 1 of 1 (sigstoreSigned with ` + key + "): ", "use-sigstore-attachments"},
	} {
		o.PolicyFile = writeFile(t, "policy.json", strings.ReplaceAll(test.policy, "HOST", registry.Host))
		_, err := Open(t.Context(), registry.Host+"/team/os:v1", o)
		want := strings.ReplaceAll(test.want, "HOST", registry.Host)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want) || !strings.Contains(exit.HintOf(err), test.hint) {
			t.Errorf("%s:\n%v (hint: %s)\nwant %s", test.policy, err, exit.HintOf(err), want)
		}
	}
}

// A scope of its own is all that holds for a registry.
func TestScopes(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	registry.Push("good/os", "v1", testImage(t, ""))
	registry.Push("bad/os", "v1", testImage(t, ""))
	o := accepting(t)
	o.RegistriesConf = registry.Conf(t)
	o.PolicyFile = writeFile(t, "policy.json",
		`{"default":[{"type":"reject"}],"transports":{"docker":{"`+registry.Host+`/good":[{"type":"insecureAcceptAnything"}]}}}`)
	if img, err := Open(t.Context(), registry.Host+"/good/os:v1", o); err != nil {
		t.Error(err)
	} else {
		img.Close()
	}
	if _, err := Open(t.Context(), registry.Host+"/bad/os:v1", o); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
}

// mirrored writes a registries.conf in which the origin does not exist.
func mirrored(t *testing.T, mirror, more string) Options {
	o := accepting(t)
	o.RegistriesConf = writeFile(t, "registries.conf", fmt.Sprintf(`
[[registry]]
location = "registry.invalid"
%s
[[registry.mirror]]
location = "%s/mirror"
insecure = true
`, more, mirror))
	return o
}

func TestMirrorByDigestOnly(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	b := testImage(t, "")
	registry.Push("mirror/os", "v1", b)
	o := mirrored(t, registry.Host, "mirror-by-digest-only = true")
	if _, err := Open(t.Context(), "registry.invalid/os:v1", o); err == nil {
		t.Error("a tag was taken from a mirror that is for digests only")
	}
	img, _, err := readAll(t, "registry.invalid/os@"+b.Manifest.String(), o)
	if err != nil || img.ManifestDigest != b.Manifest {
		t.Fatalf("%+v, %v", img, err)
	}
	if _, err := Tags(t.Context(), "registry.invalid/os", o); err == nil {
		t.Error("tags were taken from a mirror that is for digests only")
	}
}

func TestBlockedRegistry(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	registry.Push("mirror/os", "v1", testImage(t, ""))
	o := mirrored(t, registry.Host, "blocked = true")
	_, err := Open(t.Context(), "registry.invalid/os:v1", o)
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "registries.conf blocks registry.invalid") {
		t.Errorf("%v", err)
	}
	if _, err := Tags(t.Context(), "registry.invalid/os", o); !errors.Is(err, ErrRefused) {
		t.Errorf("tags: %v", err)
	}
}

func TestTags(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	want := []string{"a", "b", "v1", "v2", "v3", "v4", "v5"}
	for _, tag := range want {
		registry.Push("mirror/os", tag, testImage(t, ""))
	}
	o := mirrored(t, registry.Host, "")
	for _, name := range []string{"registry.invalid/os", "registry.invalid/os:v1", "docker://registry.invalid/os"} {
		if have, err := Tags(t.Context(), name, o); err != nil || !slices.Equal(have, want) {
			t.Errorf("%s: %q, %v", name, have, err)
		}
	}
	o = accepting(t)
	o.Insecure = true
	if have, err := Tags(t.Context(), registry.Host+"/mirror/os", o); err != nil || !slices.Equal(have, want) {
		t.Errorf("insecure: %q, %v", have, err)
	}
	if _, err := Tags(t.Context(), registry.Host+"/none", o); err == nil || exit.HintOf(err) == "" {
		t.Errorf("no such repository: %v", err)
	}
	if _, err := Tags(t.Context(), "oci:"+t.TempDir(), o); !errors.Is(err, ErrUsage) {
		t.Errorf("not a registry: %v", err)
	}
}

// private makes a registry want a name and a password.
func private(registry *imagetest.Registry) {
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if user, password, _ := r.BasicAuth(); user == "node" && password == "secret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
}

func TestCredentials(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	b := testImage(t, "gzip")
	registry.Push("os", "v1", b)
	private(registry)
	o := accepting(t)
	o.AuthFile = ""
	t.Setenv("REGISTRY_AUTH_FILE", "")
	t.Setenv("HOME", t.TempDir())
	o.RegistriesConf = registry.Conf(t)
	ref := registry.Host + "/os:v1"
	_, err := Open(t.Context(), ref, o)
	if err == nil || !strings.Contains(exit.HintOf(err), "auth.json") {
		t.Errorf("without credentials: %v (hint: %s)", err, exit.HintOf(err))
	}
	auth := func(password string) string { // base64 of node:secret, or of node:wrong
		coded := map[string]string{"secret": "bm9kZTpzZWNyZXQ=", "wrong": "bm9kZTp3cm9uZw=="}[password]
		return `{"auths":{"` + registry.Host + `":{"auth":"` + coded + `"}}}`
	}
	works := func(how string, o Options) {
		t.Helper()
		if img, _, err := readAll(t, ref, o); err != nil || img.ManifestDigest != b.Manifest {
			t.Errorf("%s: %v", how, err)
		}
		if _, err := Tags(t.Context(), ref, o); err != nil {
			t.Errorf("%s: %v", how, err)
		}
	}
	named := o
	named.AuthFile = writeFile(t, "auth.json", auth("secret"))
	works("--authfile", named)

	credentials := t.TempDir()
	imagetest.Write(t, filepath.Join(credentials, Credential), []byte(auth("secret")))
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	works("credential", o)

	t.Setenv("REGISTRY_AUTH_FILE", writeFile(t, "auth.json", auth("wrong")))
	if _, err := Open(t.Context(), ref, o); err == nil {
		t.Error("the credential stands before REGISTRY_AUTH_FILE")
	}
	works("--authfile before the others", named)
	t.Setenv("REGISTRY_AUTH_FILE", "")
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	if _, err := Open(t.Context(), ref, o); err == nil {
		t.Error("accepted without any credential")
	}
}

// The digest that was resolved is the one that is read: a tag that moves
// meanwhile changes nothing.
func TestMovingTag(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	first := testImage(t, "gzip")
	second := imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{{Tar: upperTar(t)}}})
	registry.Push("os", "v1", first)
	registry.Push("os", "old", first)
	o := accepting(t)
	o.RegistriesConf = registry.Conf(t)
	registry.SetFault(func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		if strings.Contains(r.URL.Path, "/blobs/") { // as soon as the manifest is there
			registry.Push("os", "v1", second)
		}
		return false
	})
	ref := registry.Host + "/os:v1"
	img, streams, err := readAll(t, ref, o)
	if err != nil || img.ManifestDigest != first.Manifest {
		t.Fatalf("%+v, %v", img, err)
	}
	checkImage(t, img, streams)
	if img, _, err := readAll(t, ref, o); err != nil || img.ManifestDigest != second.Manifest {
		t.Errorf("the tag has not moved: %v", err)
	}
	pinned, err := Pinned(ref, first.Manifest.String())
	if err != nil {
		t.Fatal(err)
	}
	if img, _, err := readAll(t, pinned, o); err != nil || img.ManifestDigest != first.Manifest {
		t.Errorf("%s: %v", pinned, err)
	}
}

func TestPinned(t *testing.T) {
	const d = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	layout := testImage(t, "").Layout(t, "v1")
	for given, want := range map[string]string{
		"quay.io/x/y:1":                      "quay.io/x/y@" + d,
		"quay.io/x/y":                        "quay.io/x/y@" + d,
		"docker://quay.io:5000/x/y:1@" + d:   "quay.io:5000/x/y@" + d,
		"oci:quay.io/x/y:1":                  "quay.io/x/y@" + d,
		"debian":                             "debian@" + d,
		"oci:" + layout + ":v1":              "oci:" + layout + ":v1",
		"containers-storage:localhost/x:tag": "containers-storage:localhost/x:tag",
	} {
		if have, err := Pinned(given, d); err != nil || have != want {
			t.Errorf("%s: %s, %v; want %s", given, have, err, want)
		}
	}
	for given, want := range map[string]string{"quay.io/x/y:1": "1", "quay.io:5000/x/y": "", "x/y@" + d: "", "oci:" + layout + ":v1": ""} {
		if have := Tag(given); have != want {
			t.Errorf("tag of %s: %q, want %q", given, have, want)
		}
	}
}
