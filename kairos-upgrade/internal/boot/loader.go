package boot

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

// Loader is a boot loader: it publishes a deployment as an entry that names boot files.
type Loader interface {
	// Entries returns all entries; the first one boots next.
	Entries() ([]bls.Entry, error)
	// Publish makes an entry bootable in one step, or replaces the one of the
	// same name.
	Publish(bls.Entry) error
	// Remove removes the entry with a base name; none is no error.
	Remove(base string) error
	// Entry returns the entry for a deployment, to be named and published.
	Entry(deployment.Record) bls.Entry
	// Put writes a boot file unless it is there, makes it durable, and reads
	// it back. Wrong content is an error.
	Put(f deployment.File, open func() (io.ReadCloser, error)) error
	// Check reads a boot file and compares it with its digest.
	Check(deployment.File) error
	// Open opens a boot file for reading, whatever it holds.
	Open(deployment.File) (io.ReadCloser, error)
	// Missing returns how many bytes Put would have to write.
	Missing(files []deployment.File) (int64, error)
	// Sweep removes the boot files that no entry names, and returns them. A
	// dry run only lists them, as if the entries with some base names were
	// gone already.
	Sweep(dryRun bool, gone ...string) ([]deployment.File, error)
	// Space returns the size and the free space of the file system with the boot files,
	// in bytes.
	Space() (size, free int64, err error)
	// Default returns the pattern (path.Match) of the entry that boots without
	// being chosen, "" where that is the first one.
	Default() string
	// Others returns the total size of files of other programs on that file system, in
	// bytes, and the largest ones by name.
	Others() (size int64, names []string)
	// Path is where boot files are, for messages.
	Path() string
	// Keep writes a small file beside the boot files, where it outlives the
	// store, and Kept reads it. Errors of Kept: fs.ErrNotExist.
	Keep(name string, data []byte) error
	Kept(name string) ([]byte, error)
	// Programs is where the programs of systemd-boot are, for package sdboot to
	// upgrade; nil for a boot loader that others take care of.
	Programs() *os.Root
}

// SystemdBoot is systemd-boot on a mounted EFI system partition.
type SystemdBoot struct {
	esp bls.ESP
	// view is what the partition was opened in.
	view *view.View
	// uki says that the loader knows the key "uki" (systemd 258).
	uki bool
}

// NewSystemdBoot returns the loader on an ESP. Whether it knows the key "uki" of
// entries is told by the program that lies there; ukiKey says so where none does.
func NewSystemdBoot(v *view.View, ukiKey bool) *SystemdBoot {
	if major := installedVersion(v.Root); major > 0 {
		ukiKey = major >= ukiSince
	}
	return &SystemdBoot{esp: bls.ESP{Root: v.Root}, view: v, uki: ukiKey}
}

// ukiSince is the version of systemd-boot that knows the key "uki".
const ukiSince = 258

// maxProgram bounds how much of a boot loader is read, in bytes.
const maxProgram = 4 << 20

// installedVersion returns the major version of the systemd-boot on an ESP: on
// systemd's own path, or else on the fallback path. 0: there is none.
func installedVersion(esp *os.Root) (major int) {
	for _, pattern := range []string{"EFI/systemd/systemd-boot*.efi", "EFI/BOOT/BOOT*.EFI"} {
		names, _ := fs.Glob(esp.FS(), pattern)
		for _, name := range names {
			if strings.HasSuffix(name, ".previous.efi") {
				continue
			}
			f, err := esp.Open(name)
			if err != nil {
				continue
			}
			program, _ := io.ReadAll(io.LimitReader(f, maxProgram))
			f.Close()
			_, info, found := bytes.Cut(program, []byte("#### LoaderInfo: systemd-boot "))
			digits := info[:min(len(info), 6)]
			digits = digits[:len(digits)-len(bytes.TrimLeft(digits, "0123456789"))]
			if n, err := strconv.Atoi(string(digits)); found && err == nil {
				return n
			}
		}
	}
	return 0
}

// filesDir is where boot files live on the ESP.
const filesDir = "kairos"

// FilePath returns where a boot file lives on the ESP: equal files have one
// name and are shared.
func FilePath(kind, digest string) string {
	name := kind + "-" + digest
	if kind == UKI {
		name += ".efi"
	}
	return path.Join(filesDir, name)
}

// parseFilePath reads a name of the form that FilePath returns.
func parseFilePath(name string) (deployment.File, bool) {
	kind, digest, ok := strings.Cut(strings.TrimSuffix(name, ".efi"), "-")
	if _, err := fsverity.Parse(digest); !ok || err != nil || path.Base(FilePath(kind, digest)) != name {
		return deployment.File{}, false
	}
	return deployment.File{Kind: kind, Path: path.Join(filesDir, name), Digest: digest}, true
}

func (l *SystemdBoot) Entries() ([]bls.Entry, error) { return l.esp.Entries() }
func (l *SystemdBoot) Publish(e bls.Entry) error     { return l.esp.Publish(e) }
func (l *SystemdBoot) Remove(base string) error      { return l.esp.Remove(base) }

func (l *SystemdBoot) Entry(r deployment.Record) bls.Entry {
	e := bls.Entry{Options: r.Options}
	for _, f := range r.Boot {
		switch {
		case f.Kind == Linux:
			e.Linux = "/" + f.Path
		case f.Kind == Initrd:
			e.Initrd = append(e.Initrd, "/"+f.Path)
		case l.uki:
			e.UKI = "/" + f.Path
		default:
			e.EFI = "/" + f.Path
		}
	}
	return e
}

