package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

// ImagePath returns where an image lives in a store.
func ImagePath(d fsverity.Digest) string { return path.Join(imagesDir, d.String()) }

// PutImage stores the composefs image that write writes, under its digest, and
// makes it durable. The objects that it names must have been committed.
func (s *Store) PutImage(write func(io.Writer) error) (fsverity.Digest, error) {
	d, err := s.putImage(write)
	if err != nil {
		return d, fmt.Errorf("write image: %w", err)
	}
	return d, nil
}

func (s *Store) putImage(write func(io.Writer) error) (d fsverity.Digest, err error) {
	temp, f, err := s.createTemp()
	if err != nil {
		return d, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreNotExist(s.removeTemp(temp)))
		}
	}()
	hash := fsverity.NewHasher()
	out := bufio.NewWriterSize(io.MultiWriter(f, hash), 256<<10)
	err = write(out)
	if err == nil {
		err = errors.Join(out.Flush(), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return d, err
	}
	d = hash.Sum()
	if s.CheckImage(d) == nil {
		return d, s.removeTemp(temp)
	}
	if s.lender != nil {
		return d, s.lender.Image(number(temp), d)
	}
	if err := s.sealImage(temp, d); err != nil {
		return d, err
	}
	return d, s.nameImage(temp, d)
}

// nameImage moves a finished image from tmp to its place in images.
func (s *Store) nameImage(temp string, d fsverity.Digest) error {
	if err := s.root.Rename(path.Join(tmpDir, temp), ImagePath(d)); err != nil {
		return err
	}
	s.mu.Lock()
	s.images = append(s.images, d)
	s.mu.Unlock()
	return atomicfile.SyncDir(s.root, imagesDir)
}

func (s *Store) sealImage(temp string, d fsverity.Digest) error {
	if !s.verity {
		return nil
	}
	f, err := s.openTemp(temp)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.seal(f, d)
}

// OpenImage opens an image for reading.
func (s *Store) OpenImage(d fsverity.Digest) (*os.File, error) {
	f, err := s.root.Open(ImagePath(d))
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	return f, nil
}

// CheckImage reads an image and compares it with its name. With fs-verity the
// kernel does: it vouches for the digest, and fails to read what differs.
func (s *Store) CheckImage(d fsverity.Digest) error {
	f, err := s.OpenImage(d)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = s.check(f, d)
	return err
}

// CheckObject does the same for an object, and returns its size in bytes.
func (s *Store) CheckObject(d fsverity.Digest) (int64, error) {
	f, err := s.OpenObject(d)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return s.check(f, d)
}

func (s *Store) check(f *os.File, d fsverity.Digest) (int64, error) {
	if !s.verity {
		have, n, err := fsverity.File(f)
		if err == nil && have != d {
			err = fmt.Errorf("%w: it is %s", fsverity.ErrMismatch, have)
		}
		return n, err
	}
	have, err := s.kernel.Measure(f)
	if err != nil {
		return 0, err
	}
	if have != d {
		return 0, fmt.Errorf("%w: the kernel measures %s", fsverity.ErrMismatch, have)
	}
	// What is in memory was checked when it was read from the disk, which may
	// be long ago.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(onlyWriter{io.Discard}, onlyReader{f}, *buf)
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
