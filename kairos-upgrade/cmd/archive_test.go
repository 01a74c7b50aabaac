package cmd

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/lib/deployment"
)

// An archive that is cut or changed at any byte is refused, or it is the same
// image: nothing in between.
func TestDamagedArchives(t *testing.T) {
	manyProcesses(t)
	body := strings.Repeat("a line of text\n", 200)
	layer := imagetest.Layer{Tar: imagetest.Tar(t, []tar.Header{{Name: "usr/share/text", Typeflag: tar.TypeReg}}, map[string]string{"usr/share/text": body}), Compression: "zstd"}
	built := bootable(t, layer)
	h := newHostile(t)
	staged := func(out string) (digest string) {
		var record deployment.Record
		if err := json.Unmarshal([]byte(out), &record); err != nil {
			t.Fatalf("stage --json: %v\n%s", err, out)
		}
		return record.ImageDigest
	}
	good := staged(newHostile(t).want(0, "stage", "--json", "oci:"+built.Layout(t, "v")))

	points := max(8, min(*kills, 20)) // all of them with the kills of make test-all
	damaged := filepath.Join(t.TempDir(), "damaged.tar")
	for kind, archive := range map[string]string{
		"oci-archive":    built.OCIArchive(t, "v", ""),
		"oci-archive:gz": built.OCIArchive(t, "v", "gzip"),
		"docker-archive": built.DockerArchive(t, "x:v"),
	} {
		whole, err := os.ReadFile(archive)
		if err != nil {
			t.Fatal(err)
		}
		transport, _, _ := strings.Cut(kind, ":")
		refused := 0
		try := func(what string, at int, data []byte) {
			if err := os.WriteFile(damaged, data, 0o644); err != nil {
				t.Fatal(err)
			}
			code, out := h.run("stage", "--json", transport+":"+damaged)
			switch {
			case code == 1:
				refused++
				if now := files(t, h.store, h.esp); now != h.before {
					t.Fatalf("%s %s at byte %d: the store changed:\n%s\nwas:\n%s", kind, what, at, now, h.before)
				}
			case code == 0 && staged(out) == good:
				h = newHostile(t)
			default:
				t.Fatalf("%s %s at byte %d of %d: exit status %d:\n%s", kind, what, at, len(whole), code, out)
			}
		}
		for i := range points {
			at := len(whole) * i / points
			try("cut", at, whole[:at])
			changed := bytes.Clone(whole)
			changed[at] ^= 0x20
			try("changed", at, changed)
		}
		if refused < points { // all that was cut before the last blob, at least
			t.Errorf("%s: only %d of %d were refused", kind, refused, 2*points)
		}
	}
	h.check(t, false)
}
