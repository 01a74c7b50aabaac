package live

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/lib/disk"

	"github.com/kairos-io/toolkit/kairos-root/internal/loop"
)

// Part is a partition of a medium.
type Part struct {
	path string // its node, "" where the kernel has none
	uuid string
	size int64 // bytes
	// Otherwise it is a part of a disk or a file.
	file  string
	start int64
}

// Use has a function use the partition's device, which without a node is a loop
// device: it goes with the last who uses it, for example a mount.
func (p *Part) Use(use func(device string) error) error {
	if p.path != "" {
		return use(p.path)
	}
	f, err := os.Open(p.file)
	if err != nil {
		return err
	}
	defer f.Close()
	device, err := loop.Attach(f, sector, p.start, p.size)
	if err != nil {
		return err
	}
	defer device.Close()
	return use(device.Name())
}

// chunks returns the partitions of each disk; they are sorted by disk.
func chunks(parts []disk.Partition) iter.Seq[[]disk.Partition] {
	return func(yield func([]disk.Partition) bool) {
		for len(parts) > 0 {
			n := slices.IndexFunc(parts, func(p disk.Partition) bool { return p.Disk != parts[0].Disk })
			if n < 0 {
				n = len(parts)
			}
			if !yield(parts[:n]) {
				return
			}
			parts = parts[n:]
		}
	}
}

// wholes returns what the kernel reads no partition table of: CD drives, and the
// file in the initramfs.
func (f *Finder) wholes() []candidate {
	var all []candidate
	if info, err := os.Lstat(f.File); err == nil && info.Mode().IsRegular() {
		all = append(all, candidate{kind: inFile, file: f.File})
	}
	drives, _ := filepath.Glob(filepath.Join(f.System.Sys, "class/block/sr[0-9]*"))
	for _, d := range drives {
		name := filepath.Base(d)
		all = append(all, candidate{kind: optical, disk: name, file: filepath.Join(f.System.Dev, name)})
	}
	return all
}

// Sizes of blocks that the table of a medium may be written for: that of disks,
// and that of CDs, in bytes.
const (
	sector   = 512
	cdSector = 2048
)

// whole reads the partition table of a whole medium. Without one, or without a
// store in it, the candidate has none either.
func (f *Finder) whole(c candidate, uuid string) (candidate, error) {
	file, err := os.Open(c.file)
	switch {
	case errors.Is(err, unix.ENOMEDIUM):
		return c, errors.New("no medium in the drive")
	case err != nil:
		return c, unwrapPath(err)
	}
	defer file.Close()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return c, unwrapPath(err)
	}
	entries, err := disk.ReadGPT(file, sector)
	if errors.Is(err, disk.ErrNoGPT) {
		entries, err = disk.ReadGPT(file, cdSector)
	}
	if err != nil {
		return c, unwrapPath(err)
	}
	var end int64
	for _, e := range entries {
		part := &Part{uuid: e.UUID, size: e.Size, file: c.file, start: e.Start}
		switch {
		case e.Label == disk.LabelLive && c.store == nil:
			c.store = part
		case e.Label == disk.LabelSeed && c.seed == nil:
			c.seed = part
		}
		if uuid != "" && e.UUID == uuid && c.kind == optical {
			c.kind = booted
		}
		end = max(end, e.End())
	}
	if c.store == nil {
		return c, fmt.Errorf("no partition %s", disk.LabelLive)
	}
	if end > size {
		c.store = nil
		return c, f.cutOff(c, size, end)
	}
	return c, nil
}

// sequence tells one medium in a drive from the next; "" where the kernel does
// not.
func (f *Finder) sequence(name string) string {
	if name == "" {
		return ""
	}
	text, _ := os.ReadFile(filepath.Join(f.System.Sys, "class/block", name, "diskseq"))
	return strings.TrimSpace(string(text))
}

func unwrapPath(err error) error {
	var pathError *os.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}
