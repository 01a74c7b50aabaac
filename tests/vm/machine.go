package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kairos-io/toolkit/tests/workspace"
)

// Machine is a running virtual machine.
type Machine struct {
	Config  Config
	Console *Console
	port    net.Conn // the console's, to type at
	state   *state
	monitor *monitor
	guest   *guest
	qemu    *exec.Cmd
	stderr  strings.Builder
	sockets channels
	asking  atomic.Bool   // a question about the disks' requests is on its way to QEMU
	asked   atomic.Int64  // the last answer
	ended   chan struct{} // closed when QEMU has ended and all is cleaned up
}

// Start starts a machine and returns as soon as its firmware runs. The caller must end it.
func Start(ctx context.Context, config Config) (*Machine, error) {
	m := &Machine{Config: config, Console: newConsole(), state: newState(config.Observe), ended: make(chan struct{})}
	if err := m.start(ctx); err != nil {
		m.abandon()
		return nil, fmt.Errorf("start machine %s: %w", filepath.Base(config.Dir), err)
	}
	return m, nil
}

func (m *Machine) start(ctx context.Context) (err error) {
	if err := os.MkdirAll(m.Config.Dir, 0o755); err != nil {
		return err
	}
	lock, err := lockFolder(m.Config.Dir)
	if err != nil {
		return err
	}
	defer lock.Close() // QEMU inherits it, and so holds the lock until it ends
	if err := m.copyVars(); err != nil {
		return err
	}
	if err := m.createLogs(); err != nil {
		return err
	}
	if m.sockets.dir, err = os.MkdirTemp("/tmp", "kairos-vm-"); err != nil {
		return err
	}
	if err := m.startTPM(ctx); err != nil {
		return err
	}
	var conns [3]net.Conn
	for i, name := range []string{"qmp", "console", "agent"} {
		if conns[i], err = m.listen(name); err != nil {
			return err
		}
	}
	if err := m.startQEMU(lock); err != nil {
		return err
	}
	m.state.happened(Started, func() { m.state.boots = 1 })
	m.port = conns[1]
	go m.Console.follow(m.port, m.watch)
	m.guest = newGuest(conns[2], m.state)
	m.guest.hello()
	if m.monitor, err = newMonitor(conns[0], m.event); err != nil {
		m.Kill() // it has ended, most probably, and its messages say why
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(m.stderr.String()))
	}
	if m.Config.Resume != "" {
		return m.resume(ctx)
	}
	return nil
}

// ErrInUse says that a machine runs in that folder.
var ErrInUse = errors.New("a machine runs there already")

// InUse tells whether a machine runs in a folder.
func InUse(dir string) bool {
	lock, err := lockFolder(dir)
	if err == nil {
		lock.Close()
	}
	return errors.Is(err, ErrInUse)
}

func lockFolder(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return lock, nil
}

// abandon undoes what an unsuccessful start has done.
func (m *Machine) abandon() {
	if m.qemu != nil && m.qemu.Process != nil {
		m.Kill()
		return
	}
	m.stopTPM()
	os.RemoveAll(m.sockets.dir)
}

