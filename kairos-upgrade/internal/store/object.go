package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"sync"

	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

// inMemory is the length in bytes up to which a content is hashed before
// anything is written.
const inMemory = 256 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, inMemory); return &b }}

// Has reports whether an object is present and, with fs-verity, whole.
func (s *Store) Has(d fsverity.Digest) bool {
	s.mu.Lock()
	_, known := s.known[d]
	_, damaged := s.distrusted[d]
	s.mu.Unlock()
	if known || damaged {
		return known
	}
	f, err := s.openObject(d)
	if err != nil {
		return false
	}
	defer f.Close()
	if s.verity {
		if have, err := s.kernel.Measure(f); err != nil || have != d {
			return false
		}
	}
	s.mu.Lock()
	s.known[d] = struct{}{}
	s.mu.Unlock()
	return true
}

// Put reads a content of size bytes and makes an object of it, unless it is
// one already. Several goroutines may put at once. A failure to finish an
// object may be returned by a later Put, or by Commit at the latest.
func (s *Store) Put(ctx context.Context, r io.Reader, size int64) (fsverity.Digest, error) {
	if err := s.failure(ctx); err != nil {
		return fsverity.Digest{}, err
	}
	if size <= inMemory {
		return s.putSmall(r, size)
	}
	return s.putLarge(ctx, r, size)
}

func (s *Store) putSmall(r io.Reader, size int64) (fsverity.Digest, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	content := (*buf)[:size]
	if _, err := io.ReadFull(r, content); err != nil {
		return fsverity.Digest{}, fmt.Errorf("read content: %w", unexpected(err))
	}
	d := fsverity.Bytes(content)
	s.learn(sha256.Sum256(content), d)
	if s.Has(d) {
		return d, nil
	}
	name, f, err := s.createTemp()
	if err != nil {
		return d, fmt.Errorf("write object %s: %w", d, err)
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		return d, fmt.Errorf("write object %s: %w", d, err)
	}
	return d, s.finish(job{name, d, size})
}

// putLarge streams. The digest is known at the end only; a content that turns
// out to be present is dropped before the kernel has a reason to write it out.
func (s *Store) putLarge(ctx context.Context, r io.Reader, size int64) (fsverity.Digest, error) {
	name, f, err := s.createTemp()
	if err != nil {
		return fsverity.Digest{}, fmt.Errorf("write object: %w", err)
	}
	hash, plain := fsverity.NewHasher(), sha256.New()
	buf := buffers.Get().(*[]byte)
	n, err := io.CopyBuffer(onlyWriter{io.MultiWriter(f, hash, plain)}, io.LimitReader(withContext{ctx, r}, size), *buf)
	buffers.Put(buf)
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fsverity.Digest{}, fmt.Errorf("write object: %w", errors.Join(err, s.removeTemp(name)))
	}
	d := hash.Sum()
	s.learn(Sum(plain.Sum(nil)), d)
	if s.Has(d) {
		return d, s.removeTemp(name)
	}
	return d, s.finish(job{name, d, size})
}

// Copy takes an object over from another store, unless it is present. Content
// that is not what its name says is an error.
func (s *Store) Copy(ctx context.Context, from *Store, d fsverity.Digest) error {
	if err := s.failure(ctx); err != nil || s.Has(d) {
		return err
	}
	src, err := from.OpenObject(d)
	if err != nil {
		return fmt.Errorf("copy object: %w", err)
	}
	defer src.Close()
	name, dst, err := s.createTemp()
	if err != nil {
		return fmt.Errorf("copy object %s: %w", d, err)
	}
	size, err := s.copyContent(dst, src, d)
	if err = errors.Join(err, dst.Close()); err != nil {
		return fmt.Errorf("copy object %s: %w", d, errors.Join(err, s.removeTemp(name)))
	}
	return s.finish(job{name, d, size})
}

// copyContent copies, by reference where the file system can. With fs-verity
// the kernel will compute the digest anyway; without, it is computed here.
func (s *Store) copyContent(dst, src *os.File, d fsverity.Digest) (int64, error) {
	if s.verity {
		if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
			info, err := src.Stat()
			if err != nil {
				return 0, err
			}
			return info.Size(), nil
		}
		return io.Copy(dst, src)
	}
	hash := fsverity.NewHasher()
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	n, err := io.CopyBuffer(onlyWriter{io.MultiWriter(dst, hash)}, onlyReader{src}, *buf)
	if err == nil && hash.Sum() != d {
		err = fmt.Errorf("%w: have %s", fsverity.ErrMismatch, hash.Sum())
	}
	return n, err
}

// OpenObject opens an object for reading, whether or not it has been committed.
func (s *Store) OpenObject(d fsverity.Digest) (*os.File, error) {
	s.mu.Lock()
	for _, wait := s.unfinished[d]; wait; _, wait = s.unfinished[d] {
		s.finished.Wait()
	}
	s.mu.Unlock()
	f, err := s.openObject(d)
	if errors.Is(err, fs.ErrNotExist) && s.tmp != nil {
		if f, err := s.openTemp(d.String()); err == nil {
			return f, nil
		}
		f, err = s.openObject(d) // it may have got its name in between
	}
	if err != nil {
		return nil, fmt.Errorf("open object %s: %w", d, err)
	}
	return f, nil
}

// ObjectPath returns where an object lives in a store.
func ObjectPath(d fsverity.Digest) string {
	hex := d.String()
	return path.Join(objectsDir, hex[:2], hex[2:])
}

// Added returns the objects that this process has written.
func (s *Store) Added() []Added {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.added
}

// Drop removes those of the objects written by this process that keep does
// not want, and returns how many bytes that frees.
func (s *Store) Drop(keep func(fsverity.Digest) bool) (freed int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.added[:0]
	for _, a := range s.added {
		if keep(a.Digest) {
			kept = append(kept, a)
			continue
		}
		if e := s.root.Remove(ObjectPath(a.Digest)); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
			continue
		}
		delete(s.known, a.Digest)
		freed += a.Size
	}
	s.added = kept
	return freed, err
}

func (s *Store) failure(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// number is the number that createTemp took for a name.
func number(temp string) uint64 {
	n, _ := strconv.ParseUint(temp, 10, 64)
	return n
}

// createTemp creates a file in tmp under a number. It stays writable by mode:
// to enable fs-verity is to write, as far as permissions go.
func (s *Store) createTemp() (string, *os.File, error) {
	name := strconv.FormatUint(s.tmpName.Add(1), 10)
	fd, err := unix.Openat(int(s.writesTo().Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return "", nil, &fs.PathError{Op: "create", Path: tmpDir + "/" + name, Err: err}
	}
	return name, os.NewFile(uintptr(fd), tmpDir+"/"+name), nil
}

func (s *Store) openTemp(name string) (*os.File, error) {
	return openAt(s.tmp, name, tmpDir+"/"+name)
}

func (s *Store) removeTemp(name string) error { return unix.Unlinkat(int(s.writesTo().Fd()), name, 0) }

func openAt(dir *os.File, name, shown string) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: shown, Err: err}
	}
	return os.NewFile(uintptr(fd), shown), nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// withContext ends reading when the context ends.
type withContext struct {
	ctx context.Context
	r   io.Reader
}

func (r withContext) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// onlyReader and onlyWriter keep io.CopyBuffer to its buffer.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)
