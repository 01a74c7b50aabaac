package source

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/lib/exit"
)

func TestParse(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	b := testImage(t, "")
	imagetest.Write(t, "quay.io/local/index.json", nil)
	imagetest.Write(t, "tree/etc/hostname", nil)
	imagetest.Write(t, "tree2/version", nil) // a root file system may have that
	imagetest.Write(t, "copied/version", nil)
	imagetest.Write(t, "copied/manifest.json", nil)
	imagetest.Write(t, "a.tar", nil)
	oci, docker := b.OCIArchive(t, "v1", "zstd"), b.DockerArchive(t, "x:y")
	const sum = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for given, want := range map[string]Source{
		"quay.io/x/y:1":                {transport: registry, rest: "quay.io/x/y:1"},
		"quay.io/x/y@" + sum:           {transport: registry, rest: "quay.io/x/y@" + sum},
		"localhost:5000/x":             {transport: registry, rest: "localhost:5000/x"},
		"debian:13":                    {transport: registry, rest: "debian:13"},
		"docker://quay.io/x/y:1":       {transport: registry, rest: "quay.io/x/y:1"},
		"docker:quay.io/x/y:1":         {transport: registry, rest: "quay.io/x/y:1"},
		"oci:quay.io/x/y:1":            {transport: registry, rest: "quay.io/x/y:1"},
		"oci://quay.io/x/y:1":          {transport: registry, rest: "quay.io/x/y:1"},
		"oci://quay.io/local:1":        {transport: registry, rest: "quay.io/local:1"},
		"ocifile://" + oci:             {transport: ociArchive, rest: oci},
		"ocifile:" + docker:            {transport: dockerArchive, rest: docker},
		"oci:quay.io/local:1":          {transport: ociLayout, rest: "quay.io/local:1"},
		"oci:" + dir + "/tree":         {transport: ociLayout, rest: dir + "/tree"},
		"oci-archive:a.tar:1":          {transport: ociArchive, rest: "a.tar:1"},
		"docker-archive:a.tar":         {transport: dockerArchive, rest: "a.tar"},
		"file:" + oci:                  {transport: ociArchive, rest: oci},
		"file:" + docker:               {transport: dockerArchive, rest: docker},
		"containers-storage:x":         {transport: containersStorage, rest: "x"},
		"containers-storage:[vfs@/a]x": {transport: containersStorage, rest: "[vfs@/a]x"},
		"dir:copied":                   {transport: dirLayout, rest: "copied"},
		"dir:tree":                     {Kind: KindTree, Path: "tree"},
		"dir:" + dir + "/tree2":        {Kind: KindTree, Path: dir + "/tree2"},
		"store:/run/store":             {Kind: KindStore, Path: "/run/store"},
		"store:/run/store:7-0123":      {Kind: KindStore, Path: "/run/store", ID: "7-0123"},
		"store:/run/a:b/store":         {Kind: KindStore, Path: "/run/a:b/store"},
	} {
		want.Given = given
		have, err := Parse(given)
		if err != nil || have != want {
			t.Errorf("%s: %+v, %v; want %+v", given, have, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	imagetest.Write(t, file, []byte("text"))
	for given, hinted := range map[string]bool{
		"":                        true,
		"oci:":                    true,
		"oci://":                  true,
		"oci:///var":              true,
		"/usr":                    true,
		"./image.tar":             true,
		"Quay.io/X/Y":             true,
		"quay.io/x/y:1:2":         true,
		"quay.io/x/y@sha256:0123": true,
		"docker-daemon:x":         true,
		"ostree:x":                true,
		"https://quay.io/x":       true,
		"oci:" + file:             true,
		"oci:" + dir + "/missing": false,
		"oci:./missing:v1":        false,
		"oci-archive:" + dir:      true,
		"docker-archive:/no/such": false,
		"dir:" + file:             true,
		"dir:/no/such":            false,
		"store:":                  true,
		"store::id":               true,
	} {
		_, err := Parse(given)
		if !errors.Is(err, ErrUsage) {
			t.Errorf("%q: %v", given, err)
		}
		if hinted && exit.HintOf(err) == "" {
			t.Errorf("%q: no hint: %v", given, err)
		}
	}
	for _, given := range []string{"file:" + file, "file:/no/such", "file:" + dir} {
		if _, err := Parse(given); err == nil {
			t.Errorf("%q is accepted", given)
		}
	}
}
