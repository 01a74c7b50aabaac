// Package assess decides whether a boot is good.
//
// Start records that a boot came so far and what the boots before it came to;
// Check runs the health checks and gives the verdict; Fail records why there
// will be no good one, and reboots a boot that is on trial. Blessing and
// counting are systemd's: only MarkGood, MarkBad and Rearm, which a person
// asks for, touch a boot entry, and no other than that of what is running.
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

// Where things are, from the root of the system.
const (
	StateDir   = "/run/kairos/boot-assess"     // of this boot
	HistoryDir = "/var/lib/kairos/boot-assess" // of all boots
	ESPDir     = "/efi"
)

// PID1 is what an assessment needs of systemd.
type PID1 interface {
	checks.ServiceManager
	SoftReboots(ctx context.Context) (int, error)
	Jobs(ctx context.Context) ([]pid1.Job, error)
	Requires(ctx context.Context, unit string) ([]string, error)
	Reboot(ctx context.Context) error
	Close() error
}

// Node is a machine that boots. Everything it touches is a field, so that
// tests can put something else there.
type Node struct {
	Root       string // of the file system
	Vars       efivars.Vars
	Now        func() time.Time
	Uptime     func() time.Duration // since the kernel started
	Persistent func(dir string) bool
	Dial       func(context.Context) (PID1, error)
	Journal    func(journal.Entry) error
	Upgrade    func(ctx context.Context, args ...string) error // runs kairos-upgrade
	// Lines returns the last lines of the journal of a boot, up to a time
	// unless that is zero.
	Lines func(ctx context.Context, bootID string, until time.Time) ([]string, error)
	// Announce has what is new signalled on the bus.
	Announce func(context.Context) error
	Log      *slog.Logger
}

// Local returns this machine.
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
		Upgrade:  upgrade,
		Lines:    remains.Journal,
		Announce: announce,
		Log:      logline.New(os.Stderr, "kairos-boot-assess", false),
	}
}

func (n *Node) path(p string) string { return filepath.Join(n.Root, p) }

// Booted returns what is running.
func (n *Node) Booted() (deployment.Booted, error) {
	return deployment.ReadBooted(n.path(deployment.BootedPath))
}

// bootID returns the kernel's id of this boot, in the form that booted.json
// and the history use.
func (n *Node) bootID() string {
	data, _ := os.ReadFile(n.path("/proc/sys/kernel/random/boot_id"))
	return strings.TrimSpace(string(data))
}

// softReboots returns how often the user space was started anew in this boot;
// ok is false when systemd does not say.
func (n *Node) softReboots(ctx context.Context) (count int, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, askPID1)
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

// history returns where this boot's events go. Without persistent storage, as
// in recovery, they are kept until the reboot.
func (n *Node) history() (log history.Log, lasting bool) {
	dir := n.path(HistoryDir)
	if n.Persistent(dir) {
		return history.Log{Dir: dir}, true
	}
	return history.Log{Dir: n.path(StateDir)}, false
}

// tell writes an entry to the journal. Nothing depends on it.
func (n *Node) tell(e journal.Entry) {
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

// persistent reports whether files in a directory outlive a reboot. On a
// booted deployment everything that does not is on a tmpfs, or an overlay
// with one.
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
