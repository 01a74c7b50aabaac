package generation

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// oem is a root with COS_OEM in it.
func oem(t testing.TB) (root *rootfs.Root, disk Disk) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "oem"), 0o755))
	root, err := rootfs.Open(dir)
	must(t, err)
	disk, close, err := OpenDisk(filepath.Join(dir, "oem"))
	must(t, err)
	t.Cleanup(func() { close(); root.Close() })
	return root, disk
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWriteAndRead(t *testing.T) {
	root, disk := oem(t)
	first, err := Write(disk, Change{Put: map[string][]byte{"90.yaml": []byte("a"), "91.yaml": []byte("b")}, Remove: []string{"10.yaml"}}, now)
	must(t, err)
	second, err := Write(disk, Change{Base: first, Put: map[string][]byte{"90.yaml": []byte("new"), "10.yaml": []byte("back")}, Remove: []string{"91.yaml"}}, now)
	must(t, err)
	if first.Number != 1 || second.Number != 2 || second.Base != first.ID {
		t.Errorf("got %+v and %+v", first, second)
	}
	all, err := All(root)
	must(t, err)
	if len(all) != 2 || all[0].ID != first.ID || all[1].ID != second.ID {
		t.Fatalf("got %+v", all)
	}
	got := map[string]string{}
	for _, f := range all[1].Files {
		data, err := all[1].ReadFile(root, f)
		must(t, err)
		got[f.Name] = string(data)
	}
	if want := map[string]string{"10.yaml": "back", "90.yaml": "new"}; !maps.Equal(got, want) || !slices.Equal(all[1].Removed, []string{"91.yaml"}) {
		t.Errorf("got %v, removed %v", got, all[1].Removed)
	}
	info, err := os.Stat(filepath.Join(root.Path(), Dir, second.ID, "90.yaml"))
	must(t, err)
	above, err := os.Stat(filepath.Join(root.Path(), Dir))
	must(t, err)
	if info.Mode().Perm() != 0o600 || above.Mode().Perm() != 0o700 {
		t.Errorf("everybody can read a staged config: %v beneath %v", info.Mode(), above.Mode())
	}
}

func TestOverlay(t *testing.T) {
	g := &Generation{ID: "2-0123456789ab", Files: []File{{Name: "50.yaml"}, {Name: "90.yaml"}}, Removed: []string{"10.yaml"}}
	plain := []string{"/oem/.generations/1-000000000000/90.yaml", "/oem/10.yaml", "/oem/40.yaml", "/oem/60/90.yaml", "/oem/90.yaml", "/oem/95.yaml"}
	if got, want := strings.Join(g.Overlay(plain), " "), "/oem/40.yaml /oem/.generations/2-0123456789ab/50.yaml /oem/60/90.yaml /oem/.generations/2-0123456789ab/90.yaml /oem/95.yaml"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var none *Generation
	if got := none.Overlay(plain); !slices.Equal(got, plain[1:]) {
		t.Errorf("without a generation: %s", got)
	}
}

func TestDamage(t *testing.T) {
	root, disk := oem(t)
	g, err := Write(disk, Change{Put: map[string][]byte{"90.yaml": []byte("a")}}, now)
	must(t, err)
	must(t, g.Verify(root))
	file := filepath.Join(root.Path(), g.Path("90.yaml"))
	must(t, os.WriteFile(file, []byte("b"), 0o600))
	if err := g.Verify(root); err == nil || !strings.Contains(err.Error(), "90.yaml has another digest") {
		t.Errorf("got %v", err)
	}
	if _, err := Write(disk, Change{Base: g}, now); err == nil {
		t.Error("a damaged base was taken over")
	}
	must(t, os.WriteFile(filepath.Join(root.Path(), g.Path(manifest)), []byte("{}"), 0o600))
	if _, err := Read(root, g.ID); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got %v", err)
	}
	for _, id := range []string{"", "../x", "1-0123456789AB", "01-0123456789ab", "7-0123456789ab"} {
		if _, err := Read(root, id); err == nil {
			t.Errorf("%q was read", id)
		}
	}
}

func TestFromCommandLine(t *testing.T) {
	for line, want := range map[string]string{
		`init.args="a kairos.config_generation=9-bad b"`: "",
		"quiet": "", "a kairos.config_generation=1-a b kairos.config_generation=2-b\n": "2-b", "kairos.config_generationx=1": "",
	} {
		if got := FromCommandLine(line); got != want {
			t.Errorf("%q: got %q", line, got)
		}
	}
}

