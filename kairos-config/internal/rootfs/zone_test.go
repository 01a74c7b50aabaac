package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/testroot"
	"golang.org/x/sys/unix"
)

const user = 1000

// userDir makes a root with a directory /d of a user, and a file that only root
// may read.
func userDir(t testing.TB) (r *Root, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for chown")
	}
	dir = testroot.New(t)
	own(t, dir, "d", 0o755|os.ModeDir, user)
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	return open(t, dir), dir
}

func own(t testing.TB, dir, name string, mode os.FileMode, uid int) {
	t.Helper()
	name = filepath.Join(dir, name)
	var err error
	if mode.IsDir() {
		err = os.Mkdir(name, 0o755)
	} else {
		err = os.WriteFile(name, []byte("old"), 0o644)
	}
	if err = errors.Join(err, os.Lchown(name, uid, uid), os.Chmod(name, mode.Perm()|mode&(os.ModeSetuid|os.ModeSticky))); err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, dir, target, name string, uid int) {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := errors.Join(os.Symlink(target, name), os.Lchown(name, uid, uid)); err != nil {
		t.Fatal(err)
	}
}

// TestTransitions: the ways that are gone, and those that are not.
func TestTransitions(t *testing.T) {
	r, dir := userDir(t)
	own(t, dir, "d/own", 0o755|os.ModeDir, user)
	own(t, dir, "d/roots", 0o755|os.ModeDir, 0)
	own(t, dir, "d/others", 0o755|os.ModeDir, user+1)
	own(t, dir, "shared", 0o777|os.ModeDir|os.ModeSticky, 0)
	own(t, dir, "shared/own", 0o755|os.ModeDir, user)
	link(t, dir, "own", "d/to-own", user)
	link(t, dir, "own/../own", "d/around", user)
	link(t, dir, "roots", "d/to-roots", user)
	link(t, dir, "others", "d/to-others", user)
	link(t, dir, "/d/own", "d/absolute", user)
	link(t, dir, "../etc", "d/up", user)
	link(t, dir, "own", "d/of-root", 0) // as a file system of a user can have it
	link(t, dir, "own", "d/of-other", user+1)
	link(t, dir, "../own", "d/roots/in-root", user)
	link(t, dir, "/d/own", "root-to-user", 0)
	link(t, dir, "/etc", "shared/root", 0)
	link(t, dir, "/etc", "shared/user", user)
	link(t, dir, "own", "shared/to-own", user)
	link(t, dir, "../etc", "user-in-root", user)
	for name, want := range map[string]bool{
		"/d/own/f": true, "/d/roots/f": true, "/d/others/f": false, "/d/to-own/f": true, "/d/around/f": true, "/d/to-roots/f": false,
		"/d/to-others/f": false, "/d/to-roots/sub/f": false, "/d/absolute/f": false, "/d/up/f": false, "/d/of-root/f": false, "/d/of-other/f": false,
		"/d/roots/in-root/f": true, "/root-to-user/f": true,
		"/shared/own/f": true, "/shared/root/f": true, "/shared/user/f": false, "/shared/to-own/f": true, "/user-in-root/f": false,
		"/var/run/f": true, "/bin/f": true,
	} {
		_, err := r.WriteFile(name, []byte("x"), KeepAll)
		if (err == nil) != want || err != nil && !errors.Is(err, ErrUnsafe) && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v, want %t", name, err, want)
		}
		if _, err := r.Mkdir(filepath.Dir(name)+"/m"+strings.ReplaceAll(name, "/", "-")+"/n", Attr{0o755, user, user}); (err == nil) != want {
			t.Errorf("mkdir %s: %v, want %t", name, err, want)
		}
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "etc")); len(entries) == 0 || strings.Contains(fmt.Sprint(entries), "m/") {
		t.Errorf("%v", entries)
	}
}

// TestHardLinks: a file of root that a user gave a name in his directory keeps
// its owner, mode and content, and its content stays secret. Where the kernel
// protects hard links nobody can do this: proc_sys_fs(5).
func TestHardLinks(t *testing.T) {
	mine := Attr{0o644, user, user}
	for name, change := range map[string]func(r *Root) error{
		"the same content":  func(r *Root) error { _, err := r.WriteFile("/d/f", []byte("secret"), mine); return err },
		"other content":     func(r *Root) error { _, err := r.WriteFile("/d/f", []byte("other"), mine); return err },
		"what keeps owners": func(r *Root) error { _, err := r.WriteFile("/d/f", []byte("other"), KeepAll); return err },
		"a digest": func(r *Root) error {
			_, _, err := r.HasDigest("/d/f", "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b", mine)
			return err
		},
		"an edit": func(r *Root) error {
			_, err := r.Edit("/d/f", 100, mine, func(old []byte, _ *Attr) ([]byte, error) { return append(old, '!'), nil })
			if !errors.Is(err, ErrUnsafe) {
				return fmt.Errorf("it was read: %w", err)
			}
			return nil
		},
	} {
		for _, setuid := range []os.FileMode{0, os.ModeSetuid} {
			r, dir := userDir(t)
			secret := filepath.Join(dir, "secret")
			if err := errors.Join(os.Chmod(secret, 0o600|setuid), os.Link(secret, filepath.Join(dir, "d/f"))); err != nil {
				t.Fatal(err)
			}
			if err := change(r); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			var st unix.Stat_t
			if err := unix.Stat(secret, &st); err != nil || st.Uid != 0 || st.Mode&0o777 != 0o600 || read(t, dir, "secret") != "secret" {
				t.Errorf("%s: the file is %o, uid %d, %q", name, st.Mode, st.Uid, read(t, dir, "secret"))
			}
			if info, err := os.Stat(filepath.Join(dir, "d/f")); name != "an edit" && name != "a digest" && (err != nil || info.Mode()&os.ModeSetuid != 0) {
				t.Errorf("%s: what is in its place is setuid: %v", name, err)
			}
		}
	}
}

