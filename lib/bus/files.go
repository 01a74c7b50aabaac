package bus

import (
	"fmt"
	"os"
	"reflect"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// file takes a file descriptor that came with a call: the service's own, which
// it closes. What a caller may do with a descriptor was decided when the caller
// opened it; a service that opens it again by a path in /proc would undo that.
func file(fd dbus.UnixFD) (*os.File, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("take a file descriptor: %w", err)
	}
	return os.NewFile(uintptr(own), "file descriptor of the caller"), nil
}

// closeFiles closes the file descriptors that came with a call, once it is
// answered, or refused: otherwise any caller could use all that a process may
// have. What godbus 5.2.2 loses stays open: descriptors that the body does not
// name, and arrays of them, which it fails to decode.
func closeFiles(body []any) {
	for _, v := range body {
		closeIn(reflect.ValueOf(v))
	}
}

var fdType = reflect.TypeFor[dbus.UnixFD]()

func closeIn(v reflect.Value) {
	if !v.IsValid() {
		return
	}
	if v.Type() == fdType {
		unix.Close(int(v.Int()))
		return
	}
	if variant, ok := v.Interface().(dbus.Variant); ok {
		closeIn(reflect.ValueOf(variant.Value()))
		return
	}
	switch v.Kind() {
	case reflect.Interface:
		closeIn(v.Elem())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return // large, and nothing to look through
		}
		for i := range v.Len() {
			closeIn(v.Index(i))
		}
	case reflect.Map:
		for entries := v.MapRange(); entries.Next(); {
			closeIn(entries.Value())
		}
	}
}
