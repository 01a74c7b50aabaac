package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"

	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

// A Loan is a directory in tmp that a process without rights fills: see
// Borrow. What it says it has written there is taken over only as what it is:
// a file of that digest, that nobody can write to any more.
type Loan struct {
	store *Store
	dir   *os.File
	name  string // below tmp
}

// ErrForeign says that a file or record from the unprivileged process does not match its digest or name.
var ErrForeign = errors.New("the content does not match its digest or name")

// maxRecord is the size of the largest record of a layer, in bytes.
const maxRecord = 1 << 30

// Lend makes a loan. Close it before the store.
func (s *Store) Lend() (*Loan, error) {
	l := &Loan{store: s, name: "loan-" + strconv.FormatUint(s.tmpName.Add(1), 10)}
	err := s.root.Mkdir(path.Join(tmpDir, l.name), 0o700)
	if err == nil {
		l.dir, err = s.root.Open(path.Join(tmpDir, l.name))
	}
	if err != nil {
		return nil, fmt.Errorf("lend a directory of the store: %w", err)
	}
	return l, nil
}

// Name is what Borrow needs.
func (l *Loan) Name() string { return l.name }

// Close removes what was not taken over.
func (l *Loan) Close() error {
	return errors.Join(l.dir.Close(), l.store.root.RemoveAll(path.Join(tmpDir, l.name)))
}

// take moves a file to where its writer has no access, under a name in tmp, and
// makes sure that it is a file with one name.
func (l *Loan) take(temp uint64) (name string, size int64, err error) {
	s := l.store
	name = strconv.FormatUint(s.tmpName.Add(1), 10)
	if err := renameAt(l.dir, strconv.FormatUint(temp, 10), s.tmp, name); err != nil {
		return "", 0, err
	}
	var st unix.Stat_t
	err = unix.Fstatat(int(s.tmp.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1) {
		err = fmt.Errorf("%w: no file of its own", ErrForeign)
	}
	if err != nil {
		return "", 0, errors.Join(err, s.root.RemoveAll(path.Join(tmpDir, name)))
	}
	return name, st.Size, nil
}

// Object takes over an object: with fs-verity the kernel measures it, without,
// it is read.
func (l *Loan) Object(temp uint64, d fsverity.Digest, size int64) error {
	s := l.store
	name, have, err := l.take(temp)
	if err != nil {
		return fmt.Errorf("take over object %s: %w", d, err)
	}
	if have != size {
		return errors.Join(fmt.Errorf("take over object %s: %w: %d bytes, not %d", d, ErrForeign, have, size), s.removeTemp(name))
	}
	s.mu.Lock()
	_, twice := s.known[d]
	s.known[d] = struct{}{}
	if !twice {
		s.unfinished[d] = struct{}{}
	}
	s.mu.Unlock()
	if twice {
		return s.removeTemp(name)
	}
	if !s.verity {
		err = s.read(name, d)
	}
	j := job{name, d, size}
	if err == nil {
		err = s.complete(j)
	}
	if err == nil {
		s.note(j, nil)
		return nil
	}
	// It is the borrower's failure: the store can be used as before.
	s.mu.Lock()
	delete(s.unfinished, d)
	delete(s.known, d)
	s.finished.Broadcast()
	s.mu.Unlock()
	return errors.Join(err, ignoreNotExist(s.removeTemp(name)))
}

// read compares a file in tmp with its digest, and makes sure that nobody has
// it open for writing: the kernel grants a lease for reading only then.
func (s *Store) read(name string, d fsverity.Digest) error {
	f, err := s.openTemp(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK); errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("%w: it is open for writing", ErrForeign)
	}
	defer unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	_, err = s.check(f, d)
	return err
}

// Image takes over an image, and makes it durable.
func (l *Loan) Image(temp uint64, d fsverity.Digest) error {
	s := l.store
	name, _, err := l.take(temp)
	if err != nil {
		return fmt.Errorf("take over image %s: %w", d, err)
	}
	if s.verity {
		err = s.sealImage(name, d)
	} else {
		err = s.read(name, d)
	}
	if err != nil {
		return fmt.Errorf("take over image %s: %w", d, errors.Join(err, s.removeTemp(name)))
	}
	return s.nameImage(name, d)
}

// Layer takes over the record of a layer, as Save keeps one.
func (l *Loan) Layer(temp uint64, id string) error {
	s := l.store
	to, err := layerPath(id)
	if err != nil {
		return err
	}
	name, size, err := l.take(temp)
	if err == nil && size > maxRecord {
		err = errors.Join(fmt.Errorf("%w: a record of %d bytes", ErrForeign, size), s.removeTemp(name))
	}
	if err == nil {
		err = s.root.Rename(path.Join(tmpDir, name), atomicfile.Temp(to))
	}
	if err != nil {
		return fmt.Errorf("save layer %s: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.unnamed, id) {
		s.unnamed = append(s.unnamed, id)
	}
	return nil
}

// Learn takes over which content an object has. It is no more than a hint: what
// is put together with it is checked as a whole.
func (l *Loan) Learn(sum Sum, d fsverity.Digest) { l.store.learn(sum, d) }

// Vouch checks that an image is present and is what its name says.
func (s *Store) Vouch(d fsverity.Digest) error {
	if !s.verity {
		return s.CheckImage(d)
	}
	f, err := s.OpenImage(d)
	if err != nil {
		return err
	}
	defer f.Close()
	have, err := s.kernel.Measure(f)
	if err == nil && have != d {
		err = fmt.Errorf("%w: the kernel measures %s", fsverity.ErrMismatch, have)
	}
	return err
}

// Size returns the length of an object in bytes, if it is present and, with
// fs-verity, whole.
func (s *Store) Size(d fsverity.Digest) (int64, error) {
	if !s.Has(d) {
		return 0, &fs.PathError{Op: "open", Path: ObjectPath(d), Err: fs.ErrNotExist}
	}
	size, err := s.objectSize(d)
	if errors.Is(err, fs.ErrNotExist) { // not committed yet
		var st unix.Stat_t
		err = unix.Fstatat(int(s.tmp.Fd()), d.String(), &st, unix.AT_SYMLINK_NOFOLLOW)
		size = st.Size
	}
	return size, err
}
