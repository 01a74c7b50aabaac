// Package device writes media to disks, after a look at what is on them.
package device

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// System is where the kernel shows its devices; tests have one of their own.
type System struct{ Sys string }

// Disk is a disk as the kernel knows it.
type Disk struct {
	Path       string      `json:"path"`
	Name       string      `json:"name"` // the kernel's: sdb
	Model      string      `json:"model,omitempty"`
	Size       int64       `json:"size"`      // bytes
	Removable  bool        `json:"removable"` // or on USB
	ReadOnly   bool        `json:"read_only"`
	Partitions []Partition `json:"partitions"`

	sequence string // the kernel counts each disk that it finds
}

// Partition is a partition on it, which writing a medium erases.
type Partition struct {
	Name  string `json:"name"`
	Label string `json:"label,omitempty"`
	Size  int64  `json:"size"` // bytes
}

// ErrNoDisk says that a path is no disk.
var ErrNoDisk = errors.New("not a whole disk")

// Look reads what is known of the disk that a path names.
func (s System) Look(path string) (d Disk, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return d, fmt.Errorf("look at %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return d, fmt.Errorf("%s: %w: no block device", path, ErrNoDisk)
	}
	return s.disk(path, fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
}

// disk reads the directory of a device, given by its numbers.
func (s System) disk(path, numbers string) (d Disk, err error) {
	dir, err := filepath.EvalSymlinks(filepath.Join(s.Sys, "dev/block", numbers))
	if err != nil {
		return d, fmt.Errorf("look at %s: %w", path, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		return d, fmt.Errorf("%s: %w, but the partition %s of one", path, ErrNoDisk, text(dir, "partition"))
	}
	d = Disk{Path: path, Name: filepath.Base(dir), Size: sectors(dir), Model: text(dir, "device/model"), Partitions: []Partition{},
		sequence: text(dir, "diskseq")}
	d.Removable = text(dir, "removable") == "1" || strings.Contains(dir, "/usb")
	d.ReadOnly = text(dir, "ro") == "1"
	parts, err := filepath.Glob(filepath.Join(dir, "*", "partition"))
	if err != nil {
		return d, err
	}
	slices.Sort(parts)
	for _, p := range parts {
		p = filepath.Dir(p)
		label := ""
		for l := range strings.Lines(text(p, "uevent")) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(l), "PARTNAME="); ok {
				label = name
			}
		}
		d.Partitions = append(d.Partitions, Partition{filepath.Base(p), label, sectors(p)})
	}
	return d, nil
}

// Still reports ErrChanged if an open device is not the disk that was looked at: while
// somebody reads a question, another stick may have got its name.
func (s System) Still(d Disk, f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("look at %s: %w", d.Path, err)
	}
	now, err := s.disk(d.Path, fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	if err == nil && !reflect.DeepEqual(now, d) {
		err = fmt.Errorf("%s: %w", d.Path, ErrChanged)
	}
	return err
}

func text(dir, name string) string {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// sectors returns the size in bytes: sysfs counts in 512.
func sectors(dir string) int64 {
	n, err := strconv.ParseInt(text(dir, "size"), 10, 64)
	if err != nil {
		return 0
	}
	return n * 512
}

// Errors of Write.
var (
	ErrBusy  = errors.New("it is in use: unmount it first")
	ErrOther = errors.New("what is read back is not what was written")
	// ErrChanged says that a name means another disk by now, or other partitions.
	ErrChanged = errors.New("it is not the disk any more that it was: nothing was written")
)

// chunk is how much is written at once, in bytes. The first one, with the partition
// table, is written last: what was interrupted boots nowhere.
const chunk = 4 << 20

// Write copies a file to a disk, reads it back from the disk, and returns its digest.
// Before it writes, still says whether the open disk is the one that is meant; nil asks
// nobody. done is told how many bytes are done, of twice the size of the file.
func Write(ctx context.Context, from *os.File, size int64, path string, still func(*os.File) error, done func(int64)) (sum [sha256.Size]byte, err error) {
	// Exclusively: the kernel refuses if something of it is mounted.
	to, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return sum, fmt.Errorf("open %s: %w", path, ErrBusy)
	}
	if err != nil {
		return sum, err
	}
	defer to.Close()
	if still != nil {
		if err := still(to); err != nil {
			return sum, err
		}
	}
	buf := make([]byte, chunk)
	copied := int64(0)
	copyAt := func(at int64) error {
		n := min(chunk, size-at)
		if _, err := from.ReadAt(buf[:n], at); err != nil {
			return err
		}
		if _, err := to.WriteAt(buf[:n], at); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		copied += n
		done(copied)
		return ctx.Err()
	}
	if _, err := to.WriteAt(make([]byte, min(chunk, size)), 0); err != nil {
		return sum, fmt.Errorf("write %s: %w", path, err)
	}
	for at := int64(chunk); at < size; at += chunk {
		if err := copyAt(at); err != nil {
			return sum, err
		}
	}
	if err := to.Sync(); err != nil {
		return sum, fmt.Errorf("write %s: %w", path, err)
	}
	if err := copyAt(0); err != nil {
		return sum, err
	}
	if err := to.Sync(); err != nil {
		return sum, fmt.Errorf("write %s: %w", path, err)
	}
	// From the disk, not from memory.
	_ = unix.IoctlSetInt(int(to.Fd()), unix.BLKFLSBUF, 0)
	_ = unix.Fadvise(int(to.Fd()), 0, 0, unix.FADV_DONTNEED)
	hash, back := sha256.New(), make([]byte, chunk)
	for at := int64(0); at < size; at += chunk {
		n := min(chunk, size-at)
		if _, err := from.ReadAt(buf[:n], at); err != nil {
			return sum, err
		}
		if _, err := io.ReadFull(io.NewSectionReader(to, at, n), back[:n]); err != nil {
			return sum, fmt.Errorf("read back %s: %w", path, err)
		}
		if !bytes.Equal(buf[:n], back[:n]) {
			return sum, fmt.Errorf("read back %s: %w, between bytes %d and %d", path, ErrOther, at, at+n)
		}
		hash.Write(back[:n])
		done(size + at + n)
		if err := ctx.Err(); err != nil {
			return sum, err
		}
	}
	_ = unix.IoctlSetInt(int(to.Fd()), unix.BLKRRPART, 0) // a kernel that can't looks when it is plugged in
	return [sha256.Size]byte(hash.Sum(nil)), to.Close()
}
