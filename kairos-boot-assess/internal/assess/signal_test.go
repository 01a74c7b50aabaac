package assess

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"github.com/kairos-io/toolkit/lib/bus/bustest"
)

// A bus that accepts connections and never says a word holds nothing up for
// longer than the context.
func TestAnnounceToASilentBus(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- signalVerdict(ctx) }()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel()
	if err := <-ended; err == nil {
		t.Error("no error")
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket+"-none")
	if err := signalVerdict(t.Context()); err == nil {
		t.Error("no error without a bus")
	}
}

// The bus is asked to start the service, and nobody waits for it.
func TestAnnounce(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", bustest.Start(t))
	if err := signalVerdict(t.Context()); err != nil { // it knows no such service
		t.Error(err)
	}
}
