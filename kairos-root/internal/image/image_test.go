package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"github.com/kairos-io/toolkit/lib/mount"
	"github.com/kairos-io/toolkit/lib/mount/namespacetest"

	"github.com/kairos-io/toolkit/kairos-root/internal/loop"
	"github.com/kairos-io/toolkit/kairos-root/internal/mounttest"
)

func TestMain(m *testing.M) { namespacetest.Main(m) }

func openStore(t *testing.T, image string) (store *os.Root, digest string) {
	dir := t.TempDir()
	digest = mounttest.Store(t, dir, image)
	store, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store, digest
}

func TestOpenRefuses(t *testing.T) {
	store, digest := openStore(t, "full")
	other := strings.Repeat("0", 64)
	mounttest.Write(t, filepath.Join(store.Name(), "images", other), mounttest.Content(t, filepath.Join(store.Name(), "images", digest)))
	text := strings.Repeat("no image\n", 1000)
	t.Run("missing", func(t *testing.T) {
		_, err := Open(store, strings.Repeat("1", 64), false)
		if !errors.Is(err, fs.ErrNotExist) || exit.HintOf(err) == "" {
			t.Errorf("error %v", err)
		}
	})
	t.Run("other digest", func(t *testing.T) {
		if _, err := Open(store, other, false); !errors.Is(err, ErrDigest) || !strings.Contains(err.Error(), digest) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("changed byte", func(t *testing.T) {
		file := filepath.Join(store.Name(), "images", digest)
		data := []byte(mounttest.Content(t, file))
		data[len(data)/2] ^= 1
		mounttest.Write(t, file, string(data))
		if _, err := Open(store, digest, false); !errors.Is(err, ErrDigest) {
			t.Errorf("error %v", err)
		}
		data[len(data)/2] ^= 1
		mounttest.Write(t, file, string(data))
	})
	t.Run("no verity", func(t *testing.T) {
		if _, err := Open(store, digest, true); err == nil || !strings.Contains(err.Error(), "fs-verity") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("no image", func(t *testing.T) {
		sum := digestOf(text)
		mounttest.Write(t, filepath.Join(store.Name(), "images", sum), text)
		if _, err := Open(store, sum, false); err == nil || !strings.Contains(err.Error(), "not a composefs image") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("bad name", func(t *testing.T) {
		if _, err := Open(store, "../images/x", false); err == nil {
			t.Error("accepted")
		}
	})
}

// TestRoot mounts both images and looks at them as the running system would.
func TestRoot(t *testing.T) {
	namespacetest.Need(t, "erofs", "overlay")
	for _, tc := range []struct {
		image string
		added []string
	}{{"full", nil}, {"bare", []string{"efi", "oem", "sys", "usr/local"}}} {
		t.Run(tc.image, func(t *testing.T) {
			store, digest := openStore(t, tc.image)
			im, err := Open(store, digest, false)
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			root := mountRoot(t, im, store)
			if !slices.Equal(root.Added, tc.added) {
				t.Errorf("added %v, want %v", root.Added, tc.added)
			}
			at := t.TempDir()
			if err := root.Tree.AttachAt(at); err != nil {
				t.Fatal(err)
			}
			defer mount.Detach(at)
			for name, content := range mounttest.Contents {
				if tc.image == "bare" && strings.HasPrefix(name, "/usr/local/") {
					continue
				}
				if got := mounttest.Content(t, filepath.Join(at, name)); got != content {
					t.Errorf("%s: %q", name, got)
				}
			}
			for _, dir := range mountPoints {
				if info, err := os.Stat(filepath.Join(at, dir)); err != nil || !info.IsDir() {
					t.Errorf("%s: %v", dir, err)
				}
			}
			checkMetadata(t, at)
			if err := os.WriteFile(filepath.Join(at, "new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
				t.Errorf("write to the root: %v", err)
			}
			if err := os.WriteFile(filepath.Join(at, "usr/bin/tool"), nil, 0o644); !errors.Is(err, unix.EROFS) {
				t.Errorf("write to a file: %v", err)
			}
		})
	}
}

// checkMetadata sees that an added layer hides nothing of the image's own.
func checkMetadata(t *testing.T, at string) {
	t.Helper()
	for _, dir := range []string{".", "usr"} {
		info, err := os.Stat(filepath.Join(at, dir))
		if err != nil || info.Mode().Perm() != 0o755 || info.ModTime().Unix() != 1700000000 {
			t.Errorf("%s: %v %v, %v", dir, info.Mode(), info.ModTime(), err)
		}
	}
	if names, err := os.ReadDir(filepath.Join(at, "usr")); err != nil || len(names) != 5 {
		t.Errorf("usr holds %v, %v", names, err)
	}
	if link, err := os.Readlink(filepath.Join(at, "bin")); link != "usr/bin" || err != nil {
		t.Errorf("bin: %q, %v", link, err)
	}
}

func mountRoot(t *testing.T, im *Image, store *os.Root) Root {
	t.Helper()
	metadata, aside := t.TempDir(), t.TempDir()
	tree, err := im.Create()
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.AttachAt(metadata); err != nil {
		t.Fatal(err)
	}
	// The root must outlive what it was made of.
	defer mount.Detach(metadata)
	root, err := im.CreateRoot(metadata, filepath.Join(store.Name(), "objects"), aside)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// TestOldKernels mounts as on kernels before 6.12 (through a loop device) and
// before 6.7 (lower layers as one string).
func TestOldKernels(t *testing.T) {
	namespacetest.Need(t, "erofs", "overlay")
	store, digest := openStore(t, "full")
	im, err := Open(store, digest, false)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	device, err := loop.Attach(im.file, 4096, 0, 0)
	if err != nil {
		t.Skip(err)
	}
	tree, err := im.create(device.Name())
	device.Close()
	if err != nil {
		t.Fatal(err)
	}
	// A colon must not end a path.
	metadata, at := filepath.Join(t.TempDir(), `a:b\c`), t.TempDir()
	if err := os.Mkdir(metadata, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := tree.AttachAt(metadata); err != nil {
		t.Fatal(err)
	}
	defer mount.Detach(metadata)
	o := Overlay{Lower: []string{metadata}, Objects: filepath.Join(store.Name(), "objects")}
	tree, err = o.fileSystem(mount.ReadOnly, o.joined()).Create()
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.AttachAt(at); err != nil {
		t.Fatal(err)
	}
	defer mount.Detach(at)
	if got := mounttest.Content(t, filepath.Join(at, "usr/bin/tool")); got != mounttest.Contents["/usr/bin/tool"] {
		t.Errorf("content %q", got)
	}
}

// TestMissingObject sees that an object that is gone is an error and never an
// empty file.
func TestMissingObject(t *testing.T) {
	namespacetest.Need(t, "erofs", "overlay")
	store, digest := openStore(t, "full")
	object := digestOf(mounttest.Contents["/usr/bin/tool"])
	if err := store.Remove(filepath.Join("objects", object[:2], object[2:])); err != nil {
		t.Fatal(err)
	}
	im, err := Open(store, digest, false)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	at := t.TempDir()
	if err := mountRoot(t, im, store).Tree.AttachAt(at); err != nil {
		t.Fatal(err)
	}
	defer mount.Detach(at)
	if data, err := os.ReadFile(filepath.Join(at, "usr/bin/tool")); err == nil {
		t.Errorf("read %q", data)
	}
}

// TestVerityRequired sees that an overlay with verity refuses objects that
// fs-verity does not protect.
func TestVerityRequired(t *testing.T) {
	namespacetest.Need(t, "erofs", "overlay")
	store, digest := openStore(t, "full")
	im, err := Open(store, digest, false)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	im.Verity = true
	at := t.TempDir()
	if err := mountRoot(t, im, store).Tree.AttachAt(at); err != nil {
		t.Fatal(err)
	}
	defer mount.Detach(at)
	if data, err := os.ReadFile(filepath.Join(at, "usr/bin/tool")); !errors.Is(err, unix.EIO) {
		t.Errorf("read %q, %v", data, err)
	}
	if got := mounttest.Content(t, filepath.Join(at, "etc/os-release")); got != "ID=kairos-test\n" {
		t.Errorf("inline file: %q", got)
	}
}

func digestOf(content string) string { return fsverity.Bytes([]byte(content)).String() }
