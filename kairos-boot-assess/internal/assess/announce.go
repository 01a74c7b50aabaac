package assess

import (
	"context"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// BusName is the name of the service on the system bus.
const BusName = "io.kairos.BootAssess1"

// askBus bounds how long the bus may take: it may be what is broken, and a good
// boot must not be held up.
const askBus = 5 * time.Second

// announce has the bus start the service, which signals what is new. Nobody
// waits for that: a bus that is not there has nobody to hear it.
func announce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askBus)
	defer cancel()
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx)) // the handshake too
	if err != nil {
		return fmt.Errorf("announce the verdict: %w", err)
	}
	defer conn.Close()
	call := conn.BusObject().Go("org.freedesktop.DBus.StartServiceByName", dbus.FlagNoReplyExpected, nil, BusName, uint32(0))
	return call.Err
}
