package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/mask"
)

// names are the ends of error names, by exit status: a program that calls a
// service and one that runs the command line learn the same.
var names = map[int]string{
	exit.Failed:      "Failed",
	exit.Usage:       "InvalidArguments",
	exit.Nothing:     "NothingToDo",
	exit.Refused:     "Refused",
	exit.NoSpace:     "NoSpace",
	exit.Busy:        "Busy",
	exit.Interrupted: "Cancelled",
}

// ErrorName is the name of an error with an exit status (exit.Code), of the
// service with a name: "io.kairos.Upgrade1.Error.NoSpace".
func ErrorName(service string, code int) string {
	name, known := names[code]
	if !known {
		name = names[exit.Failed]
	}
	return service + ".Error." + name
}

// Text is an error for people: what went wrong, and on a line of its own what
// can be done about it. Everybody on the bus may see it: it has no secrets.
func Text(err error) string {
	text := exit.Message(err)
	if hint := exit.HintOf(err); hint != "" {
		text += "\nhint: " + hint
	}
	return mask.Message(text)
}

// errorOf makes a D-Bus error of any other, which keeps its name if it is one.
func (s *Service) errorOf(err error) *dbus.Error {
	var pointer *dbus.Error
	if errors.As(err, &pointer) {
		return dbus.NewError(pointer.Name, []any{Text(err)})
	}
	var value dbus.Error
	if errors.As(err, &value) {
		return dbus.NewError(value.Name, []any{Text(err)})
	}
	code := exit.Code(err)
	if errors.Is(err, context.Canceled) {
		code = exit.Interrupted
	}
	return dbus.NewError(ErrorName(s.config.Name, code), []any{Text(err)})
}

// invalid is an error about arguments.
func invalid(format string, args ...any) error {
	return exit.WithCode(fmt.Errorf(format, args...), exit.Usage)
}
