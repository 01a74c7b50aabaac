// Package bus is the one way in which the toolkit's services meet D-Bus: it
// owns a name, answers calls on objects that describe themselves, tells of
// changed properties, asks polkit about callers who are not root, names errors
// as exit statuses are numbered, and ends the process when nobody needs it.
//
// A service is built in four steps: Connect, Export its objects, Run, and
// return from main when Run returns. Long work holds the service (Hold) and
// uses its Context, which ends when the service is told to stop.
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

// Config says what a service is.
type Config struct {
	// Name is the well-known name, "io.kairos.Upgrade1"; errors are named
	// after it.
	Name string
	// Address is that of the bus; the system bus if empty.
	Address string
	// Idle is how long the service lives without calls and holds. 0: until it
	// is stopped.
	Idle time.Duration
	// Files says that methods take file descriptors. Otherwise the bus keeps all
	// messages away that have any.
	Files bool
	Log   *slog.Logger
}

// Service is a connection to a bus with objects on it. Its methods may be used
// by several goroutines.
type Service struct {
	config  Config
	conn    *dbus.Conn
	ctx     context.Context // of calls and of long work
	stop    context.CancelFunc
	callers *callers

	mu      sync.Mutex
	objects map[dbus.ObjectPath]*Object
	active  int           // calls that are not answered, and holds
	changed chan struct{} // active has become 0, or more than 0
}

// Connect connects to the bus. Nobody can find the service before Run.
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

// Conn is the connection, for calls to others.
func (s *Service) Conn() *dbus.Conn { return s.conn }

// Context ends when the service is told to stop.
func (s *Service) Context() context.Context { return s.ctx }

// Close ends the connection of a service that was never run.
func (s *Service) Close() error {
	s.stop()
	return errors.Join(s.conn.Close(), s.callers.ask.Close())
}

// Hold keeps the service alive until release is called, once.
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

// Run takes the name and serves until nobody needs the service, or until ctx
// ends, which stops calls and long work through Context. It returns when both
// are over. Work outlives a bus that goes away.
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

// extension is how much more time the service manager gives an instance that
// was on the point of leaving, each time.
const extension = time.Minute

// serve returns nil once the service has been idle and its name is given up,
// and an error when it has to stop.
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

// leave gives up the name, unless somebody has called meanwhile.
//
// The order makes it safe against a call at the last moment. The service
// manager is told first: from then on, a request to start the service waits
// until this process is gone. What was sent to the name before it is given up
// arrives before the bus' answer, and has been counted then. If there is such
// a call, the name is taken back, so that the caller finds what the call has
// begun, and the service manager waits a little longer.
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

// stay takes the name back if there is a reason to.
func (s *Service) stay() (left bool, err error) {
	if !s.busy() {
		return true, nil
	}
	return false, s.take()
}

// wait returns when no call and no hold is left.
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
