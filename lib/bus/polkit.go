package bus

import (
	"context"
	"errors"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/lib/exit"
)

// Names of org.freedesktop.PolicyKit1.Authority(8), and its flag AllowUserInteraction.
const (
	polkitName       = "org.freedesktop.PolicyKit1"
	polkitPath       = "/org/freedesktop/PolicyKit1/Authority"
	polkitCheck      = "org.freedesktop.PolicyKit1.Authority.CheckAuthorization"
	allowInteraction = uint32(1)
)

// Names of errors about callers without permission: that of the D-Bus specification,
// and the one that tells a client that asking a person for a password would help.
const (
	ErrorAccessDenied = "org.freedesktop.DBus.Error.AccessDenied"
	ErrorInteractive  = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
	errorLimits       = "org.freedesktop.DBus.Error.LimitsExceeded"
)

// authorize returns nil if the caller is root or polkit permits the action. Without
// polkit only root may do anything.
func (c *Call) authorize(ctx context.Context, action string, details map[string]string) error {
	if c.Caller.UID == 0 {
		return nil
	}
	asked, err := c.service.callers.asking(c.Caller.UID)
	if err != nil {
		return err
	}
	defer asked()
	var answer struct {
		Authorized, Challenge bool
		Details               map[string]string
	}
	subject := struct {
		Kind    string
		Details map[string]dbus.Variant
	}{"system-bus-name", map[string]dbus.Variant{"name": dbus.MakeVariant(c.Sender)}}
	flags := uint32(0)
	if c.Interactive {
		flags = allowInteraction
	}
	err = c.service.conn.Object(polkitName, polkitPath).CallWithContext(ctx, polkitCheck, 0, subject, action, details, flags, "").Store(&answer)
	var refused dbus.Error
	switch {
	case errors.As(err, &refused) && absent[refused.Name]:
		return denied(ErrorAccessDenied, "%s: only root may do that, because polkit is not available (%s)", action, refused.Error())
	case err != nil:
		return denied(ErrorAccessDenied, "%s: polkit does not answer: %v", action, err)
	case answer.Authorized:
		return nil
	case answer.Challenge && !c.Interactive:
		return denied(ErrorInteractive, "%s: user %d has to authenticate for that", action, c.Caller.UID)
	case answer.Challenge:
		return denied(ErrorAccessDenied, "%s: user %d has to authenticate for that, and there is no agent that asks for a password", action, c.Caller.UID)
	}
	return exit.Hint(denied(ErrorAccessDenied, "%s: user %d may not do that", action, c.Caller.UID), "a rule of polkit(8) can permit it")
}

// absent are the names of the errors by which a bus says that it has no polkit.
var absent = map[string]bool{
	"org.freedesktop.DBus.Error.ServiceUnknown":        true,
	"org.freedesktop.DBus.Error.NameHasNoOwner":        true,
	"org.freedesktop.DBus.Error.Spawn.ServiceNotFound": true,
	"org.freedesktop.systemd1.NoSuchUnit":              true,
	"org.freedesktop.systemd1.UnitMasked":              true,
}
