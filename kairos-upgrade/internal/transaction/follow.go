package transaction

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kairos-io/toolkit/lib/inotify"
	"golang.org/x/sys/unix"
)

// ErrKilled says that the process ended before its transaction.
var ErrKilled = errors.New("the process was killed")

// Follow calls tell with each state of a running transaction, the first one
// at once and the last one when it is completed, and returns the last. Errors:
// ErrKilled, and that of ctx.
func (b Board) Follow(ctx context.Context, s State, onState func(State)) (State, error) {
	// The lock may be taken a moment before anything is published.
	if err := os.MkdirAll(b.Dir, 0o755); err != nil {
		return s, err
	}
	changes, err := inotify.New()
	if err != nil {
		return s, err
	}
	defer changes.Close()
	if err := changes.Add(b.Dir); err != nil {
		return s, err
	}
	ended, stop, err := exitOf(s.PID)
	if err != nil {
		return s, err
	}
	defer stop()
	onState(s)
	id := s.ID
	for killed := false; ; {
		now, err := b.Read()
		switch {
		case err == nil && now.ID == id && now != s:
			s = now
			onState(s)
		case err == nil && now.Since.After(s.Since): // it ended, and the next one has begun
			return s, fmt.Errorf("%s %s: its end was missed", s.Operation, s.Reference)
		}
		if s.Completed {
			return s, nil
		}
		if killed {
			return s, ErrKilled
		}
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-changes.Events():
		case <-ended:
			killed = true // unless it said more: look once again
		}
	}
}

// exitOf returns a channel that is closed when a process has ended, and with it
// its locks. stop must be called.
func exitOf(pid int) (ended <-chan struct{}, stop func(), err error) {
	done, left := make(chan struct{}), make(chan struct{})
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		close(done)
		return done, func() {}, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	f := os.NewFile(uintptr(fd), fmt.Sprintf("pidfd of %d", pid))
	go func() {
		defer close(left)
		if waitReadable(f) == nil {
			close(done)
		}
	}()
	return done, func() {
		f.SetReadDeadline(time.Unix(1, 0))
		<-left
		f.Close()
	}, nil
}

// waitReadable waits until the process is gone: pidfd_open(2).
func waitReadable(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return err == nil && n > 0
	})
}
