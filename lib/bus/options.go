package bus

import (
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/spell"
)

// Options maps the names of the options that a method takes in an a{sv} to where Decode
// stores their values: *bool, *string, *[]string, or **os.File for a file descriptor,
// which the caller of Decode closes, also after an error.
type Options map[string]any

// maxList is how many values an option with a list may have.
const maxList = 256

// Decode stores the options of a call. An unknown option, one of another type and one
// that is too long are errors; then no stored value may be used.
func (o Options) Decode(given map[string]dbus.Variant) error {
	known := slices.Sorted(maps.Keys(o))
	for _, name := range slices.Sorted(maps.Keys(given)) {
		target, ok := o[name]
		if !ok {
			return unknownOption(name, known)
		}
		if err := store(target, given[name]); err != nil {
			return invalid("option %s: %w", name, err)
		}
	}
	return nil
}

func unknownOption(name string, known []string) error {
	err := invalid("unknown option %.64q", name)
	if len(name) > 64 {
		return err
	}
	if near := spell.Closest(name, known); near != "" {
		return exit.Hint(err, "did you mean %q?", near)
	}
	if len(known) == 0 {
		return exit.Hint(err, "this method takes no options")
	}
	return exit.Hint(err, "known are %q", known)
}

func store(target any, v dbus.Variant) error {
	switch t := target.(type) {
	case *bool:
		b, ok := v.Value().(bool)
		if !ok {
			return wrongType(v, "b")
		}
		*t = b
	case *string:
		s, ok := v.Value().(string)
		if !ok {
			return wrongType(v, "s")
		}
		if err := short(s); err != nil {
			return err
		}
		*t = s
	case *[]string:
		list, ok := v.Value().([]string)
		if !ok {
			return wrongType(v, "as")
		}
		if len(list) > maxList {
			return fmt.Errorf("%d values, more than %d", len(list), maxList)
		}
		for _, s := range list {
			if err := short(s); err != nil {
				return err
			}
		}
		*t = slices.Clone(list)
	case **os.File:
		fd, ok := v.Value().(dbus.UnixFD)
		if !ok {
			return wrongType(v, "h")
		}
		own, err := file(fd)
		if err != nil {
			return err
		}
		*t = own
	default:
		return fmt.Errorf("the service stores it in a %T", target)
	}
	return nil
}

func short(s string) error {
	if len(s) > maxText {
		return fmt.Errorf("a value of %d bytes, more than %d", len(s), maxText)
	}
	return nil
}

func wrongType(v dbus.Variant, want string) error {
	return fmt.Errorf("a value of type %q, not %q", v.Signature(), want)
}
