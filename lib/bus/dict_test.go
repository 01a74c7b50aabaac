package bus

import (
	"reflect"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

func TestDict(t *testing.T) {
	type state string
	type file struct {
		Path string `json:"path"`
		Size int64  `json:"size"`
	}
	type Record struct {
		ID    string   `json:"id"`
		Files []file   `json:"files"`
		Kargs []string `json:"kargs"`
	}
	type deployment struct {
		Record
		Serial  uint64    `json:"serial"`
		State   state     `json:"state"`
		Created time.Time `json:"created"`
		Left    int       `json:"left,omitempty"`
		Ended   time.Time `json:"ended,omitzero"`
		Why     *file     `json:"why"`
		Because *file     `json:"because"`
		Seconds float64   `json:"seconds"`
		PCRs    []int     `json:"pcrs"`
		Secret  string    `json:"-"`
		order   int
	}
	v := func(value any) dbus.Variant { return dbus.MakeVariant(value) }
	have := Dict(&deployment{
		Record: Record{ID: "1-ab", Files: []file{{"vmlinuz", 7}}}, Serial: 1, State: "good", Seconds: 0.5, PCRs: []int{7, 11},
		Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Because: &file{"x", 1}, Secret: "s", order: 1,
	})
	want := map[string]dbus.Variant{
		"id": v("1-ab"), "serial": v(uint64(1)), "state": v("good"), "created": v("2026-01-02T03:04:05Z"), "seconds": v(0.5),
		"files":   v([]map[string]dbus.Variant{{"path": v("vmlinuz"), "size": v(int64(7))}}),
		"kargs":   v([]string{}),
		"pcrs":    v([]int64{7, 11}),
		"because": v(map[string]dbus.Variant{"path": v("x"), "size": v(int64(1))}),
	}
	if !reflect.DeepEqual(have, want) {
		t.Errorf("%v\nwant %v", have, want)
	}
	if have := Dict((*deployment)(nil)); len(have) != 0 {
		t.Errorf("nothing became %v", have)
	}
	if have := dbus.SignatureOf(Dicts([]file{{}})).String(); have != "aa{sv}" {
		t.Error(have)
	}
}
