package diff

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/pull"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// image makes a tree whose /var/lib/dpkg/status is text.
func image(t *testing.T, text string) Image {
	t.Helper()
	root, at := tree.NewDir(0o755), (*tree.Inode)(nil)
	at = root
	for name := range strings.SplitSeq("var/lib/dpkg", "/") {
		dir := tree.NewDir(0o755)
		if err := at.Insert(name, dir); err != nil {
			t.Fatal(err)
		}
		at = dir
	}
	if err := at.Insert("status", tree.NewFile(0o644, max(int64(len(text)), 100), fsverity.Digest{1})); err != nil {
		t.Fatal(err)
	}
	return Image{root, func(*tree.Inode) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
}

// TestHostilePackages: what a database claims is bounded, and an excess is said.
func TestHostilePackages(t *testing.T) {
	var many strings.Builder
	for i := range maxPackages + 1 {
		fmt.Fprintf(&many, "Package: p%d\n\n", i)
	}
	good := image(t, "Package: a\nVersion: 1\n")
	for name, text := range map[string]string{
		"large": strings.Repeat("x", MaxText+1),
		"many":  many.String(),
		"long":  "Package: " + strings.Repeat("x", maxWord+1),
	} {
		if r := Compare(good, image(t, text), false); len(r.NotCompared) != 1 || len(r.Packages) > 0 {
			t.Errorf("%s: %d packages, not compared: %q", name, len(r.Packages), r.NotCompared)
		}
	}
	for _, text := range []string{"", "\x00", ":", "Package:", "\n\n\nPackage: \n", "Package: a\nStatus: a b c d"} {
		if r := Compare(image(t, text), image(t, text), true); len(r.Packages)+len(r.NotCompared) > 0 {
			t.Errorf("%q: %+v", text, r)
		}
	}
	lost := good
	lost.Open = func(*tree.Inode) (io.ReadCloser, error) { return nil, os.ErrNotExist }
	if r := Compare(good, lost, false); len(r.NotCompared) != 1 || len(r.Packages) > 0 {
		t.Errorf("lost: %+v", r)
	}
}

// TestSmall: a small file whose content is not here is the same by its sum.
func TestSmall(t *testing.T) {
	here := tree.NewInline(0o644, []byte("abc"))
	away := tree.NewInline(0o644, nil)
	away.Size, away.Content = 3, pull.SmallSum([32]byte{0xba, 0x78})
	if same(here, away) {
		t.Error("another sum is the same")
	}
	away.Content = plain(here)
	if !same(here, away) {
		t.Error("the same sum is not the same")
	}
}
