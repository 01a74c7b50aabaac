// Package lock takes the locks of files that keep two programs from changing the
// same thing (flock(2)), at once or after a wait for whoever holds them.
package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/lib/exit"
	"golang.org/x/sys/unix"
)

// Option is the option that lets a command wait.
const Option = "wait"

// Forever is the limit of a wait that has none, as people write it.
const Forever = "infinity"

// Wait says how long a command waits for a lock that another process holds. It
// travels in the context of the command.
type Wait struct {
	// Asked says that the command waits at all.
	Asked bool
	// Limit is how long, 0 as long as it takes.
	Limit time.Duration
	// Tell is told, once for each lock, who holds it; may be nil.
	Tell func(message string)
}

type key struct{}

// With returns a context whose commands wait, or could have been asked to.
func With(ctx context.Context, w Wait) context.Context { return context.WithValue(ctx, key{}, w) }

// ParseLimit reads the value of the option.
func ParseLimit(s string) (time.Duration, error) {
	if s == Forever {
		return 0, nil
	}
	limit, err := time.ParseDuration(s)
	if err != nil || limit <= 0 {
		return 0, exit.Hint(exit.Usagef("option --%s: %q is not a duration", Option, s), "durations are written 90s, 5m or 1h30m")
	}
	return limit, nil
}

// Arguments are the options by which a program that is executed waits in the same
// way.
func Arguments(ctx context.Context) []string {
	switch w, _ := ctx.Value(key{}).(Wait); {
	case !w.Asked:
		return nil
	case w.Limit > 0:
		return []string{"--" + Option + "=" + w.Limit.String()}
	}
	return []string{"--" + Option}
}

// waits begins the message that tells for whom a command waits.
const waits = "waiting: "

// Heard passes on what a program that is executed with Arguments says about its
// wait, a line of its stderr.
func Heard(ctx context.Context, line string) {
	w, _ := ctx.Value(key{}).(Wait)
	var logged struct{ Text string }
	if json.Unmarshal([]byte(line), &logged) == nil {
		line = logged.Text
	}
	if _, held, ok := strings.Cut(line, waits); ok && w.Tell != nil {
		w.Tell(waits + held)
	}
}

// Take locks an open file for this process. If another one holds the lock, Take
// waits as the context's Wait says, and holder tells by whom: an error such as
// "the lock is held by stage quay.io/x/y:1 (pid 42)".
//
// Errors: that of holder with exit status 6, that of the context. The lock belongs
// to the open file; the kernel releases it with the last process that has it.
func Take(ctx context.Context, f *os.File, holder func() error) error {
	err := flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return err
	}
	w, offered := ctx.Value(key{}).(Wait)
	if !w.Asked {
		err := exit.WithCode(holder(), exit.Busy)
		if offered {
			err = exit.Hint(err, "--%s waits until it has finished", Option)
		}
		return err
	}
	held := holder()
	if w.Tell != nil {
		w.Tell(fmt.Sprintf("%s%v", waits, held))
	}
	ctxWait, cancel := ctx, context.CancelFunc(func() {})
	if w.Limit > 0 {
		ctxWait, cancel = context.WithTimeout(ctx, w.Limit)
	}
	defer cancel()
	// The kernel wakes who waits. A wait that is given up goes on in a thread until
	// the file is free, and then releases it at once: by then the caller has closed it.
	taken := make(chan error, 1)
	go func() { taken <- flock(f, unix.LOCK_EX) }()
	select {
	case err := <-taken:
		return err
	case <-ctxWait.Done():
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", held, err)
	}
	return exit.WithCode(fmt.Errorf("%w, still after %s", held, w.Limit), exit.Busy)
}

// flock works on the descriptor without making the file one that blocks.
func flock(f *os.File, how int) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	err = raw.Control(func(fd uintptr) {
		for {
			if locked = unix.Flock(int(fd), how); locked != unix.EINTR {
				return
			}
		}
	})
	return errors.Join(err, locked)
}