// TestLinkWithOtherNames: in a directory that everybody may write to, root's
// link may be there by another's hand.
func TestLinkWithOtherNames(t *testing.T) {
	r, dir := userDir(t)
	own(t, dir, "shared", 0o777|os.ModeDir|os.ModeSticky, 0)
	link(t, dir, "/etc", "roots", 0)
	if err := os.Link(filepath.Join(dir, "roots"), filepath.Join(dir, "shared/x")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.WriteFile("/shared/x/f", nil, KeepAll); !errors.Is(err, ErrUnsafe) {
		t.Errorf("got %v", err)
	}
	if _, err := r.WriteFile("/roots/f", nil, KeepAll); err != nil {
		t.Error(err)
	}
}

// TestSwapped: a user who exchanges a directory for a link, over and over, while
// root writes there, gets root to nowhere else.
func TestSwapped(t *testing.T) {
	r, dir := userDir(t)
	own(t, dir, "d/a", 0o755|os.ModeDir, user)
	own(t, dir, "victim", 0o755|os.ModeDir, 0)
	own(t, dir, "victim/f", 0o644, 0)
	link(t, dir, "../victim", "d/b", user)
	link(t, dir, "../../victim/f", "d/a/g", user)
	own(t, dir, "d/a/f", 0o644, user)
	d, err := os.Open(filepath.Join(dir, "d"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	stop := make(chan struct{})
	var swapping sync.WaitGroup
	a, err := os.Open(filepath.Join(dir, "d/a"))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	swap := func(d *os.File, a, b string) {
		defer swapping.Done()
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(int(d.Fd()), a, int(d.Fd()), b, unix.RENAME_EXCHANGE)
			}
		}
	}
	swapping.Add(2)
	go swap(d, "a", "b")
	go swap(a, "f", "g")
	wrote, refused := 0, 0
	for i := 0; i < 3000 || wrote == 0 || refused == 0; i++ {
		var err error
		switch i % 3 {
		case 0:
			_, err = r.WriteFile("/d/a/f", fmt.Append(nil, i), Attr{0o666, user, user})
		case 1:
			_, err = r.Mkdir("/d/a/sub/dir", Attr{0o777, user, user})
		case 2:
			_, err = r.Edit("/d/a/f", 1<<20, Attr{0o666, user, user}, func(old []byte, _ *Attr) ([]byte, error) { return fmt.Append(old, i), nil })
		}
		if err == nil {
			wrote++
		} else {
			refused++
		}
		if i > 1_000_000 {
			break
		}
	}
	close(stop)
	swapping.Wait()
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "victim"), &st); err != nil || st.Uid != 0 || st.Mode&0o777 != 0o755 {
		t.Errorf("the directory is %o, uid %d, %v", st.Mode, st.Uid, err)
	}
	if err := unix.Stat(filepath.Join(dir, "victim/f"), &st); err != nil || st.Uid != 0 || st.Mode&0o777 != 0o644 || read(t, dir, "victim/f") != "old" {
		t.Errorf("the file is %o, uid %d, %v", st.Mode, st.Uid, err)
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "victim")); len(entries) != 1 {
		t.Errorf("made there: %v", entries)
	}
	if wrote == 0 || refused == 0 {
		t.Errorf("the race did not happen: %d written, %d refused", wrote, refused)
	}
}

// FuzzTransitions: no way through directories and links of a user ends at what
// is not the user's, and none of root's is refused. Each pair of bytes is a step:
// who owns it, and what it is.
func FuzzTransitions(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 1, 1, 0, 0})
	f.Add([]byte{0, 0, 1, 2, 1, 0, 2, 0})
	f.Add([]byte{0, 4, 0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, steps []byte) {
		var z zone
		var first uint32 // the user who decides
		decides, linked := false, false
		for len(steps) >= 2 {
			uid, kind := uint32(steps[0]%3)*user, steps[1]
			steps = steps[2:]
			to := inode{uid: uid, link: kind&1 != 0, file: kind&33 == 32, absolute: kind&3 == 3, shared: kind&4 != 0, links: 1 + uint64(kind>>3&1)}
			if kind&16 != 0 {
				next, err := z.leave(uid)
				if err == nil && decides && uid != first {
					t.Fatal("left the user's directories")
				}
				if err != nil && !decides {
					t.Fatal("refused root's own way back")
				}
				if err == nil {
					z = next
				}
				continue
			}
			next, err := z.enter(to)
			if !decides && uid == 0 && err != nil && !(to.link && to.shared && to.links > 1) {
				t.Fatalf("refused root's own way: %+v: %v", to, err)
			}
			if err != nil {
				continue
			}
			switch {
			case decides && uid != first && (uid != 0 || to.link || linked && !to.file):
				t.Fatalf("from uid %d to %+v, linked %t", first, to, linked)
			case (decides || uid != 0) && to.absolute && to.link:
				t.Fatalf("followed a user's link to an absolute path: %+v", to)
			}
			if !decides && uid != 0 {
				decides, first = true, uid
			}
			linked = linked || decides && to.link
			z = next
		}
	})
}
