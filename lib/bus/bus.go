// Package bus is the framework of the toolkit's D-Bus services. It owns a bus name,
// answers calls on objects with introspection data, signals changed properties, asks
// polkit about callers who are not root, names errors after exit statuses, and ends an
// idle process.
//
// A service calls Connect, exports its objects with Export, calls Run, and returns from
// main when Run returns. Long work holds the service (Hold) and uses its Context, which
// is cancelled when the service is told to stop.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/sdnotify"
)

// Config holds the settings of a service.
type Config struct {
	// Name is the well-known name, such as "io.kairos.Upgrade1", and the prefix of the
	// names of errors.
	Name string
	// Address is the address of the bus; the system bus if empty.
	Address string
	// Idle is how long the service runs without calls and holds. With 0 it runs until
	// it is stopped.
	Idle time.Duration
	// Files says that methods take file descriptors. Otherwise the bus delivers no
	// message with file descriptors.
	Files bool
	// Explanations give errors their statuses and hints; may be nil.
	Explanations exit.Explanations
	Log          *slog.Logger
}

// Service is a connection to a bus with objects on it. Its methods may be used
// by several goroutines.
type Service struct {
	config  Config
	conn    *dbus.Conn
	ctx     context.Context // parent of the contexts of calls and of long work
	stop    context.CancelFunc
	callers *callers

	mu      sync.Mutex
	objects map[dbus.ObjectPath]*Object
	active  int           // number of unanswered calls and of holds
	changed chan struct{} // signalled when active becomes 0, or more than 0
}

// Connect connects to the bus. The service has no name there before Run.
func Connect(config Config) (*Service, error) {
	s := &Service{
		config:  config,
		objects: map[dbus.ObjectPath]*Object{},
		changed: make(chan struct{}, 1),
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	var err error
	if s.callers, err = newCallers(s.ctx, config.Address); err == nil {
		if s.conn, err = dial(s.ctx, config.Address, s, config.Files); err != nil {
			s.callers.ask.Close()
		}
	}
	if err != nil {
		s.stop()
		return nil, exit.Hint(fmt.Errorf("connect to the bus: %w", err), "systemctl status dbus.socket shows whether it runs")
	}
	return s, nil
}

// Conn returns the connection, for calls to other services.
func (s *Service) Conn() *dbus.Conn { return s.conn }

// Context is cancelled when the service is told to stop.
func (s *Service) Context() context.Context { return s.ctx }

// Close closes the connection of a service on which Run was never called.
func (s *Service) Close() error {
	s.stop()
	return errors.Join(s.conn.Close(), s.callers.ask.Close())
}

// Hold keeps the service running until release is called. Call release exactly once.
func (s *Service) Hold() (release func()) {
	s.begin()
	return sync.OnceFunc(s.end)
}

func (s *Service) begin() { s.count(1) }
func (s *Service) end()   { s.count(-1) }

func (s *Service) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.active
	s.active += n
	if was == 0 || s.active == 0 {
		select {
		case s.changed <- struct{}{}:
		default: // told already
		}
	}
}

func (s *Service) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active > 0
}

// Errors of Run.
var (
	ErrNameTaken = errors.New("another process owns the name")
	ErrClosed    = errors.New("the bus has closed the connection")
)

// Run requests the name and serves calls until the service is idle or ctx ends, which
// also cancels Context. It returns when all calls and holds have ended. Long work goes
// on when the connection to the bus is lost.
func (s *Service) Run(ctx context.Context) error {
	defer s.Close()
	if err := s.take(); err != nil {
		return fmt.Errorf("take the name %s: %w", s.config.Name, err)
	}
	err := s.serve(ctx)
	if err == nil { // idle: the name is given up
		return nil
	}
	if ctx.Err() == nil { // the bus failed
		s.wait()
		return err
	}
	sdnotify.Stopping()
	s.stop()
	s.wait()
	return s.release()
}

// extension is the additional time that the service asks of the service manager each
// time a call arrives while it stops.
const extension = time.Minute

// serve returns nil once the service was idle and has released its name, and an error
// when it has to stop.
func (s *Service) serve(ctx context.Context) error {
	timer := time.NewTimer(max(s.config.Idle, 0))
	defer timer.Stop()
	if s.config.Idle <= 0 {
		timer.Stop()
	}
	var extend <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.conn.Context().Done():
			return ErrClosed
		case <-s.changed:
			timer.Stop()
			if !s.busy() && s.config.Idle > 0 {
				timer.Reset(s.config.Idle)
			}
		case <-timer.C:
			left, err := s.leave()
			if left || err != nil {
				return err
			}
			if extend == nil {
				ticker := time.NewTicker(extension / 2)
				defer ticker.Stop()
				extend = ticker.C
			}
			sdnotify.ExtendTimeout(extension)
		case <-extend:
			sdnotify.ExtendTimeout(extension)
		}
	}
}

// leave releases the name, unless a call has arrived meanwhile.
//
// No call is lost, because of the order. First the service manager is told that the
// service stops: from then on, a request to start the service waits until this process
// has ended. A message that was sent to the name before its release arrives before the
// bus answers to the release, and is counted by then. If there is such a call, leave
// requests the name again, so that the caller can use the objects that the call
// creates, and asks the service manager for more time.
func (s *Service) leave() (left bool, err error) {
	if s.busy() {
		return false, nil
	}
	sdnotify.Stopping()
	if err := s.release(); err != nil {
		return false, err
	}
	return s.stay()
}

// stay requests the name again if a call has arrived.
func (s *Service) stay() (left bool, err error) {
	if !s.busy() {
		return true, nil
	}
	return false, s.take()
}

// wait returns when there are no calls and no holds.
func (s *Service) wait() {
	for s.busy() {
		<-s.changed
	}
}

func (s *Service) take() error {
	reply, err := s.conn.RequestName(s.config.Name, dbus.NameFlagDoNotQueue)
	switch {
	case err != nil:
		return err
	case reply != dbus.RequestNameReplyPrimaryOwner:
		return exit.WithCode(ErrNameTaken, exit.Busy)
	}
	return nil
}

func (s *Service) release() error {
	if _, err := s.conn.ReleaseName(s.config.Name); err != nil {
		return fmt.Errorf("release the name %s: %w", s.config.Name, err)
	}
	return nil
}