// copyVars gives the machine firmware variables of its own, once.
func (m *Machine) copyVars() error {
	if _, err := os.Stat(m.Config.vars()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	vars, err := os.ReadFile(workspace.Cache("tools") + firmwareVars)
	if err != nil {
		return err
	}
	return os.WriteFile(m.Config.vars(), vars, 0o644)
}

// createLogs empties the files that record what is written to disks: QEMU does not make them.
func (m *Machine) createLogs() error {
	for _, disk := range m.Config.Disks {
		if disk.Log == "" {
			continue
		}
		if err := os.WriteFile(disk.Log, nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// listen makes a listening socket for QEMU and connects to it: the connection waits in its queue
// until QEMU runs.
func (m *Machine) listen(name string) (net.Conn, error) {
	path := filepath.Join(m.sockets.dir, name)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	defer listener.Close()
	file, err := listener.File()
	if err != nil {
		return nil, err
	}
	m.sockets.listeners = append(m.sockets.listeners, file)
	return net.Dial("unix", path)
}

func (m *Machine) startQEMU(lock *os.File) error {
	m.qemu = workspace.Tool(context.Background(), "qemu-system-x86_64", m.Config.arguments(m.sockets)...)
	m.qemu.ExtraFiles = append(slices.Clone(m.sockets.listeners), lock)
	m.qemu.Stderr = &m.stderr
	start := workspace.Start
	if m.Config.Detach {
		start = workspace.StartDetached
	}
	ended, err := start(m.qemu)
	if err != nil {
		return err
	}
	go func() {
		<-ended
		for _, listener := range m.sockets.listeners {
			listener.Close()
		}
		m.stopTPM()
		os.RemoveAll(m.sockets.dir)
		m.state.happened(Exited, func() { m.state.session, m.state.exited = "", true })
		close(m.ended)
	}()
	return nil
}

// stuck matches what the console says when nothing more will happen by itself.
var stuck = regexp.MustCompile(`EFI Internal Shell|No bootable option or device|Press Enter for maintenance|end Kernel panic - not syncing.*`)

// watch is called with each piece of the console's text.
func (m *Machine) watch(text []byte) {
	if found := stuck.Find(text); found != nil {
		m.state.happened(Stuck, func() { m.state.stuck = string(found) })
	}
}

// event is called by the monitor.
func (m *Machine) event(name string, data json.RawMessage) {
	var detail struct {
		Guest  bool   `json:"guest"`
		Status string `json:"status"`
	}
	json.Unmarshal(data, &detail)
	switch {
	case name == "RESET" && detail.Guest:
		m.state.happened(Reset, func() { m.state.boots, m.state.session, m.state.stuck = m.state.boots+1, "", "" })
		m.guest.lost()
	case name == "MIGRATION" && (detail.Status == "completed" || detail.Status == "failed"):
		m.state.happened(Moved, func() { m.state.migration = detail.Status })
	case name == "SHUTDOWN" && detail.Guest:
		m.state.happened(PowerOff, func() { m.state.session = "" })
		m.guest.lost()
		go m.end()
	}
}

// end reads the statistics of a machine that is off, and lets QEMU go.
func (m *Machine) end() {
	if traffic, err := m.DiskIO(); err == nil {
		m.state.mu.Lock()
		m.state.traffic = traffic
		m.state.mu.Unlock()
	}
	m.monitor.do("quit", nil, nil)
}

// Detach leaves the machine running when this process ends. Its Config must say so from the start.
func (m *Machine) Detach() error {
	return m.monitor.do("set-action", map[string]any{"shutdown": "poweroff"}, nil)
}

// CPU is the processor time that the machine has used, as this host sees it.
func (m *Machine) CPU() time.Duration {
	select {
	case <-m.ended:
		return m.qemu.ProcessState.UserTime() + m.qemu.ProcessState.SystemTime()
	default:
		used, _ := processors(m.qemu.Process.Pid)
		return used
	}
}

// PID is QEMU's process id.
func (m *Machine) PID() int { return m.qemu.Process.Pid }

// Boots returns how often the firmware began: 1 after the start.
func (m *Machine) Boots() int {
	m.state.mu.Lock()
	defer m.state.mu.Unlock()
	return m.state.boots
}

// WaitBoot waits until the boot of that number (1 is the first) or a later one has an agent. This and all
// other waits for a machine end with ErrStalled when it shows no activity any more.
func (m *Machine) WaitBoot(ctx context.Context, number int) error {
	ctx, cancel := m.watched(ctx)
	defer cancel()
	err := m.state.wait(ctx, fmt.Sprintf("boot %d", number), func() (bool, error) {
		if m.state.exited {
			return false, errMonitorGone
		}
		if m.state.stuck != "" {
			return false, fmt.Errorf("the machine stands still: %s", m.state.stuck)
		}
		return m.state.boots >= number && m.state.session != "", nil
	})
	return m.explain(err)
}

// WaitConsole waits until what the console said after mark matches pattern, and returns the match.
func (m *Machine) WaitConsole(ctx context.Context, mark int, pattern *regexp.Regexp) (string, error) {
	ctx, cancel := m.watched(ctx)
	defer cancel()
	return m.Console.wait(ctx, mark, pattern)
}

// Ended is closed when the machine has ended, whatever ended it.
func (m *Machine) Ended() <-chan struct{} { return m.ended }

// WaitOff waits until the machine, which is going down, has ended.
func (m *Machine) WaitOff(ctx context.Context) error {
	ctx, cancel := m.watched(ctx)
	defer cancel()
	select {
	case <-m.ended:
		return nil
	case <-ctx.Done():
		return m.explain(fmt.Errorf("wait for power-off: %w", context.Cause(ctx)))
	}
}

// explain adds the console's end to an error.
func (m *Machine) explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("machine %s: %w%s", filepath.Base(m.Config.Dir), err, m.Console.Tail(40))
}

// Run runs a script in the guest, by bash as root, once an agent is there. Only what keeps it from
// ending is an error.
func (m *Machine) Run(ctx context.Context, script string) (Result, error) {
	return m.Stream(ctx, script, nil)
}

// Stream is Run that also copies the script's output to live, as it comes.
func (m *Machine) Stream(ctx context.Context, script string, live io.Writer) (Result, error) {
	ctx, cancel := m.watched(ctx)
	defer cancel()
	if err := m.WaitBoot(ctx, 1); err != nil {
		return Result{}, err
	}
	m.state.mu.Lock()
	session := m.state.session
	m.state.mu.Unlock()
	result, err := m.guest.run(ctx, session, script, live)
	if err != nil {
		return result, m.explain(fmt.Errorf("run %q: %w", script, err))
	}
	return result, nil
}

// Output runs a script that must succeed, and returns its standard output.
func (m *Machine) Output(ctx context.Context, script string) (string, error) {
	result, err := m.Run(ctx, script)
	if err == nil && result.Status != 0 {
		err = &StatusError{script, result}
	}
	return result.Stdout, err
}

// Reboot asks the guest to reboot and waits for the next boot's agent.
func (m *Machine) Reboot(ctx context.Context) error {
	number := m.Boots() + 1
	if _, err := m.Run(ctx, "systemctl reboot"); err != nil && !errors.Is(err, ErrInterrupted) {
		return err
	}
	return m.WaitBoot(ctx, number)
}

// PowerOff asks the guest to power off and waits for the end.
func (m *Machine) PowerOff(ctx context.Context) error {
	if _, err := m.Run(ctx, "systemctl poweroff"); err != nil && !errors.Is(err, ErrInterrupted) {
		return err
	}
	return m.WaitOff(ctx)
}

// Type types at the console.
func (m *Machine) Type(text string) error {
	_, err := io.WriteString(m.port, text)
	return err
}

// Kill ends the machine as a power cut does. Ending what has ended is no error.
func (m *Machine) Kill() {
	m.qemu.Process.Kill()
	<-m.ended
}

// IO is what was read from and written to a disk since the machine was started, in bytes.
type IO struct{ Read, Written int64 }

// DiskIO returns the traffic of each disk by its name; of a machine that has powered off, all of it.
func (m *Machine) DiskIO() (map[string]IO, error) {
	m.state.mu.Lock()
	traffic := m.state.traffic
	m.state.mu.Unlock()
	if traffic != nil {
		return traffic, nil
	}
	var devices []struct {
		Device string `json:"device"`
		Stats  struct {
			Read    int64 `json:"rd_bytes"`
			Written int64 `json:"wr_bytes"`
		} `json:"stats"`
	}
	if err := m.monitor.do("query-blockstats", nil, &devices); err != nil {
		return nil, err
	}
	traffic = map[string]IO{}
	for _, device := range devices {
		if name, ok := strings.CutPrefix(device.Device, "drive-"); ok {
			traffic[name] = IO{device.Stats.Read, device.Stats.Written}
		}
	}
	return traffic, nil
}
