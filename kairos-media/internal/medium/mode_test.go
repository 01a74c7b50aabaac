package medium

import (
	"os"
	"path/filepath"
	"testing"
)

func TestManifestMode(t *testing.T) {
	for name, c := range map[string]struct {
		configs []BootFile
		want    os.FileMode
	}{"none": {nil, 0o644}, "secret": {[]BootFile{{"a.yaml", 1, "sha256:0"}}, 0o600}} {
		file := filepath.Join(t.TempDir(), "m.img")
		if err := (Manifest{Format: ManifestFormat, Configs: c.configs}).write(file); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(ManifestPath(file)); err != nil || info.Mode().Perm() != c.want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}
