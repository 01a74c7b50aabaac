package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kairos-io/toolkit/lib/lock"
	"github.com/kairos-io/toolkit/lib/terminal"
	"golang.org/x/sys/unix"
)

// Holder says who writes to a store: the content of the file lock.
type Holder struct {
	PID       int       `json:"pid"`
	Command   string    `json:"command"`             // "stage", "gc", …
	Reference string    `json:"reference,omitempty"` // what is being staged
	Since     time.Time `json:"since"`
}

// ID names the transaction, as digits: a process takes the lock no two times
// in a millisecond.
func (h Holder) ID() string { return strconv.FormatInt(h.Since.UnixMilli(), 10) }

func (h Holder) String() string {
	if h.PID == 0 {
		return "another transaction"
	}
	what := strings.TrimSpace(h.Command + " " + h.Reference)
	return fmt.Sprintf("%s (pid %d, since %s)", what, h.PID, terminal.Time(h.Since))
}

// BusyError says that another process writes to the store.
type BusyError struct{ Holder Holder }

func (e *BusyError) Error() string { return "the lock is held by " + e.Holder.String() }

// takeLock takes the lock, at once or as the context says (package lock). The lock
// belongs to the open file: the kernel releases it however the process ends.
func (s *Store) takeLock(ctx context.Context, h Holder) error {
	f, err := s.root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	waited := false
	err = lock.Take(ctx, f, func() error {
		waited = true
		return &BusyError{readHolder(f)}
	})
	if waited {
		h.Since = time.Now()
	}
	if err == nil {
		err = writeHolder(f, h)
	}
	if err != nil {
		f.Close()
		return err
	}
	s.lock, s.held = f, h
	return nil
}

// Held returns what this process holds the lock as, which it may have waited for.
func (s *Store) Held() Holder { return s.held }

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
	h, _ := s.holder()
	return h
}

// holder returns who holds the lock, and the process of which the kernel says
// that it does.
func (s *Store) holder() (*Holder, int) {
	f, err := s.root.Open(lockFile)
	if err != nil {
		return nil, 0
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return nil, 0
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil, 0
	}
	pid, held := holdsFlock(string(locks), inode(info))
	if !held {
		return nil, 0
	}
	h := readHolder(f)
	return &h, pid
}

// Interrupt asks the process that holds the lock to end its transaction
// (SIGTERM), if it still is the one with an id.
func (s *Store) Interrupt(id string) error {
	h, _ := s.holder()
	if h == nil || h.ID() != id {
		return ErrNotBusy
	}
	p, err := os.FindProcess(h.PID) // a pidfd: of this process, or of none
	if err != nil {
		return err
	}
	defer p.Release()
	// The handle belongs to the holder only if it holds the lock now.
	again, pid := s.holder()
	if again == nil || again.ID() != id || pid != h.PID {
		return ErrNotBusy
	}
	if err := p.Signal(unix.SIGTERM); err != nil {
		return fmt.Errorf("interrupt process %d: %w", h.PID, err)
	}
	return nil
}

// ErrNotBusy says that the transaction in question is over.
var ErrNotBusy = errors.New("no such transaction is running")

// Key names the store among those of this machine, "" when it has no lock yet:
// by file system and inode, whatever path leads there.
func (s *Store) Key() string {
	info, err := s.root.Stat(lockFile)
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%x-%d", st.Dev, st.Ino)
}

// holdsFlock looks for an exclusive flock on an inode in /proc/locks, whose
// lines are "1: FLOCK ADVISORY WRITE 42 fe:01:1234 0 EOF", and returns the
// process that took it.
func holdsFlock(locks string, inode uint64) (pid int, held bool) {
	for line := range strings.Lines(locks) {
		f := strings.Fields(line)
		if len(f) >= 6 && f[1] == "FLOCK" && f[3] == "WRITE" && strings.HasSuffix(f[5], fmt.Sprintf(":%d", inode)) {
			pid, _ = strconv.Atoi(f[4])
			return pid, true
		}
	}
	return 0, false
}

func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}
