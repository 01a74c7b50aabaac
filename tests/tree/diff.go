// Package tree compares two directory trees and writes what differs as a layer: a tar archive with
// whiteouts, as the OCI image specification describes it (layer.md, "Representing Changes").
//
// The archive depends on the trees alone: entries are sorted, times are clamped, names of users and
// groups are left out.
package tree

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// whiteout is the prefix of the name of an empty file that removes its namesake of lower layers.
const whiteout = ".wh."

// capability is the one extended attribute that a layer carries.
const capability = "security.capability"

// WriteDiff writes to w the layer that turns lower into upper. With lower == "" it is all of upper.
// Times after newest are written as newest: they belong to the build, not to the content.
func WriteDiff(w io.Writer, lower, upper string, newest time.Time) error {
	changes, err := compare(lower, upper)
	if err != nil {
		return fmt.Errorf("compare %s with %s: %w", upper, lower, err)
	}
	d := diffWriter{tar: tar.NewWriter(w), upper: upper, newest: newest.Truncate(time.Second), links: map[inode]string{}}
	for _, change := range changes {
		if err := d.write(change); err != nil {
			return fmt.Errorf("write %s to the layer: %w", change.path, err)
		}
	}
	return d.tar.Close()
}

// change is one path, relative to the trees, that is new, different or gone in upper.
type change struct {
	path string
	gone bool
}

// compare lists the changes in the order of a walk: a directory before what it holds.
func compare(lower, upper string) ([]change, error) {
	var changes []change
	err := filepath.WalkDir(upper, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(upper, path)
		if err != nil {
			return err
		}
		different := true
		if lower != "" {
			if different, err = differs(filepath.Join(lower, name), path); err != nil {
				return err
			}
		}
		if different && name != "." {
			changes = append(changes, change{path: name})
		}
		if lower == "" || !entry.IsDir() {
			return nil
		}
		gone, err := goneFrom(filepath.Join(lower, name), path)
		for _, child := range gone {
			changes = append(changes, change{path: filepath.Join(name, child), gone: true})
		}
		return err
	})
	return changes, err
}

// goneFrom lists the names of directory lower that directory upper lacks.
func goneFrom(lower, upper string) ([]string, error) {
	info, err := os.Lstat(lower)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && !info.IsDir() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(lower)
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, entry := range entries {
		_, err := os.Lstat(filepath.Join(upper, entry.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			gone = append(gone, entry.Name())
		} else if err != nil {
			return nil, err
		}
	}
	return gone, nil
}

// differs tells whether two paths differ in anything that a layer carries. Contents are read only
// where size and times leave a doubt.
func differs(lower, upper string) (bool, error) {
	before, err := os.Lstat(lower)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	after, err := os.Lstat(upper)
	if err != nil {
		return false, err
	}
	a, b := before.Sys().(*syscall.Stat_t), after.Sys().(*syscall.Stat_t)
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev {
		return true, nil
	}
	if !after.IsDir() && before.Size() != after.Size() {
		return true, nil
	}
	if !before.ModTime().Equal(after.ModTime()) {
		return true, nil
	}
	if after.Mode().Type() == fs.ModeSymlink {
		x, errX := os.Readlink(lower)
		y, errY := os.Readlink(upper)
		return x != y, errors.Join(errX, errY)
	}
	if after.Mode().IsRegular() {
		return contentDiffers(lower, upper)
	}
	return false, nil
}

func contentDiffers(lower, upper string) (bool, error) {
	x, err := readCapability(lower)
	if err != nil {
		return false, err
	}
	y, err := readCapability(upper)
	if err != nil || !bytes.Equal(x, y) {
		return true, err
	}
	a, err := os.Open(lower)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := os.Open(upper)
	if err != nil {
		return false, err
	}
	defer b.Close()
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			return true, nil
		}
		if errA == io.EOF || errA == io.ErrUnexpectedEOF {
			return false, nil
		}
		if err := errors.Join(errA, errB); err != nil {
			return false, err
		}
	}
}

// readCapability returns the file capabilities of path, nil where it has none.
func readCapability(path string) ([]byte, error) {
	buf := make([]byte, 256)
	n, err := unix.Lgetxattr(path, capability, buf)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "getxattr", Path: path, Err: err}
	}
	return slices.Clone(buf[:n]), nil
}

type inode struct{ dev, ino uint64 }

type diffWriter struct {
	tar    *tar.Writer
	upper  string
	newest time.Time
	links  map[inode]string // files with several names, by what was written first
}

func (d *diffWriter) write(c change) error {
	if c.gone {
		dir, name := filepath.Split(c.path)
		return d.tar.WriteHeader(&tar.Header{Name: dir + whiteout + name, Typeflag: tar.TypeReg, ModTime: d.newest})
	}
	path := filepath.Join(d.upper, c.path)
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() == fs.ModeSocket {
		return nil // no archive carries a socket
	}
	if strings.HasPrefix(info.Name(), whiteout) {
		return errors.New("a layer gives this name another meaning")
	}
	header, err := d.header(c.path, path, info)
	if err != nil {
		return err
	}
	if err := d.tar.WriteHeader(header); err != nil {
		return err
	}
	if header.Typeflag != tar.TypeReg {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(d.tar, file)
	return err
}

func (d *diffWriter) header(name, path string, info fs.FileInfo) (*tar.Header, error) {
	var target string
	var err error
	if info.Mode().Type() == fs.ModeSymlink {
		if target, err = os.Readlink(path); err != nil {
			return nil, err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return nil, err
	}
	header.Name = name
	if info.IsDir() {
		header.Name += "/"
	}
	header.Uname, header.Gname = "", ""
	header.AccessTime, header.ChangeTime = time.Time{}, time.Time{}
	header.ModTime = info.ModTime().Truncate(time.Second)
	if header.ModTime.After(d.newest) {
		header.ModTime = d.newest
	}
	if !info.Mode().IsRegular() {
		return header, nil
	}
	value, err := readCapability(path)
	if err != nil {
		return nil, err
	}
	if value != nil {
		header.PAXRecords = map[string]string{"SCHILY.xattr." + capability: string(value)}
	}
	stat := info.Sys().(*syscall.Stat_t)
	if stat.Nlink > 1 {
		key := inode{uint64(stat.Dev), stat.Ino}
		if first, seen := d.links[key]; seen {
			header.Typeflag, header.Linkname, header.Size, header.PAXRecords = tar.TypeLink, first, 0, nil
		} else {
			d.links[key] = name
		}
	}
	return header, nil
}