func (l *SystemdBoot) Put(f deployment.File, open func() (io.ReadCloser, error)) error {
	if l.Check(f) == nil {
		return nil
	}
	if err := l.write(f, open); err != nil {
		return fmt.Errorf("write boot file %s: %w", f.Path, err)
	}
	return l.Check(f)
}

func (l *SystemdBoot) write(f deployment.File, open func() (io.ReadCloser, error)) error {
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := l.esp.Root.MkdirAll(filesDir, 0o755); err != nil {
		return err
	}
	return atomicfile.WriteFrom(l.esp.Root, f.Path, r, 0o644)
}

func (l *SystemdBoot) Check(f deployment.File) error {
	want, err := fsverity.Parse(f.Digest)
	if err != nil {
		return fmt.Errorf("boot file %s: %w", f.Path, err)
	}
	file, err := l.esp.Root.Open(f.Path)
	if err != nil {
		return fmt.Errorf("read boot file: %w", err)
	}
	defer file.Close()
	// What the disk has counts, not what was just written.
	_ = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
	if err := fsverity.Check(file, want); err != nil {
		return fmt.Errorf("boot file %s: %w", f.Path, err)
	}
	return nil
}

func (l *SystemdBoot) Open(f deployment.File) (io.ReadCloser, error) { return l.esp.Root.Open(f.Path) }

func (l *SystemdBoot) Missing(files []deployment.File) (int64, error) {
	var sum int64
	for _, f := range files {
		info, err := l.esp.Root.Stat(f.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			sum += f.Size
		case err != nil:
			return 0, fmt.Errorf("look for boot file: %w", err)
		case info.Size() != f.Size: // it will be replaced: both exist for a moment
			sum += f.Size
		}
	}
	return sum, nil
}

func (l *SystemdBoot) Sweep(dryRun bool, gone ...string) ([]deployment.File, error) {
	entries, err := l.Entries()
	if err != nil {
		return nil, err
	}
	named := map[string]bool{}
	for _, e := range entries {
		for _, f := range e.Files() {
			named[strings.ToLower(f)] = named[strings.ToLower(f)] || !dryRun || !slices.Contains(gone, e.Name.Base)
		}
	}
	dir, err := l.esp.Root.Open(filesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list boot files: %w", err)
	}
	defer dir.Close()
	infos, err := dir.Readdir(-1)
	if err != nil {
		return nil, fmt.Errorf("list boot files: %w", err)
	}
	var removed []deployment.File
	for _, info := range infos {
		f, ours := parseFilePath(info.Name())
		if atomicfile.IsTemp(info.Name()) {
			f, ours = deployment.File{Path: path.Join(filesDir, info.Name())}, true
		}
		if !ours || named[strings.ToLower(f.Path)] {
			continue
		}
		f.Size = info.Size()
		if !dryRun {
			if err := atomicfile.Remove(l.esp.Root, f.Path); err != nil {
				return removed, fmt.Errorf("remove boot file: %w", err)
			}
		}
		removed = append(removed, f)
	}
	if dryRun {
		return removed, nil
	}
	return removed, l.removeUnfinished()
}

// removeUnfinished removes what an interrupted publication left beside the
// entries.
func (l *SystemdBoot) removeUnfinished() error {
	dir, err := l.esp.Root.Open(bls.EntriesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	for _, name := range names {
		if atomicfile.IsTemp(name) {
			err = errors.Join(err, atomicfile.Remove(l.esp.Root, path.Join(bls.EntriesDir, name)))
		}
	}
	return err
}

// Limits of Others.
const (
	maxOthers   = 10_000
	otherMin    = 1 << 20 // bytes
	namedOthers = 3
)

// Others passes over what boots the machine: directories of boot loaders are
// small, and their owners know why they are there.
func (l *SystemdBoot) Others() (size int64, names []string) {
	sizes := map[string]int64{}
	seen := 0
	_ = fs.WalkDir(l.esp.Root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if seen++; err != nil || seen > maxOthers {
			return fs.SkipAll
		}
		if d.IsDir() && (name == filesDir || name == bls.EntriesDir) {
			return fs.SkipDir
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() && info.Size() >= otherMin {
			sizes[name] = info.Size()
			size += info.Size()
		}
		return nil
	})
	names = slices.SortedFunc(maps.Keys(sizes), func(a, b string) int { return cmp.Or(cmp.Compare(sizes[b], sizes[a]), strings.Compare(a, b)) })
	return size, names[:min(len(names), namedOthers)]
}

// Default reads the default entry in loader.conf(5). Only the firmware knows that of
// "@saved".
func (l *SystemdBoot) Default() (pattern string) {
	data, _ := readBounded(l.esp.Root, "loader/loader.conf")
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "default" && !strings.HasPrefix(f[1], "@") {
			pattern = f[1]
		}
	}
	return pattern
}

// readBounded reads the beginning of a small file.
func readBounded(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxKept))
}

func (l *SystemdBoot) Programs() *os.Root { return l.esp.Root }

// maxKept bounds a small file beside the boot files, in bytes.
const maxKept = 4096

func (l *SystemdBoot) Keep(name string, data []byte) error {
	if err := l.esp.Root.MkdirAll(filesDir, 0o755); err != nil {
		return err
	}
	return atomicfile.Write(l.esp.Root, path.Join(filesDir, name), data, 0o644)
}

func (l *SystemdBoot) Kept(name string) ([]byte, error) {
	return readBounded(l.esp.Root, path.Join(filesDir, name))
}

// Path is where the ESP is mounted.
func (l *SystemdBoot) Path() string { return l.view.Path }

func (l *SystemdBoot) Space() (size, free int64, err error) { return l.view.Space() }

// Reserve is how many bytes stay free on the ESP: for entries, directories and the
// rounding of file systems.
const Reserve = 256 << 10
