// Package pid1 queries systemd about its units and jobs, and asks it for a reboot:
// org.freedesktop.systemd1(5).
package pid1

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// Unit is a unit as systemd has it loaded.
type Unit struct {
	Name        string
	Description string
	Load        string // "loaded", "not-found", …
	Active      string // "active", "failed", …
	Sub         string // depends on the type of unit: "running", "auto-restart", …
	path        dbus.ObjectPath
}

// Job is a job of the queue.
type Job struct {
	ID    uint32
	Unit  string
	Type  string // "start", "stop", …
	State string // "running", or "waiting" for other jobs
}

// String names the job as systemctl list-jobs does.
func (j Job) String() string { return j.Unit + "/" + j.Type }

// privateSocket is systemd's private socket, which exists before any message bus and
// only accepts root.
const privateSocket = "/run/systemd/private"

const (
	service   = "org.freedesktop.systemd1"
	object    = "/org/freedesktop/systemd1"
	managerIf = service + ".Manager"
)

// Conn is a connection to systemd.
type Conn struct {
	conn    *dbus.Conn
	changed chan struct{}
	done    chan struct{}
}

// Dial connects to the systemd of this machine, without a message bus.
func Dial(ctx context.Context) (*Conn, error) {
	c, err := dial(ctx, privateSocket)
	if err != nil {
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	return c, nil
}

func dial(ctx context.Context, socket string) (*Conn, error) {
	var dialer net.Dialer
	transport, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	// The handshake does not know ctx: end it by ending the connection.
	stop := context.AfterFunc(ctx, func() { transport.Close() })
	defer stop()
	conn, err := dbus.NewConn(transport)
	if err != nil {
		return nil, errors.Join(err, transport.Close())
	}
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return nil, errors.Join(cmp.Or(ctx.Err(), err), conn.Close())
	}
	c := newConn(conn)
	if err := c.greet(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// greet sends messages until systemd answers one. Data that arrives together with the
// BEGIN at the end of the handshake stays in systemd's buffer until more arrives
// (sd-bus reads both at once and then waits for the socket), and BEGIN itself is not
// answered: without this, nine of ten first calls would wait forever.
func (c *Conn) greet(ctx context.Context) error {
	for pause := time.Millisecond; ; pause *= 2 {
		call := c.conn.Object(service, object).GoWithContext(ctx, "org.freedesktop.DBus.Peer.Ping", 0, make(chan *dbus.Call, 1))
		select {
		case answer := <-call.Done:
			return answer.Err
		case <-time.After(pause):
		}
	}
}

// newConn wraps a connection. systemd sends its signals on private connections without
// a subscription (src/core/dbus.c, bus_foreach_bus).
func newConn(conn *dbus.Conn) *Conn {
	c := &Conn{conn: conn, changed: make(chan struct{}, 1), done: make(chan struct{})}
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	go func() { // ends when Close closes the connection, and with it the channel
		defer close(c.done)
		for range signals {
			select {
			case c.changed <- struct{}{}:
			default: // told already
			}
		}
	}()
	return c
}

// Close ends the connection.
func (c *Conn) Close() error {
	err := c.conn.Close()
	<-c.done
	return err
}

// Changed returns a channel that receives after units or jobs changed; one value may
// stand for several changes.
func (c *Conn) Changed() <-chan struct{} { return c.changed }

func (c *Conn) call(ctx context.Context, method string, args ...any) *dbus.Call {
	return c.conn.Object(service, object).CallWithContext(ctx, managerIf+"."+method, 0, args...)
}

// Units returns the loaded units whose load, active or sub state is one of
// states; all of them without states.
func (c *Conn) Units(ctx context.Context, states ...string) ([]Unit, error) {
	var rows []struct {
		Name, Description, Load, Active, Sub, Following string
		Path                                            dbus.ObjectPath
		JobID                                           uint32
		JobType                                         string
		JobPath                                         dbus.ObjectPath
	}
	if states == nil {
		states = []string{}
	}
	if err := c.call(ctx, "ListUnitsFiltered", states).Store(&rows); err != nil {
		return nil, fmt.Errorf("list units: %w", err)
	}
	units := make([]Unit, 0, len(rows))
	for _, r := range rows {
		units = append(units, Unit{r.Name, r.Description, r.Load, r.Active, r.Sub, r.Path})
	}
	return units, nil
}

// Jobs returns the queue of jobs.
func (c *Conn) Jobs(ctx context.Context) ([]Job, error) {
	var rows []struct {
		ID                uint32
		Unit, Type, State string
		JobPath, UnitPath dbus.ObjectPath
	}
	if err := c.call(ctx, "ListJobs").Store(&rows); err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	jobs := make([]Job, 0, len(rows))
	for _, r := range rows {
		jobs = append(jobs, Job{r.ID, r.Unit, r.Type, r.State})
	}
	return jobs, nil
}

// SoftReboots returns the number of soft reboots since the kernel started, 0 for a
// systemd without them (before 254).
func (c *Conn) SoftReboots(ctx context.Context) (int, error) {
	var n uint32
	err := c.property(ctx, object, managerIf, "SoftRebootsCount", &n)
	var answer dbus.Error
	if errors.As(err, &answer) && answer.Name == "org.freedesktop.DBus.Error.UnknownProperty" {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("count soft-reboots: %w", err)
	}
	return int(n), nil
}

// Restarts returns how often systemd has restarted a service automatically.
func (c *Conn) Restarts(ctx context.Context, u Unit) (int, error) {
	var n uint32
	if err := c.property(ctx, u.path, service+".Service", "NRestarts", &n); err != nil {
		return 0, fmt.Errorf("restarts of %s: %w", u.Name, err)
	}
	return int(n), nil
}

// Up returns for how long a unit has been active without a break, 0 when it is
// not active.
func (c *Conn) Up(ctx context.Context, u Unit) (time.Duration, error) {
	var since uint64 // microseconds of CLOCK_MONOTONIC
	if err := c.property(ctx, u.path, service+".Unit", "ActiveEnterTimestampMonotonic", &since); err != nil {
		return 0, fmt.Errorf("since when %s is active: %w", u.Name, err)
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, fmt.Errorf("read clock: %w", err)
	}
	if since == 0 || u.Active != "active" {
		return 0, nil
	}
	return time.Duration(now.Nano()) - time.Duration(since)*time.Microsecond, nil
}

// Result returns the result of a service, mount or socket: "exit-code", "timeout", …,
// "" for other units.
func (c *Conn) Result(ctx context.Context, u Unit) string {
	for _, kind := range []string{"Service", "Mount", "Swap", "Socket"} {
		var result string
		if c.property(ctx, u.path, service+"."+kind, "Result", &result) == nil {
			return result
		}
	}
	return ""
}

// Requires returns the units that a loaded unit requires.
func (c *Conn) Requires(ctx context.Context, unit string) ([]string, error) {
	var path dbus.ObjectPath
	if err := c.call(ctx, "GetUnit", unit).Store(&path); err != nil {
		return nil, fmt.Errorf("find %s: %w", unit, err)
	}
	var names []string
	if err := c.property(ctx, path, service+".Unit", "Requires", &names); err != nil {
		return nil, fmt.Errorf("what %s requires: %w", unit, err)
	}
	return names, nil
}

// property returns a property of a unit.
func (c *Conn) property(ctx context.Context, path dbus.ObjectPath, iface, name string, value any) error {
	return c.conn.Object(service, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, iface, name).Store(value)
}

// Reboot shuts the machine down and reboots it. Where irreversible jobs prevent that,
// as in emergency mode, systemd kills all processes, unmounts file systems, and
// reboots.
func (c *Conn) Reboot(ctx context.Context) error {
	var job dbus.ObjectPath
	err := c.call(ctx, "StartUnit", "reboot.target", "replace-irreversibly").Store(&job)
	if err == nil {
		return nil
	}
	if forced := c.call(ctx, "Reboot").Err; forced != nil {
		return fmt.Errorf("reboot: %w; by force: %w", err, forced)
	}
	return nil
}