// errCut is a power cut.
var errCut = errors.New("power cut")

// cut is a disk that loses power before its call number left, for good.
type cut struct {
	Disk
	left int
}

func (c *cut) live() error {
	if c.left--; c.left < 0 {
		return errCut
	}
	return nil
}

func (c *cut) Mkdir(name string) error {
	if err := c.live(); err != nil {
		return err
	}
	return c.Disk.Mkdir(name)
}

// Write leaves half a file when the power is cut.
func (c *cut) Write(name string, data []byte) error {
	if err := c.live(); err != nil {
		_ = c.Disk.Write(name, data[:len(data)/2])
		return err
	}
	return c.Disk.Write(name, data)
}

func (c *cut) Rename(from, to string) error {
	if err := c.live(); err != nil {
		return err
	}
	return c.Disk.Rename(from, to)
}

func (c *cut) SyncDir(name string) error {
	if err := c.live(); err != nil {
		return err
	}
	return c.Disk.SyncDir(name)
}

func (c *cut) RemoveAll(name string) error {
	if err := c.live(); err != nil {
		return err
	}
	return c.Disk.RemoveAll(name)
}

// TestPowerCut cuts the power before each call of a staging: the old
// generation is whole, the new one is whole or isn't there, and the next
// staging works.
func TestPowerCut(t *testing.T) {
	for calls := 0; ; calls++ {
		root, disk := oem(t)
		old, err := Write(disk, Change{Put: map[string][]byte{"90.yaml": []byte("old"), "91.yaml": []byte("kept")}}, now)
		must(t, err)
		change := Change{Base: old, Put: map[string][]byte{"90.yaml": []byte("new")}}
		_, err = Write(&cut{disk, calls}, change, now)
		if err != nil && !errors.Is(err, errCut) {
			t.Fatalf("call %d: %v", calls, err)
		}
		must(t, old.Verify(root))
		all, damaged := All(root)
		if damaged != nil || len(all) > 2 || len(all) < 1 {
			t.Fatalf("call %d: %+v, %v", calls, all, damaged)
		}
		if len(all) == 2 {
			must(t, all[1].Verify(root))
		} else if err == nil {
			t.Fatalf("call %d: nothing was written, and there is no error", calls)
		}
		next, again := Write(disk, change, now)
		must(t, again)
		must(t, next.Verify(root))
		if err == nil {
			if calls < 6 {
				t.Fatalf("only %d calls could fail", calls)
			}
			return
		}
	}
}

func TestCollect(t *testing.T) {
	root, disk := oem(t)
	var ids []string
	for range 5 {
		g, err := Write(disk, Change{Put: map[string][]byte{"90.yaml": []byte("x")}}, now)
		must(t, err)
		ids = append(ids, g.ID)
	}
	must(t, disk.Mkdir(dirName+"/"+unfinished+"9-000000000000"))
	removed, err := Collect(disk, []string{ids[0]}, 3)
	must(t, err)
	if !slices.Equal(removed, ids[1:3]) {
		t.Errorf("removed %v of %v", removed, ids)
	}
	names, err := disk.ReadDir(dirName)
	must(t, err)
	if slices.Sort(names); !slices.Equal(names, []string{ids[0], ids[3], ids[4]}) {
		t.Errorf("left %v", names)
	}
	all, err := All(root)
	must(t, err)
	if len(all) != 3 {
		t.Errorf("got %+v", all)
	}
	// A power cut while one is removed leaves it whole, or none.
	for calls := range 3 {
		_, _ = Collect(&cut{disk, calls}, nil, 0)
		if _, damaged := All(root); damaged != nil {
			t.Error(damaged)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("1-0123456789ab", []byte(`{"number":1,"files":[{"name":"a.yaml"}]}`))
	_, content, err := prepare(nothing{}, Change{Put: map[string][]byte{"90.yaml": nil}}, now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("1-"+digest(content[manifest])[:12], content[manifest])
	f.Fuzz(func(t *testing.T, id string, data []byte) {
		g, err := Parse(id, data)
		if err != nil {
			return
		}
		for _, file := range g.Files {
			if filepath.Dir(g.Path(file.Name)) != Dir+"/"+id {
				t.Errorf("%q leads to %s", file.Name, g.Path(file.Name))
			}
		}
	})
}

// nothing is an empty disk.
type nothing struct{ Disk }

func (nothing) ReadDir(string) ([]string, error) { return nil, nil }
