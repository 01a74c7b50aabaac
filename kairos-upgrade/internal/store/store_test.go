package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// What these tests cannot prove: that the kernel's fs-verity behaves as
// software does, and what a power cut leaves. Both are tried in the virtual
// machine.

// software is fs-verity by inode number, without the kernel's help.
type software struct {
	mu      sync.Mutex
	enabled map[uint64]fsverity.Digest
	lie     bool // measure something else
}

func newSoftware() *software { return &software{enabled: map[uint64]fsverity.Digest{}} }

func (k *software) Enable(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	d, _, err := fsverity.File(f)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lie {
		d[0]++
	}
	k.enabled[inode(info)] = d
	return nil
}

func (k *software) Measure(f *os.File) (fsverity.Digest, error) {
	info, err := f.Stat()
	if err != nil {
		return fsverity.Digest{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	d, ok := k.enabled[inode(info)]
	if !ok {
		return d, fsverity.ErrNotEnabled
	}
	return d, nil
}

// none is a kernel without fs-verity.
type none struct{}

func (none) Enable(*os.File) error { return fsverity.ErrNotSupported }
func (none) Measure(*os.File) (fsverity.Digest, error) {
	return fsverity.Digest{}, fsverity.ErrNotSupported
}

func writer(t *testing.T, dir string, k Kernel) *Store {
	t.Helper()
	v, err := view.Writable(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := openWriter(t.Context(), v, Holder{PID: os.Getpid(), Command: "test", Since: time.Now()}, k, mayBeStore)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// both runs a test with and without fs-verity.
func both(t *testing.T, test func(t *testing.T, k Kernel)) {
	t.Run("verity", func(t *testing.T) { test(t, newSoftware()) })
	t.Run("plain", func(t *testing.T) { test(t, none{}) })
}

func content(seed uint64, size int) []byte {
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, size)
	random.Read(b)
	return b
}

func put(t *testing.T, s *Store, b []byte) fsverity.Digest {
	t.Helper()
	d, err := s.Put(t.Context(), bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPut(t *testing.T) {
	both(t, func(t *testing.T, k Kernel) {
		s := writer(t, t.TempDir(), k)
		for _, size := range []int{0, 1, 4096, inMemory, inMemory + 1, 3 << 20} {
			b := content(uint64(size), size)
			d := put(t, s, b)
			if d != fsverity.Bytes(b) {
				t.Fatalf("%d bytes: digest %s", size, d)
			}
			if !s.Has(d) {
				t.Errorf("%d bytes: not present after Put", size)
			}
			if again := put(t, s, b); again != d {
				t.Errorf("%d bytes: second digest %s", size, again)
			}
		}
		if err := s.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(s.Added()); n != 6 {
			t.Errorf("%d objects added, want 6", n)
		}
		for _, a := range s.Added() {
			if size, err := s.CheckObject(a.Digest); err != nil || size != a.Size {
				t.Errorf("check %s: %d bytes, %v", a.Digest, size, err)
			}
		}
		if names, _ := os.ReadDir(filepath.Join(s.View().Path, tmpDir)); len(names) > 0 {
			t.Errorf("left in tmp: %v", names)
		}
	})
}

func TestPutParallel(t *testing.T) {
	both(t, func(t *testing.T, k Kernel) {
		s := writer(t, t.TempDir(), k)
		var all sync.WaitGroup
		for g := range 8 {
			all.Go(func() {
				for i := range 100 { // the same contents from all sides
					b := content(uint64(i), 100+i*37)
					if _, err := s.Put(context.Background(), bytes.NewReader(b), int64(len(b))); err != nil {
						t.Error(err)
					}
					if g == 0 && i%25 == 0 {
						if err := s.Commit(context.Background()); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		all.Wait()
		if err := s.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(s.Added()); n != 100 {
			t.Errorf("%d objects added, want 100", n)
		}
	})
}

func TestPutFailures(t *testing.T) {
	both(t, func(t *testing.T, k Kernel) {
		s := writer(t, t.TempDir(), k)
		for _, size := range []int64{100, inMemory + 100} {
			if _, err := s.Put(t.Context(), strings.NewReader("short"), size); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("short content of %d bytes: %v", size, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Put(ctx, strings.NewReader("x"), 1); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
	})
}

// A name in objects is that of a complete file: without fs-verity, nothing is
// named before Commit.
func TestNotNamedBeforeCommit(t *testing.T) {
	dir := t.TempDir()
	s := writer(t, dir, none{})
	d := put(t, s, content(1, 5000))
	s.mu.Lock()
	for len(s.unfinished) > 0 {
		s.finished.Wait()
	}
	s.mu.Unlock()
	if _, err := os.Stat(filepath.Join(dir, ObjectPath(d))); err == nil {
		t.Fatal("the object has its name already")
	}
	f, err := s.OpenObject(d)
	if err != nil {
		t.Fatalf("open before commit: %v", err)
	}
	f.Close()
	killed := filepath.Join(t.TempDir(), "killed")
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if writer(t, killed, none{}).Has(d) {
		t.Error("an object survived that was never committed")
	}
	s.Close() // which commits what is whole
	if _, err := os.Stat(filepath.Join(dir, ObjectPath(d))); err != nil {
		t.Error(err)
	}
}

// With fs-verity a name alone is not trusted.
func TestNameAloneIsNotTrusted(t *testing.T) {
	dir := t.TempDir()
	k := newSoftware()
	s := writer(t, dir, k)
	b := content(2, 5000)
	d := fsverity.Bytes(b)
	name := filepath.Join(dir, ObjectPath(d))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("half of it"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s.Has(d) {
		t.Fatal("a file without fs-verity counts as present")
	}
	put(t, s, b)
	if err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CheckObject(d); err != nil {
		t.Errorf("not replaced: %v", err)
	}
}

func TestKernelDisagrees(t *testing.T) {
	k := newSoftware()
	s := writer(t, t.TempDir(), k)
	k.lie = true
	d := put(t, s, content(3, 5000))
	err := s.Commit(t.Context())
	if !errors.Is(err, fsverity.ErrMismatch) {
		t.Fatalf("commit: %v", err)
	}
	if s.Has(d) {
		t.Error("the object is present")
	}
	if _, err := s.Put(t.Context(), strings.NewReader("next"), 4); !errors.Is(err, fsverity.ErrMismatch) {
		t.Errorf("next put: %v", err)
	}
}

func TestCopy(t *testing.T) {
	both(t, func(t *testing.T, k Kernel) {
		from := writer(t, t.TempDir(), k)
		good, bad := put(t, from, content(4, 300<<10)), put(t, from, content(5, 5000))
		if err := from.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		damage(t, filepath.Join(from.View().Path, ObjectPath(bad)))
		s := writer(t, t.TempDir(), k)
		if err := s.Copy(t.Context(), from, good); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.CheckObject(good); err != nil {
			t.Error(err)
		}
		if err := errors.Join(s.Copy(t.Context(), from, bad), s.Commit(t.Context())); !errors.Is(err, fsverity.ErrMismatch) {
			t.Errorf("copy of a damaged object: %v", err)
		}
		if s.Has(bad) {
			t.Error("a damaged object is present")
		}
	})
}

func damage(t *testing.T, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	s := writer(t, dir, none{})
	v, err := view.Writable(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = openWriter(t.Context(), v, Holder{Command: "second"}, none{}, isStore)
	var busy *BusyError
	if !errors.As(err, &busy) || busy.Holder.PID != os.Getpid() || busy.Holder.Command != "test" {
		t.Fatalf("second writer: %v", err)
	}
	r := reader(t, dir, none{})
	if h := r.Busy(); h == nil || h.Command != "test" {
		t.Errorf("busy: %v", h)
	}
	s.Close()
	if h := r.Busy(); h != nil {
		t.Errorf("busy after close: %v", h)
	}
	writer(t, dir, none{})
}

func reader(t *testing.T, dir string, k Kernel) *Store {
	t.Helper()
	v, err := view.Readonly(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := open(v, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestOpenNothing(t *testing.T) {
	v, err := view.Readonly(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(v, none{}); !errors.Is(err, ErrNoStore) {
		t.Errorf("open an empty directory: %v", err)
	}
}

func TestReadVerity(t *testing.T) {
	dir := t.TempDir()
	writer(t, dir, newSoftware()).Close()
	if !reader(t, dir, newSoftware()).Verity() {
		t.Error("fs-verity not seen")
	}
	if reader(t, dir, none{}).Verity() {
		t.Error("fs-verity seen where there is none")
	}
}

func TestPutImage(t *testing.T) {
	both(t, func(t *testing.T, k Kernel) {
		s := writer(t, t.TempDir(), k)
		b := content(6, 100_000)
		write := func(w io.Writer) error { _, err := w.Write(b); return err }
		for range 2 {
			d, err := s.PutImage(write)
			if err != nil || d != fsverity.Bytes(b) {
				t.Fatalf("digest %s, %v", d, err)
			}
		}
		if err := s.CheckImage(fsverity.Bytes(b)); err != nil {
			t.Error(err)
		}
		if _, err := s.PutImage(func(io.Writer) error { return io.ErrClosedPipe }); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("failed writer: %v", err)
		}
		if names, _ := os.ReadDir(filepath.Join(s.View().Path, tmpDir)); len(names) > 0 {
			t.Errorf("left in tmp: %v", names)
		}
	})
}

func TestSweep(t *testing.T) {
	both(t, func(t *testing.T, k Kernel) {
		s := writer(t, t.TempDir(), k)
		keep, drop := put(t, s, content(7, 5000)), put(t, s, content(8, 6000))
		if err := s.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		live := Live{Objects: map[fsverity.Digest]struct{}{keep: {}}}
		for _, dryRun := range []bool{true, false} {
			swept, err := s.Sweep(live, dryRun)
			if err != nil || swept.Objects != 1 || swept.Bytes < 6000 {
				t.Fatalf("dry run %v: %+v, %v", dryRun, swept, err)
			}
			if s.Has(drop) != dryRun && !dryRun {
				t.Error("the object is still present")
			}
			if !s.Has(keep) {
				t.Error("a live object is gone")
			}
		}
		if swept, err := s.Sweep(live, false); err != nil || swept != (Swept{}) {
			t.Errorf("second sweep: %+v, %v", swept, err)
		}
	})
}

func TestUndo(t *testing.T) {
	both(t, func(t *testing.T, k Kernel) {
		dir := t.TempDir()
		before := writer(t, dir, k)
		old := put(t, before, content(9, 5000))
		if err := before.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		before.Close()
		want := names(t, dir)

		s := writer(t, dir, k)
		put(t, s, content(9, 5000))
		put(t, s, content(10, 5000))
		put(t, s, content(11, 500_000))
		if _, err := s.PutImage(func(w io.Writer) error { _, err := w.Write(content(12, 5000)); return err }); err != nil {
			t.Fatal(err)
		}
		if err := s.Undo(); err != nil {
			t.Fatal(err)
		}
		if !s.Has(old) {
			t.Error("an older object is gone")
		}
		s.Close()
		if got := names(t, dir); got != want {
			t.Errorf("after undo:\n%s\nwant:\n%s", got, want)
		}
	})
}

// names lists the files beneath dir.
func names(t *testing.T, dir string) string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, "\n")
}

func TestNextSerial(t *testing.T) {
	dir := t.TempDir()
	s := writer(t, dir, none{})
	next := func(want uint64, used ...uint64) {
		t.Helper()
		if n, err := s.NextSerial(used...); err != nil || n != want {
			t.Errorf("serial %d, %v; want %d", n, err, want)
		}
	}
	next(1)
	next(2)
	next(8, 3, 7)
	digest := "sha256:" + strings.Repeat("ab", 32)
	r := deployment.Record{Format: deployment.Format, ID: deployment.NewID(20, digest), Serial: 20, ImageDigest: digest}
	if err := s.PutRecord(r); err != nil {
		t.Fatal(err)
	}
	next(21)
	if err := os.WriteFile(filepath.Join(dir, serialFile), []byte("\x00\x00"), 0o644); err != nil {
		t.Fatal(err)
	}
	next(21) // the records know
}

func TestQuarantine(t *testing.T) {
	s := writer(t, t.TempDir(), none{})
	digest := "sha256:" + strings.Repeat("cd", 32)
	for i, reason := range []string{"the first", "a consequence"} {
		added, err := s.PutQuarantine(deployment.Quarantine{ManifestDigest: digest, Reason: reason})
		if err != nil || added != (i == 0) {
			t.Errorf("%s: %v, %v", reason, added, err)
		}
	}
	q, err := deployment.Quarantined(s.Root(), digest)
	if err != nil || q.Reason != "the first" {
		t.Errorf("%+v, %v", q, err)
	}
	for _, want := range []bool{true, false} {
		if removed, err := s.RemoveQuarantine(digest); err != nil || removed != want {
			t.Errorf("remove: %v, %v", removed, err)
		}
	}
	if _, err := s.PutQuarantine(deployment.Quarantine{ManifestDigest: "../x"}); err == nil {
		t.Error("a path was taken for a digest")
	}
}

func TestUnfinishedIsRemoved(t *testing.T) {
	dir := t.TempDir()
	writer(t, dir, none{}).Close()
	want := names(t, dir)
	for _, name := range []string{"tmp/17", "deployments/.#1-0123456789ab.json", ".#serial", "layers/.#ab"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	writer(t, dir, none{}) // at the beginning, not only at the end
	if got := names(t, dir); got != want {
		t.Errorf("left:\n%s\nwant:\n%s", got, want)
	}
}

func TestHoldsFlock(t *testing.T) {
	locks := "1: POSIX  ADVISORY  WRITE 700 00:1a:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 701 fe:00:123 0 EOF\n3: FLOCK  ADVISORY  READ 702 fe:00:124 0 EOF\n"
	for ino, want := range map[uint64]bool{77: false, 123: true, 23: false, 124: false} {
		if _, got := holdsFlock(locks, ino); got != want {
			t.Errorf("inode %d: %v", ino, got)
		}
	}
}
