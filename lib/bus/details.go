package bus

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// details returns the details of a call for polkit, its rules and its password dialog:
// the method, its arguments by name, and its options by name. Of other dictionaries it
// returns the keys only, since values may be secrets. Lists have one line for each
// element.
func (f *function) details(args []reflect.Value) map[string]string {
	details := map[string]string{}
	for _, a := range args {
		if given, ok := a.Interface().(map[string]dbus.Variant); ok {
			addOptions(details, given)
		}
	}
	for i, a := range args { // behind the options: none stands in for an argument
		switch v := a.Interface().(type) {
		case map[string]dbus.Variant:
		case map[string]string:
			details[f.In[i]] = strings.Join(slices.Sorted(maps.Keys(v)), "\n")
		default:
			if text, ok := detail(v); ok {
				details[f.In[i]] = text
			}
		}
	}
	details["method"] = f.Name
	return details
}

// addOptions adds options as details. It leaves out invalid names: polkit itself would
// show the value of "polkit.message" in its dialog.
func addOptions(details map[string]string, given map[string]dbus.Variant) {
	for name, v := range given {
		if text, ok := detail(v.Value()); ok && name != "" && len(name) <= 64 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_-") == "" {
			details[name] = text
		}
	}
}

func detail(v any) (text string, ok bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case []string:
		return strings.Join(v, "\n"), true
	case dbus.UnixFD:
		return "file descriptor", true
	case bool, byte, int16, uint16, int32, uint32, int64, uint64, float64:
		return fmt.Sprint(v), true
	}
	return "", false
}
