package bus

import (
	"context"
	"io"
	"os"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/lib/bus/bustest"
)

// descriptors is how many this process has.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// What a method takes of a caller's descriptors is its own, and the others are
// closed: of calls that are refused as well.
func TestFiles(t *testing.T) {
	address := bustest.Start(t)
	c, _ := newCounterWith(t, Config{Name: testName, Address: address, Files: true})
	c.service.Export("/files", Interface{Name: testName + ".Files", Methods: []Method{{
		Name: "Read", In: []string{"options"}, Out: []string{"text"},
		Func: func(_ context.Context, _ *Call, given map[string]dbus.Variant) (string, error) {
			var from, other *os.File
			defer func() { from.Close(); other.Close() }()
			if err := (Options{"from": &from, "other": &other}).Decode(given); err != nil {
				return "", err
			}
			text, err := io.ReadAll(from)
			return string(text), err
		},
	}}})
	conn := bustest.Connect(t, address)
	if err := bustest.WaitOwner(t.Context(), conn, testName); err != nil {
		t.Fatal(err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, err := writer.WriteString("secret"); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	fd := dbus.MakeVariant(dbus.UnixFD(reader.Fd()))
	object := conn.Object(testName, "/files")
	before := descriptors(t)
	var text string
	if err := object.Call(testName+".Files.Read", 0, map[string]dbus.Variant{"from": fd, "other": fd}).Store(&text); err != nil || text != "secret" {
		t.Errorf("%q, %v", text, err)
	}
	for _, args := range [][]any{
		{map[string]dbus.Variant{"unknown": fd, "from": fd}},
		{map[string]dbus.Variant{"from": dbus.MakeVariant("/etc/shadow"), "other": fd}},
		{map[string]dbus.Variant{"from": dbus.MakeVariant([]dbus.Variant{fd, fd})}},
		{dbus.UnixFD(reader.Fd())},
	} {
		for range 3 {
			if err := object.Call(testName+".Files.Read", 0, args...).Err; err == nil {
				t.Errorf("%v was taken", args)
			}
		}
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d file descriptors, %d before", after, before)
	}
}
