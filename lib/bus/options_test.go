package bus

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/lib/exit"
)

type options struct {
	force  bool
	origin string
	kargs  []string
}

func (o *options) decode(given map[string]dbus.Variant) error {
	return Options{"force": &o.force, "origin": &o.origin, "add-kargs": &o.kargs}.Decode(given)
}

func TestOptions(t *testing.T) {
	v := func(value any) dbus.Variant { return dbus.MakeVariant(value) }
	var o options
	err := o.decode(map[string]dbus.Variant{"force": v(true), "origin": v("timer"), "add-kargs": v([]string{"a=b"})})
	if err != nil || !reflect.DeepEqual(o, options{true, "timer", []string{"a=b"}}) {
		t.Errorf("%+v, %v", o, err)
	}
	for _, test := range []struct {
		name  string
		value any
		want  string
	}{
		{"forse", true, `unknown option "forse"` + "\nhint: did you mean \"force\"?"},
		{"add_karg", []string{}, `unknown option "add_karg"` + "\nhint: did you mean \"add-kargs\"?"},
		{"whatever", true, `unknown option "whatever"` + "\nhint: known are [\"add-kargs\" \"force\" \"origin\"]"},
		{strings.Repeat("x", 5000), true, `unknown option "` + strings.Repeat("x", 64) + `"`},
		{"force", "yes", `option force: a value of type "s", not "b"`},
		{"add-kargs", "yes", `option add-kargs: a value of type "s", not "as"`},
		{"origin", strings.Repeat("x", 5000), "option origin: a value of 5000 bytes, more than 4096"},
		{"add-kargs", slices.Repeat([]string{"x"}, 257), "option add-kargs: 257 values, more than 256"},
		{"add-kargs", []string{strings.Repeat("x", 5000)}, "option add-kargs: a value of 5000 bytes, more than 4096"},
	} {
		err := new(options).decode(map[string]dbus.Variant{test.name: v(test.value)})
		if err == nil || Text(err) != test.want || exit.Code(err) != exit.Usage {
			t.Errorf("%.64q: %v, want %s", test.name, err, test.want)
		}
	}
}

// FuzzOptions decodes options of all kinds of types and sizes. FuzzFrame has
// the wire format.
func FuzzOptions(f *testing.F) {
	f.Add("force", "b", "", true, uint16(0))
	f.Add("origin", "s", "timer", false, uint16(0))
	f.Add("add-kargs", "as", "a=b", false, uint16(2))
	f.Add("add-kargs", "as", "a=b", false, uint16(300))
	f.Add("Force", "v", "b", true, uint16(40))
	f.Add("", "a{sv}", "force", true, uint16(3))
	f.Fuzz(func(t *testing.T, name, signature, text string, truth bool, n uint16) {
		var value any
		switch signature {
		case "b":
			value = truth
		case "s":
			value = strings.Repeat(text, int(n%64)+1)
		case "as":
			value = slices.Repeat([]string{text}, int(n))
		case "v":
			v := dbus.MakeVariant(truth)
			for range n % 64 {
				v = dbus.MakeVariant(v)
			}
			value = v
		default:
			value = map[string]dbus.Variant{text: dbus.MakeVariant(n)}
		}
		var o options
		err := o.decode(map[string]dbus.Variant{name: dbus.MakeVariant(value)})
		if err != nil {
			if exit.Code(err) != exit.Usage || len(Text(err)) > 512 {
				t.Errorf("%q: error with status %d: %s", name, exit.Code(err), Text(err))
			}
			return
		}
		have := map[string]any{"force": o.force, "origin": o.origin, "add-kargs": o.kargs}[name]
		if fmt.Sprint(have) != fmt.Sprint(value) || len(o.origin) > maxText || len(o.kargs) > maxList {
			t.Errorf("option %q: %v became %v", name, value, have)
		}
	})
}
