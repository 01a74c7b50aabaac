package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
)

// meddled is a boot loader, and a store, that somebody else changes: right
// after the nth reading of the entries, or before the first boot file is read.
type meddled struct {
	boot.Loader
	readings int
	at       int // the reading after which it happens, 0: with the boot files
	meddle   func()
}

func (l *meddled) Entries() ([]bls.Entry, error) {
	entries, err := l.Loader.Entries()
	if l.readings++; l.readings == l.at {
		l.meddle()
	}
	return entries, err
}

func (l *meddled) Check(f deployment.File) error {
	if meddle := l.meddle; l.at == 0 && meddle != nil {
		l.meddle = nil
		meddle()
	}
	return l.Loader.Check(f)
}

// bless says of all deployments that they are good.
func bless(t *testing.T, n *Node) {
	t.Helper()
	have, err := n.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range have.Deployments {
		e := *d.entry
		if err := n.Loader.Remove(e.Name.Base); err != nil {
			t.Fatal(err)
		}
		e.Name.Counted = false
		if err := n.Loader.Publish(e); err != nil {
			t.Fatal(err)
		}
	}
}

// A verification takes no lock. Whatever others publish and remove beside it,
// it neither calls a whole store damaged nor fails.
func TestVerifyBesideOthers(t *testing.T) {
	files := map[string]string{
		"usr/lib/modules/1/vmlinuz":       strings.Repeat("kernel", 1000),
		"usr/lib/modules/1/initramfs.img": strings.Repeat("initrd", 1000),
		"usr/bin/tool":                    strings.Repeat("tool", 1000),
	}
	stage := func(t *testing.T, n *Node, dir, kernel string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "root/usr/lib/modules/1/vmlinuz"), []byte(strings.Repeat(kernel, 1000)), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Stage(t.Context(), Request{Source: "dir:" + filepath.Join(dir, "root")}); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t *testing.T, n *Node) { // the oldest, as a collection does
		t.Helper()
		have, err := n.Inventory()
		if err != nil {
			t.Fatal(err)
		}
		if err := n.remove(have.Deployments[len(have.Deployments)-1]); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Collect(false); err != nil {
			t.Fatal(err)
		}
	}
	for name, meddle := range map[string]func(t *testing.T, n *Node, dir string){
		"staged":             func(t *testing.T, n *Node, dir string) { stage(t, n, dir, "third") },
		"removed":            func(t *testing.T, n *Node, dir string) { remove(t, n) },
		"staged, removed":    func(t *testing.T, n *Node, dir string) { stage(t, n, dir, "third"); remove(t, n) },
		"published, no more": func(t *testing.T, n *Node, dir string) { stage(t, n, dir, "third"); stage(t, n, dir, "fourth") },
	} {
		for _, at := range []int{0, 1, 2, 3} {
			n, dir := node(t, files)
			bless(t, n)
			stage(t, n, dir, "second")
			bless(t, n)
			other := *n
			n.Loader = &meddled{Loader: n.Loader, at: at, meddle: func() { meddle(t, &other, dir) }}
			v, err := n.Verify(t.Context(), "")
			if err != nil || len(v.Damaged) > 0 || len(v.Incomplete) > 0 {
				t.Errorf("%s at reading %d: %v, %+v", name, at, err, v)
			}
		}
	}
}
