// Package assess decides whether a boot is good.
//
// Start records that a boot has mounted its local file systems, and the results of
// earlier boots. Check runs the health checks and records the verdict. Fail records why
// a boot has failed, and reboots a boot on trial. systemd counts tries and blesses
// entries: only MarkGood, MarkBad and Rearm, which an operator calls, change a boot
// entry, and only that of the running deployment.
package assess

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/checks"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/pid1"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/remains"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/efivars"
	"github.com/kairos-io/toolkit/lib/journal"
	"github.com/kairos-io/toolkit/lib/kernelargs"
	"github.com/kairos-io/toolkit/lib/logline"
)

// Paths, relative to the root of the system.
const (
	StateDir   = "/run/kairos/boot-assess"     // of this boot
	HistoryDir = "/var/lib/kairos/boot-assess" // of all boots
	ESPDir     = "/efi"
)

// PID1 is the interface to systemd.
type PID1 interface {
	checks.ServiceManager
	SoftReboots(ctx context.Context) (int, error)
	Jobs(ctx context.Context) ([]pid1.Job, error)
	Requires(ctx context.Context, unit string) ([]string, error)
	Reboot(ctx context.Context) error
	Close() error
}

// Node is the machine that boots. Tests replace its fields.
type Node struct {
	Root       string // root directory of the file system
	Vars       efivars.Vars
	Now        func() time.Time
	Uptime     func() time.Duration // time since the kernel started
	Persistent func(dir string) bool
	Dial       func(context.Context) (PID1, error)
	Journal    func(journal.Entry) error
	Upgrade    func(ctx context.Context, args ...string) error // runs kairos-upgrade
	// Lines returns the last lines of a boot's journal, up to a time unless it is zero.
	Lines func(ctx context.Context, bootID string, until time.Time) ([]string, error)
	// SignalVerdict makes the service send signals about changes.
	SignalVerdict func(context.Context) error
	Log           *slog.Logger
}

// Local returns the running machine.
func Local() *Node {
	return &Node{
		Root:       "/",
		Vars:       efivars.System(),
		Now:        time.Now,
		Uptime:     uptime,
		Persistent: persistent,
		Dial:       func(ctx context.Context) (PID1, error) { return pid1.Dial(ctx) },
		Journal: func(e journal.Entry) error {
			e.Program = "kairos-boot-assess"
			return journal.Send(journal.Socket, e)
		},
		Upgrade:       upgrade,
		Lines:         remains.Journal,
		SignalVerdict: signalVerdict,
		Log:           logline.New(os.Stderr, "kairos-boot-assess", false),
	}
}

func (n *Node) path(p string) string { return filepath.Join(n.Root, p) }

// Booted describes the running system.
func (n *Node) Booted() (deployment.Booted, error) {
	return deployment.ReadBooted(n.path(deployment.BootedPath))
}

// bootID returns the kernel's id of this boot, in the form that booted.json
// and the history use.
func (n *Node) bootID() string {
	data, _ := os.ReadFile(n.path("/proc/sys/kernel/random/boot_id"))
	return strings.TrimSpace(string(data))
}

// softReboots returns how many soft reboots there were in this boot; ok is false when
// systemd does not say.
func (n *Node) softReboots(ctx context.Context) (count int, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, pid1Timeout)
	defer cancel()
	systemd, err := n.Dial(ctx)
	if err == nil {
		defer systemd.Close()
		count, err = systemd.SoftReboots(ctx)
	}
	if err != nil {
		n.Log.Warn(err.Error())
	}
	return count, err == nil
}

// kernelArguments returns the words of the kernel command line.
func (n *Node) kernelArguments() []string {
	data, _ := os.ReadFile(n.path("/proc/cmdline"))
	return slices.Collect(kernelargs.Words(string(data)))
}

// history returns the history for this boot's events. Without persistent storage, as in
// recovery, it is lost at the reboot.
func (n *Node) history() (log history.Log, lasting bool) {
	dir := n.path(HistoryDir)
	if n.Persistent(dir) {
		return history.Log{Dir: dir}, true
	}
	return history.Log{Dir: n.path(StateDir)}, false
}

// writeJournal writes an entry to the journal, and ignores errors.
func (n *Node) writeJournal(e journal.Entry) {
	if err := n.Journal(e); err != nil {
		n.Log.Warn(err.Error())
		n.Log.Info(e.Message)
	}
}

func uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// persistent reports whether files in a directory survive a reboot. In a booted
// deployment other directories are on a tmpfs, or on an overlay with one.
func persistent(dir string) bool {
	var fs unix.Statfs_t
	for unix.Statfs(dir, &fs) == unix.ENOENT && dir != "/" {
		dir = filepath.Dir(dir)
	}
	switch fs.Type {
	case 0, unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC:
		return false
	}
	return true
}
