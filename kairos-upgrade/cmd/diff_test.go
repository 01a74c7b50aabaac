package cmd

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
)

// TestDiffBeforeFetch: the tables of contents of an image in a registry tell what
// it would change, and its labels what is new; nothing is fetched for that but
// the tables and the database of packages. What labels and databases say is shown
// without its control characters.
func TestDiffBeforeFetch(t *testing.T) {
	const files, size = 200, 20_000
	image := func(version, curl string, changed func(int) bool) imagetest.Image {
		status := fmt.Sprintf("Package: curl\nStatus: install ok installed\nVersion: %s\nDescription: %s\n", curl, strings.Repeat("x", 100))
		packages := imagetest.Tar(t, []tar.Header{
			{Name: "var/lib/dpkg/status", Typeflag: tar.TypeReg, Mode: 0o644},
			{Name: "usr/lib/bootc/kargs.d/1.toml", Typeflag: tar.TypeReg, Mode: 0o644},
		}, map[string]string{"var/lib/dpkg/status": status, "usr/lib/bootc/kargs.d/1.toml": "kargs = [\"v" + version + "\"]\n"})
		return imagetest.Image{
			Labels: map[string]string{
				"org.opencontainers.image.version":     version,
				"org.opencontainers.image.description": "Fixes \x1b[31mall\nof it",
				"org.opencontainers.image.url":         "https://example.com/" + version,
			},
			Layers: []imagetest.Layer{
				{Tar: osLayer(t, files, changed), Compression: "zstd:chunked"},
				{Tar: packages, Compression: "zstd:chunked"},
			},
		}
	}
	registry := imagetest.NewRegistry(t)
	registry.Push("os", "v1", imagetest.Build(t, image("1", "7.88", nil)))
	registry.Push("os", "v2", imagetest.Build(t, image("2", "7.89\x1b[2J", func(i int) bool { return i%10 == 5 })))
	n := newNode(t)
	n.stage(registry.Host + "/os:v1")
	n.bless(1)
	v2 := registry.Host + "/os:v2"
	var d struct {
		Packages     []struct{ Old_version, New_version string }
		Added        int      `json:"files_added"`
		Removed      int      `json:"files_removed"`
		Changed      int      `json:"files_changed"`
		KargsAdded   []string `json:"kargs_added"`
		NotCompared  []string `json:"not_compared"`
		BytesFetched int      `json:"bytes_fetched"`
	}
	check := func(args ...string) {
		t.Helper()
		out := n.want(0, "diff", append([]string{"--insecure", "--json"}, args...)...)
		if err := json.Unmarshal([]byte(out[strings.IndexByte(out, '{'):]), &d); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if len(d.Packages) != 1 || d.Added != 0 || d.Removed != 0 || d.Changed != files/10+2 ||
			len(d.KargsAdded) != 1 || d.KargsAdded[0] != "v2" || len(d.NotCompared) > 0 {
			t.Errorf("%v: %+v", args, d)
		}
		if d.BytesFetched == 0 || d.BytesFetched > 100_000 { // of 4 MB
			t.Errorf("%v: fetched %d bytes", args, d.BytesFetched)
		}
	}
	check("1", v2)
	check(registry.Host+"/os:v1", v2)
	out := n.want(0, "diff", "--insecure", "1", v2)
	for _, want := range []string{"\n  of it\n", "https://example.com/2\n", "  + v2\n", "  - v1\n", "~ curl 7.88 -> 7.89"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("control characters: %q", out)
	}
}
