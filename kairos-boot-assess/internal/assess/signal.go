package assess

import (
	"context"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// BusName is the name of the service on the system bus.
const BusName = "io.kairos.BootAssess1"

// busTimeout is how long a call of the bus may take: the bus may be broken, and must not
// delay a good boot.
const busTimeout = 5 * time.Second

// signalVerdict makes the bus start the service, which sends signals about changes. It does
// not wait for that.
func signalVerdict(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx)) // the handshake too
	if err != nil {
		return fmt.Errorf("announce the verdict: %w", err)
	}
	defer conn.Close()
	call := conn.BusObject().Go("org.freedesktop.DBus.StartServiceByName", dbus.FlagNoReplyExpected, nil, BusName, uint32(0))
	return call.Err
}
