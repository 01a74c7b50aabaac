package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/mask"
)

// names are the last parts of error names, by exit status: callers of a service and of
// the command line get the same information.
var names = map[int]string{
	exit.Failed:      "Failed",
	exit.Usage:       "InvalidArguments",
	exit.Nothing:     "NothingToDo",
	exit.Refused:     "Refused",
	exit.NoSpace:     "NoSpace",
	exit.Busy:        "Busy",
	exit.Interrupted: "Cancelled",
}

// ErrorName returns the name of the error for an exit status (exit.Code) of a service:
// "io.kairos.Upgrade1.Error.NoSpace".
func ErrorName(service string, code int) string {
	name, known := names[code]
	if !known {
		name = names[exit.Failed]
	}
	return service + ".Error." + name
}

// Text returns the text of an error for people: what failed and, on a line of its own,
// the hint. It masks secrets, since everybody on the bus may see it.
func Text(err error) string {
	text := exit.Message(err)
	if hint := exit.HintOf(err); hint != "" {
		text += "\nhint: " + hint
	}
	return mask.Message(text)
}

// errorOf converts an error to a D-Bus error. One that is a D-Bus error already keeps
// its name.
func (s *Service) errorOf(err error) *dbus.Error {
	var pointer *dbus.Error
	if errors.As(err, &pointer) {
		return dbus.NewError(pointer.Name, []any{Text(err)})
	}
	var value dbus.Error
	if errors.As(err, &value) {
		return dbus.NewError(value.Name, []any{Text(err)})
	}
	err = s.config.Explanations.Explain(err)
	code := exit.Code(err)
	if errors.Is(err, context.Canceled) {
		code = exit.Interrupted
	}
	return dbus.NewError(ErrorName(s.config.Name, code), []any{Text(err)})
}

// invalid returns an error about invalid arguments.
func invalid(format string, args ...any) error {
	return exit.WithCode(fmt.Errorf(format, args...), exit.Usage)
}
