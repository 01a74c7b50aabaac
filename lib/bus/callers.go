package bus

import (
	"context"
	"fmt"
	"sync"

	"github.com/godbus/dbus/v5"
)

// Caller is the process that made a call.
type Caller struct {
	UID uint32
	PID uint32 // 0 when unknown; the process may have ended, and its number may be another's by now
}

// Limits for each user who isn't root, over all connections, and for all such users
// together. Root alone may use the rest.
const (
	perUser       = 16 // unanswered calls
	perUserBytes  = 8 << 20
	perUserAsking = 8 // of those, calls that wait for polkit
	allUsers      = 8 * perUser
	allUsersBytes = 4 * perUserBytes
	perRoot       = 128
	perRootBytes  = 32 << 20
)

// maxKnown is how many connections are cached.
const maxKnown = 4096

// callers caches the credentials of connections, and counts the resources that each
// user takes.
type callers struct {
	// ask is a second connection: the goroutine that reads the messages of the service
	// waits for the answers to questions about callers, and could not read them from
	// its own connection.
	ask *dbus.Conn

	mu    sync.Mutex
	known map[string]Caller // by unique name, which the bus never assigns twice
	taken map[uint32]*share // by user
	all   share             // of all users but root
}

// share is the resources that unanswered calls take.
type share struct{ calls, bytes, asking int }

func (s *share) add(calls, bytes, asking int) {
	s.calls, s.bytes, s.asking = s.calls+calls, s.bytes+bytes, s.asking+asking
}

func newCallers(ctx context.Context, address string) (*callers, error) {
	ask, err := Dial(ctx, address)
	return &callers{ask: ask, known: map[string]Caller{}, taken: map[uint32]*share{}}, err
}

func (c *callers) who(ctx context.Context, name string) (Caller, error) {
	c.mu.Lock()
	caller, known := c.known[name]
	c.mu.Unlock()
	if known {
		return caller, nil
	}
	var said map[string]dbus.Variant
	err := c.ask.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetConnectionCredentials", 0, name).Store(&said)
	if err != nil {
		return Caller{}, denied(ErrorAccessDenied, "identify the caller %s: %v", name, err)
	}
	uid, ok := said["UnixUserID"].Value().(uint32)
	if !ok {
		return Caller{}, denied(ErrorAccessDenied, "identify the caller %s: the bus does not know it", name)
	}
	pid, _ := said["ProcessID"].Value().(uint32)
	caller = Caller{uid, pid}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxKnown {
		clear(c.known)
	}
	c.known[name] = caller
	return caller, nil
}

// enter admits a call of a user, or returns why not. Call leave exactly once.
func (c *callers) enter(uid uint32, bytes int) (leave func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := c.share(uid)
	switch {
	case uid == 0:
		if own.calls >= perRoot || own.bytes+bytes > perRootBytes {
			err = denied(errorLimits, "%d calls of root are not answered yet", own.calls)
		}
	case own.calls >= perUser || own.bytes+bytes > perUserBytes:
		err = denied(errorLimits, "%d calls of user %d are not answered yet", own.calls, uid)
	case c.all.calls >= allUsers || c.all.bytes+bytes > allUsersBytes:
		err = denied(errorLimits, "%d calls of all users are not answered yet", c.all.calls)
	}
	if err != nil {
		c.forget(uid)
		return nil, err
	}
	return c.take(uid, 1, bytes, 0), nil
}

// asking admits a question to polkit about a user, which may take as long as a person
// needs to type a password.
func (c *callers) asking(uid uint32) (asked func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.share(uid).asking; n >= perUserAsking {
		return nil, denied(errorLimits, "%d calls of user %d wait for an authorization already", n, uid)
	}
	return c.take(uid, 0, 0, 1), nil
}

// take counts resources until the returned function is called. The caller holds the
// lock.
func (c *callers) take(uid uint32, calls, bytes, asking int) func() {
	c.add(uid, calls, bytes, asking)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.add(uid, -calls, -bytes, -asking)
		c.forget(uid)
	}
}

func (c *callers) add(uid uint32, calls, bytes, asking int) {
	c.share(uid).add(calls, bytes, asking)
	if uid != 0 {
		c.all.add(calls, bytes, asking)
	}
}

func (c *callers) share(uid uint32) *share {
	own := c.taken[uid]
	if own == nil {
		own = &share{}
		c.taken[uid] = own
	}
	return own
}

// forget removes a user who takes no resources.
func (c *callers) forget(uid uint32) {
	if *c.taken[uid] == (share{}) {
		delete(c.taken, uid)
	}
}

func denied(name, format string, args ...any) error {
	return dbus.NewError(name, []any{fmt.Sprintf(format, args...)})
}
