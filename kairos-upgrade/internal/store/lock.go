package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Holder says who writes to a store: the content of the file lock.
type Holder struct {
	PID       int       `json:"pid"`
	Command   string    `json:"command"`             // "stage", "gc", …
	Reference string    `json:"reference,omitempty"` // what is being staged
	Since     time.Time `json:"since"`
}

func (h Holder) String() string {
	if h.PID == 0 {
		return "another transaction"
	}
	what := strings.TrimSpace(h.Command + " " + h.Reference)
	return fmt.Sprintf("%s (pid %d, since %s)", what, h.PID, h.Since.Local().Format(time.DateTime))
}

// BusyError says that another process writes to the store.
type BusyError struct{ Holder Holder }

func (e *BusyError) Error() string { return "the lock is held by " + e.Holder.String() }

// takeLock takes the lock or fails at once. The lock belongs to the open file:
// the kernel releases it however the process ends.
func (s *Store) takeLock(h Holder) error {
	f, err := s.root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = &BusyError{readHolder(f)}
	}
	if err == nil {
		err = writeHolder(f, h)
	}
	if err != nil {
		f.Close()
		return err
	}
	s.lock = f
	return nil
}

func (s *Store) releaseLock() error {
	f := s.lock
	s.lock = nil
	return errors.Join(f.Truncate(0), f.Close())
}

func writeHolder(f *os.File, h Holder) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	if _, err := f.WriteAt(append(data, '\n'), 0); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	return nil
}

// readHolder reads who holds the lock. Right after it was taken nobody has
// said so yet: an unknown holder.
func readHolder(f *os.File) Holder {
	var h Holder
	data, _ := io.ReadAll(io.NewSectionReader(f, 0, 4096))
	_ = json.Unmarshal(data, &h)
	return h
}

// Busy returns who writes to the store now, nil when nobody does. It looks
// without touching the lock, so that it never gets into a writer's way.
func (s *Store) Busy() *Holder {
	f, err := s.root.Open(lockFile)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return nil
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil || !holdsFlock(string(locks), inode(info)) {
		return nil
	}
	h := readHolder(f)
	return &h
}

// holdsFlock looks for an exclusive flock on an inode in /proc/locks, whose
// lines are "1: FLOCK ADVISORY WRITE 42 fe:01:1234 0 EOF".
func holdsFlock(locks string, inode uint64) bool {
	for line := range strings.Lines(locks) {
		f := strings.Fields(line)
		if len(f) >= 6 && f[1] == "FLOCK" && f[3] == "WRITE" && strings.HasSuffix(f[5], fmt.Sprintf(":%d", inode)) {
			return true
		}
	}
	return false
}

func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}
