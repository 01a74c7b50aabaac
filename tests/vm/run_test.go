package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/tests/agent"
)

// port is a virtio-serial port without a machine: both ends of a socket pair.
func port(t *testing.T) (host net.Conn, guest *os.File) {
	t.Helper()
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(ends[0]), "host")
	host, err = net.FileConn(file)
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	syscall.SetNonblock(ends[1], true)
	return host, os.NewFile(uintptr(ends[1]), "guest")
}

// connect returns a machine that is nothing but an agent, and the function that ends that agent.
func connect(t *testing.T) (m *Machine, shutdown func()) {
	t.Helper()
	host, device := port(t)
	m = &Machine{Console: newConsole(), state: newState(nil), Config: Config{Dir: t.Name()}}
	m.guest = newGuest(host, m.state)
	m.state.boots = 1
	// What an earlier boot left in the port.
	device.WriteString(`{"session":"old","id":1,"ou`)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		agent.Serve(ctx, device)
	}()
	shutdown = func() { cancel(); <-ended }
	t.Cleanup(shutdown)
	return m, shutdown
}

func TestRun(t *testing.T) {
	m, _ := connect(t)
	result, err := m.Run(t.Context(), "echo out; echo err >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	if result.Stdout != "out\n" || result.Stderr != "err\n" || result.Status != 3 || result.MaxRSS == 0 {
		t.Errorf("got %+v", result)
	}
	_, err = m.Output(t.Context(), "echo because >&2; false")
	if status := (*StatusError)(nil); !errors.As(err, &status) || !strings.Contains(err.Error(), "because") {
		t.Errorf("a failing script gave %v", err)
	}
	if result, err := m.Run(t.Context(), "kill -9 $$"); err != nil || result.Status != 137 {
		t.Errorf("a killed script gave %+v, %v", result, err)
	}
	big, err := m.Output(t.Context(), "head -c 1000000 /dev/zero | tr '\\0' x")
	if err != nil || len(big) != 1000000 {
		t.Errorf("of 1000000 bytes came %d, %v", len(big), err)
	}
}

func TestRunTimeout(t *testing.T) {
	m, _ := connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	sleep := fmt.Sprintf("sleep %d.5", 1_000_000+os.Getpid()) // nobody else's
	_, err := m.Run(ctx, "echo before; "+sleep)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	// The script is gone, with what it started.
	if _, err := m.Output(t.Context(), "while pgrep -xf '"+sleep+"'; do sleep 0.01; done"); err != nil {
		t.Error(err)
	}
}

func TestRunInterrupted(t *testing.T) {
	m, shutdown := connect(t)
	if err := m.WaitBoot(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() {
		_, err := m.Run(t.Context(), fmt.Sprintf("tail --pid=%d -f /dev/null", os.Getpid()))
		failed <- err
	}()
	m.event("RESET", []byte(`{"guest":false}`)) // by the host: no reboot
	if m.Boots() != 1 {
		t.Errorf("%d boots", m.Boots())
	}
	for m.guest.running() == 0 {
		time.Sleep(time.Millisecond)
	}
	m.event("RESET", []byte(`{"guest":true}`))
	if err := <-failed; !errors.Is(err, ErrInterrupted) {
		t.Errorf("got %v", err)
	}
	shutdown()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := m.WaitBoot(ctx, 2); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an agent that is gone is taken for the next boot's: %v", err)
	}
	if m.Boots() != 2 {
		t.Errorf("%d boots", m.Boots())
	}
}

func TestStuckMachine(t *testing.T) {
	m := &Machine{Console: newConsole(), state: newState(nil), Config: Config{Dir: t.Name()}} // without an agent
	host, device := port(t)
	go m.Console.follow(host, m.watch)
	device.WriteString("BdsDxe: loading Boot0002 \"EFI Inter")
	device.WriteString("nal Shell\" from Fv\r\n")
	err := m.WaitBoot(t.Context(), 1)
	if err == nil || !strings.Contains(err.Error(), "stands still") || !strings.Contains(err.Error(), "console: BdsDxe") {
		t.Errorf("got %v", err)
	}
}
