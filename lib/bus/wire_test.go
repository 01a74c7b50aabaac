package bus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/lib/bus/bustest"
)

// read reads a frame from a buffer, as the gate does from the bus.
func read(data []byte) (*frame, error) {
	if len(data) < fixedHeader {
		return nil, errWire
	}
	f, rest, err := newFrame(data[:fixedHeader:fixedHeader])
	if err != nil {
		return nil, err
	}
	if rest+f.size != len(data)-fixedHeader || f.header > maxHeader {
		return nil, errWire
	}
	f.data = data[:f.header]
	if err := f.parse(); err != nil {
		return nil, err
	}
	f.data = data
	return f, f.check(maxArguments)
}

var headers = map[dbus.HeaderField]any{
	dbus.FieldPath: dbus.ObjectPath("/a"), dbus.FieldInterface: "a.b", dbus.FieldMember: "C", dbus.FieldSender: ":1.1", dbus.FieldDestination: ":1.2",
}

// What the library writes is read as it was meant, in both byte orders.
func TestFrame(t *testing.T) {
	type pair struct {
		N byte
		S string
	}
	body := []any{
		"text", true, byte(1), int16(-2), uint64(3), 4.5, dbus.ObjectPath("/x"), dbus.SignatureOf("", 1),
		[]string{"a", "b"}, []uint64{1}, []byte{}, map[string]dbus.Variant{"k": dbus.MakeVariant([]pair{{1, "x"}}), "e": dbus.MakeVariant(map[byte]string{})},
		pair{2, "y"}, [][]pair{{}, {{3, "z"}}}, dbus.MakeVariant(dbus.MakeVariant(int64(1))), map[uint16][]dbus.Variant{7: {dbus.MakeVariant("deep")}},
	}
	msg := &dbus.Message{Type: dbus.TypeMethodCall, Flags: dbus.FlagAllowInteractiveAuthorization, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body...)),
	}}
	for field, v := range headers {
		msg.Headers[field] = dbus.MakeVariant(v)
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		var data bytes.Buffer
		if err := msg.EncodeTo(&data, order); err != nil {
			t.Fatal(err)
		}
		f, err := read(data.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		want := frame{
			order: order, kind: dbus.TypeMethodCall, flags: msg.Flags, size: f.size, path: "/a", iface: "a.b", member: "C", sender: ":1.1",
			signature: dbus.SignatureOf(body...).String(), data: data.Bytes(), header: f.header,
		}
		if !reflect.DeepEqual(*f, want) {
			t.Errorf("%+v\nnot %+v", *f, want)
		}
		if _, err := f.message(nil); err != nil {
			t.Error(err)
		}
		for n := range data.Len() { // cut off anywhere, it is none
			if _, err := read(data.Bytes()[:n]); err == nil {
				t.Errorf("%d of %d bytes are a message", n, data.Len())
			}
		}
	}
}

func TestMalformed(t *testing.T) {
	for name, test := range map[string]struct {
		signature string
		body      []byte
	}{
		"bytes behind the values":         {"y", []byte{1, 2}},
		"no value":                        {"u", nil},
		"no boolean":                      {"b", []byte{2, 0, 0, 0}},
		"a text without end":              {"s", []byte{1, 0, 0, 0, 'x', 'y'}},
		"a text that is longer":           {"s", []byte{255, 255, 255, 255, 'x', 0}},
		"an array that is longer":         {"ay", []byte{9, 0, 0, 0, 1}},
		"an array that ends in a value":   {"an", []byte{3, 0, 0, 0, 1, 0, 1, 0}},
		"a variant of nothing":            {"v", []byte{0, 0}},
		"a variant of two":                {"v", []byte{2, 'y', 'y', 0, 1, 2}},
		"a variant of no type":            {"v", []byte{1, 'z', 0, 1}},
		"a variant of an empty struct":    {"v", []byte{2, '(', ')', 0, 0, 0, 0, 0}},
		"an array of empty structs":       {"v", append([]byte{3, 'a', '(', ')', 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 8)...)},
		"an entry that is in no array":    {"v", []byte{4, '{', 's', 's', '}', 0}},
		"an entry with a container's key": {"v", []byte{6, 'a', '{', 'a', 'y', 'y', '}', 0}},
		"an entry of three":               {"v", []byte{6, 'a', '{', 'y', 'y', 'y', '}', 0}},
		"a struct without end":            {"v", []byte{2, '(', 'y', 0, 0, 0, 0, 0, 1}},
		"file descriptors in an array":    {"v", []byte{2, 'a', 'h', 0, 0, 0, 0, 0}},
		"variants in each other":          {"v", bustest.NestedVariants(0, maxDepth+2, "y", []byte{1})},
		"arrays in each other":            {"v", append([]byte{maxDepth + 2}, bytes.Repeat([]byte("a"), maxDepth+1)...)},
	} {
		var signature any = dbus.ParseSignatureMust(test.signature)
		h := map[dbus.HeaderField]any{dbus.FieldSignature: signature}
		for field, v := range headers {
			h[field] = v
		}
		if _, err := read(bustest.Frame(dbus.TypeMethodCall, 1, h, "", test.body, 0)); !errors.Is(err, errWire) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f, err := read(bustest.Frame(dbus.TypeMethodCall, 1, headers, "ay", bytesOf(maxArguments), 0))
	if !errors.Is(err, errTooBig) {
		t.Errorf("an array of %d values: %v, %v", maxArguments, f, err)
	}
}

// FuzzFrame reads messages of anybody: what is taken for whole the library
// decodes, at once and without more memory than the values need.
func FuzzFrame(f *testing.F) {
	add := func(signature string, body []byte) {
		f.Add(bustest.Frame(dbus.TypeMethodCall, 1, headers, signature, body, 0))
	}
	add("", nil)
	add("v", bustest.NestedVariants(0, 64, "ay", make([]byte, 4)))
	add("v", bustest.NestedVariants(0, 8, "ay", make([]byte, 4)))
	add("a{sv}", dict([]byte{1, 'h', 0, 0, 0, 0, 1, 0, 0, 0}))
	add("ay", bytesOf(16))
	add("av", append([]byte{8, 0, 0, 0}, "\x01y\x00\x07\x01y\x00\x07"...))
	add("a(ya{sv})", make([]byte, 8))
	add("(xyd)", make([]byte, 24))
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := read(data)
		if err != nil {
			return
		}
		msg, err := frame.message(nil)
		var invalid dbus.InvalidMessageError // names and flags are the library's matter
		if err != nil && !errors.As(err, &invalid) {
			t.Fatalf("taken for whole: %v: %x", err, data)
		}
		if err == nil && (len(msg.Body) > 0) != (frame.signature != "") {
			t.Errorf("%q became %v", frame.signature, msg.Body)
		}
	})
}
