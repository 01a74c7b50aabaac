// Package unpack writes the files of a container image into a directory that
// may hold others: no deployment, but tools or data beside the system.
//
// The layers are merged first (package layer), so that a whiteout never
// touches what the directory had before. Contents are fetched into a spool in
// the directory itself and renamed into their places, which are resolved
// beneath the directory. What was unpacked is recorded there last.
package unpack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/pull"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"github.com/kairos-io/toolkit/lib/kind"
	"github.com/kairos-io/toolkit/lib/lock"
	"golang.org/x/sys/unix"
)

// Names in the directory that no image may use.
const (
	recordName = ".kairos-unpacked.json"
	spoolName  = ".kairos-unpack"
)

// Request says what is to be unpacked.
type Request struct {
	Source  string
	Dir     string // exists
	Force   bool   // even if it is there already
	Options source.Options
	// Progress, if not nil, is told about bytes.
	Progress pull.Progress
}

// Unpacked is what an image became.
type Unpacked struct {
	Source         string `json:"source"`
	ManifestDigest string `json:"manifest_digest"`
	Architecture   string `json:"architecture"`
	Files          int    `json:"files"` // names of everything but directories
	Bytes          int64  `json:"bytes"` // of contents, each counted once
}

// Unpack unpacks an image. Exit statuses of errors: 3, it is there already; 4,
// refused by the signature policy; 5, not enough space; 6, another one unpacks
// into the same directory. After an error some of the files may be there, and
// the image is not recorded.
func Unpack(ctx context.Context, r Request) (*Unpacked, error) {
	u, err := unpack(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("unpack %s into %s: %w", r.Source, r.Dir, err)
	}
	return u, nil
}

func unpack(ctx context.Context, r Request) (*Unpacked, error) {
	src, err := source.Parse(r.Source)
	if err != nil {
		return nil, kind.Of(source.ErrUsage, err)
	}
	if src.Kind != source.KindImage {
		return nil, kind.Errorf(source.ErrUsage, "it is not a container image")
	}
	dir, err := os.OpenRoot(r.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	top, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer top.Close()
	err = lock.Take(ctx, top, func() error { return errors.New("another process unpacks an image there") })
	if err != nil {
		return nil, err
	}
	known, err := readRecord(dir)
	if err != nil {
		return nil, err
	}
	architecture := cmp.Or(r.Options.Architecture, runtime.GOARCH)
	// What is named by its digest needs no registry to be known.
	if was := known.find(r.Source, architecture); !r.Force && was != nil && strings.Contains(r.Source, "@sha256:") {
		return nil, there(was)
	}
	img, err := source.Open(ctx, r.Source, r.Options)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	if was := known.find(r.Source, architecture); !r.Force && was != nil && was.ManifestDigest == img.ManifestDigest.String() {
		return nil, there(was)
	}
	if err := enough(img, top); err != nil {
		return nil, err
	}
	u := &Unpacked{Source: r.Source, ManifestDigest: img.ManifestDigest.String(), Architecture: architecture}
	if err := u.fill(ctx, dir, img, known, r.Progress); err != nil {
		return nil, err
	}
	// The record comes after what it speaks of.
	if err := atomicfile.SyncFS(top); err != nil {
		return nil, err
	}
	return u, known.with(*u).write(dir)
}

// Errors of Unpack, beside those of package source.
var (
	ErrAlready   = errors.New("nothing to do")
	ErrNoSpace   = errors.New("not enough space")
	ErrDirectory = errors.New("a directory is in the place of a file of the image")
)

func there(was *Unpacked) error {
	return fmt.Errorf("%w: %s is already unpacked there", ErrAlready, was.ManifestDigest)
}

// enough compares the blobs with the free space: the least that is needed.
func enough(img *source.Image, top *os.File) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(top.Fd()), &fs); err != nil {
		return fmt.Errorf("statfs: %w", err)
	}
	need, free := int64(0), int64(fs.Bavail)*fs.Bsize
	for _, l := range img.Layers {
		need += max(0, l.Size)
	}
	if need > free {
		return fmt.Errorf("%w: need more than %d MiB, %d MiB free", ErrNoSpace, need>>20, free>>20)
	}
	return nil
}

// fill fetches the image and writes its tree. An earlier image of the same
// source is forgotten before the first file is replaced.
func (u *Unpacked) fill(ctx context.Context, dir *os.Root, img *source.Image, known record, progress pull.Progress) error {
	if err := dir.RemoveAll(spoolName); err != nil { // of an attempt that was cut off
		return err
	}
	if err := dir.Mkdir(spoolName, 0o700); err != nil {
		return err
	}
	defer dir.RemoveAll(spoolName)
	objects := &spool{dir: dir, have: map[fsverity.Digest]bool{}}
	root, _, err := pull.Tree(ctx, img, objects, pull.Options{Progress: progress})
	if err != nil {
		return err
	}
	w := newWriter(dir, root)
	if err := w.check(root); err != nil {
		return err
	}
	if err := known.without(u.Source, u.Architecture).write(dir); err != nil {
		return err
	}
	if err := w.directory(ctx, root, ""); err != nil {
		return err
	}
	u.Files, u.Bytes = w.files, w.bytes
	return nil
}

// copyContent copies a content that is needed once more.
func copyContent(to io.Writer, dir *os.Root, name string) error {
	from, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer from.Close()
	_, err = io.Copy(to, from)
	return err
}
