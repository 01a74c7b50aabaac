package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A wait for a machine has no deadline of its own: a busy host makes each of them too short. It ends
// when the machine shows no activity any more.
const idleShare = 10 // percent of one processor that an idle guest may use, for its timers

// patience is how long a machine may show nothing.
type patience struct {
	sample time.Duration // how often it is looked at
	idle   time.Duration // wall time in which nothing at all happened
	// spin is processor time that QEMU used without a line on the console, a request to a disk or a word
	// from the agent: a guest in an endless loop looks busy.
	spin time.Duration
}

var machinePatience = patience{sample: 5 * time.Second, idle: 4 * time.Minute, spin: 15 * time.Minute}

// ErrStalled says that a machine was given up, because nothing happened in it any more.
var ErrStalled = errors.New("nothing happens in the machine any more")

// activity is what can be seen of a machine from outside.
type activity struct {
	Signs   int64         // pieces of console output, replies of the agent, requests to the disks
	CPU     time.Duration // processor time that QEMU has used
	Wanting bool          // one of its threads has something to do
}

// watchdog decides from one sample after the other whether a machine is still active.
type watchdog struct {
	patience
	last        activity
	still, spun time.Duration // since the last sign
}

// take takes what is seen, elapsed after the sample before, and returns an error when the machine has
// stalled.
func (w *watchdog) take(elapsed time.Duration, now activity) error {
	used, signs := now.CPU-w.last.CPU, now.Signs != w.last.Signs
	w.last = now
	if signs {
		w.still, w.spun = 0, 0
		return nil
	}
	w.spun += used
	if !now.Wanting && used <= elapsed*idleShare/100 {
		// This process may have been stopped itself: a sample stands for no more than its interval.
		w.still += min(elapsed, 2*w.patience.sample)
	}
	switch {
	case w.still >= w.idle:
		return fmt.Errorf("%w: no console output, no disk requests and idle processors for %s", ErrStalled, w.still)
	case w.spun >= w.spin:
		return fmt.Errorf("%w: no console output and no disk requests while its processors ran for %s", ErrStalled, w.spun)
	}
	return nil
}

// watched returns a context that ends, besides with ctx, when the machine shows no activity any more.
func (m *Machine) watched(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if m.qemu != nil { // a test's machine may be nothing but an agent
		go patrol(ctx, cancel, machinePatience, m.activity)
	}
	return ctx, func() { cancel(nil) }
}

// patrol looks at a machine until ctx ends, and ends ctx itself when the machine has stalled.
func patrol(ctx context.Context, giveUp context.CancelCauseFunc, p patience, look func() activity) {
	ticker := time.NewTicker(p.sample)
	defer ticker.Stop()
	dog := watchdog{patience: p}
	for before := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		if err := dog.take(now.Sub(before), look()); err != nil {
			giveUp(err)
			return
		}
		before = now
	}
}

// activity looks at the machine. What can't be seen, of a machine that is about to end, is no activity.
func (m *Machine) activity() activity {
	a := activity{Signs: m.Console.signs() + m.requests()}
	if m.guest != nil {
		a.Signs += m.guest.replies.Load()
	}
	a.CPU, a.Wanting = processors(m.qemu.Process.Pid)
	return a
}

// requests counts what the disks were asked for. A QEMU that doesn't answer is not waited for: the last
// answer holds.
func (m *Machine) requests() int64 {
	if m.monitor != nil && m.asking.CompareAndSwap(false, true) {
		go func() {
			defer m.asking.Store(false)
			var devices []struct {
				Stats struct {
					Read    int64 `json:"rd_operations"`
					Written int64 `json:"wr_operations"`
					Flushed int64 `json:"flush_operations"`
				} `json:"stats"`
			}
			if m.monitor.do("query-blockstats", nil, &devices) != nil {
				return
			}
			var sum int64
			for _, d := range devices {
				sum += d.Stats.Read + d.Stats.Written + d.Stats.Flushed
			}
			m.asked.Store(sum)
		}()
	}
	return m.asked.Load()
}

// processors returns how much processor time a process has used, and whether one of its threads runs, could
// run, or waits for the kernel's input and output: on a busy host it may hardly come to that
// (proc_pid_stat(5)).
func processors(pid int) (used time.Duration, wanting bool) {
	if fields := statFields(fmt.Sprintf("/proc/%d/stat", pid)); len(fields) > 12 {
		user, _ := strconv.ParseInt(fields[11], 10, 64)
		system, _ := strconv.ParseInt(fields[12], 10, 64)
		used = time.Duration(user+system) * time.Second / ticksPerSecond
	}
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, file := range threads {
		if fields := statFields(file); len(fields) > 0 && (fields[0] == "R" || fields[0] == "D") {
			wanting = true
		}
	}
	return used, wanting
}

const ticksPerSecond = 100 // USER_HZ, the same on all machines that the tests run on

// statFields returns the fields of a stat file from the state on, the third. The name before it may have
// spaces and parentheses.
func statFields(file string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil // it has ended
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}
