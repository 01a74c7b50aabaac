// Package medium makes, reads and changes media: the disk images that boot as live
// systems.
package medium

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// workPrefix begins the names of directories for work, beside the file that is made.
const workPrefix = ".kairos-media-"

// work is a directory beside a file that is made. It is locked as long as the process
// lives: what a killed one has left is removed by the next one.
type work struct {
	dir  string
	lock *os.File
}

// newWork makes a directory for work in dir, and removes those of processes that have
// been killed.
func newWork(dir string) (*work, error) {
	old, err := filepath.Glob(filepath.Join(dir, workPrefix+"*"))
	if err != nil {
		return nil, err
	}
	for _, left := range old {
		var st unix.Stat_t // a directory may be one where anybody leaves something
		if unix.Lstat(left, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() {
			continue
		}
		if f, err := lockDir(left); err == nil {
			err = os.RemoveAll(left)
			if f.Close(); err != nil {
				return nil, fmt.Errorf("remove what a killed kairos-media has left: %w", err)
			}
		}
	}
	w := &work{}
	if w.dir, err = os.MkdirTemp(dir, workPrefix); err != nil {
		return nil, err
	}
	if w.lock, err = lockDir(w.dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(w.dir))
	}
	return w, nil
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (w *work) path(elem ...string) string { return filepath.Join(append([]string{w.dir}, elem...)...) }

func (w *work) mkdir(name string) (string, error) {
	return w.path(name), os.Mkdir(w.path(name), 0o700)
}

func (w *work) close() error { return errors.Join(os.RemoveAll(w.dir), w.lock.Close()) }
