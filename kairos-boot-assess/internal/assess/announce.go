package assess

import (
	"context"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// BusName is the name of the service on the system bus.
const BusName = "io.kairos.BootAssess1"

// announce has the bus start the service, which signals what is new. Nobody
// waits for it: a bus that is not there has nobody to hear it.
func announce(context.Context) error {
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return fmt.Errorf("announce the verdict: %w", err)
	}
	defer conn.Close()
	call := conn.BusObject().Go("org.freedesktop.DBus.StartServiceByName", dbus.FlagNoReplyExpected, nil, BusName, uint32(0))
	return call.Err
}
