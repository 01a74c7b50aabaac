package bus

import (
	"encoding/binary"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/lib/bus/bustest"
)

// alive fails the test unless the service still answers.
func alive(t *testing.T, o dbus.BusObject, after string) {
	t.Helper()
	if err := o.Call(testName+".Add", 0, int64(1)).Err; err != nil {
		t.Fatalf("after %s: %v", after, err)
	}
}

// Messages that the bus takes for valid, and that no library should be trusted
// with, are answered or dropped: the service lives on, and answers the next.
func TestMessagesFromAnybody(t *testing.T) {
	address := bustest.Start(t)
	newCounter(t, address, 0)
	o := found(t, bustest.Connect(t, address))
	var unique string
	if err := bustest.Connect(t, address).BusObject().Call("org.freedesktop.DBus.GetNameOwner", 0, testName).Store(&unique); err != nil {
		t.Fatal(err)
	}
	empty := make([]byte, 4)
	deep := bustest.NestedVariants(0, 64, "ay", empty)
	invalid, limits, unknown := testName+".Error.InvalidArguments", errorLimits, "org.freedesktop.DBus.Error.UnknownMethod"
	for name, test := range map[string]struct {
		method, signature string
		body              []byte
		want              string
	}{
		"a deep variant to a method without arguments": {introspectInterface + ".Introspect", "v", deep, invalid},
		"a deep variant to no method":                  {introspectInterface + ".Nothing", "v", deep, unknown},
		"a deep variant as a property":                 {propertiesInterface + ".Set", "ssv", append(make([]byte, 13), bustest.NestedVariants(13, 64, "ay", empty)...), invalid},
		"a deep variant as an option":                  {testName + ".Options", "a{sv}", dict(bustest.NestedVariants(6, 60, "ay", empty)), invalid},
		"many values as an option":                     {testName + ".Options", "a{sv}", dict(array("ai", make([]byte, 60<<10))), limits},
		"many bytes to no method":                      {testName + ".Nothing", "ay", bytesOf(1 << 20), unknown},
		"many bytes to a method":                       {testName + ".Options", "a{sv}", dict(array("ay", make([]byte, 1<<20))), limits},
		"an empty member of Peer":                      {peerInterface + ".Nothing", "", nil, unknown},
		"nothing that is wrong":                        {peerInterface + ".Ping", "", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := bustest.NewStranger(t, address, -1)
			if answer := s.Call(testName, testPath, test.method, test.signature, test.body); bustest.ErrorName(answer) != test.want {
				t.Errorf("answered with %q: %v, want %q", bustest.ErrorName(answer), answer, test.want)
			}
			alive(t, o, name)
		})
	}
	t.Run("a signal", func(t *testing.T) {
		s := bustest.NewStranger(t, address, -1)
		for _, path := range []string{"/", "/" + strings.Repeat("a", 1<<20)} {
			s.SendMessage(dbus.TypeSignal, map[dbus.HeaderField]any{
				dbus.FieldDestination: unique, dbus.FieldPath: dbus.ObjectPath(path), dbus.FieldInterface: "a.b", dbus.FieldMember: "c",
			}, "v", deep)
		}
		s.Call(testName, testPath, testName+".Add", "x", make([]byte, 8)) // behind the signals
		alive(t, o, "signals")
	})
	t.Run("a path of a megabyte", func(t *testing.T) {
		s := bustest.NewStranger(t, address, -1)
		s.Send(testName, "/"+strings.Repeat("a", 1<<20), testName+".Add", "x", make([]byte, 8))
		s.Call(testName, testPath, testName+".Add", "x", make([]byte, 8))
		alive(t, o, "the path")
	})
}

// dict is the body of an a{sv} with the key "o".
func dict(value []byte) []byte {
	entry := append([]byte{1, 0, 0, 0, 'o', 0}, value...)
	body := binary.LittleEndian.AppendUint32(nil, uint32(len(entry)))
	return append(append(body, 0, 0, 0, 0), entry...)
}

// array is a variant in the entry of dict, of an array of small elements.
func array(signature string, content []byte) []byte {
	value := append([]byte{byte(len(signature))}, signature...)
	value = append(value, 0)
	for (6+len(value))%4 != 0 {
		value = append(value, 0)
	}
	return append(binary.LittleEndian.AppendUint32(value, uint32(len(content))), content...)
}

func bytesOf(n int) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(n)), make([]byte, n)...)
}

// What a message costs is in proportion to its size, whoever sends it.
func TestMemoryOfMessages(t *testing.T) {
	address := bustest.Start(t)
	newCounter(t, address, 0)
	o := found(t, bustest.Connect(t, address))
	s := bustest.NewStranger(t, address, -1)
	bomb := bytesOf(16 << 20)
	copy(bomb[4:], strings.Repeat("\x01y\x00\x07", 4<<20)) // variants of bytes: four bytes each
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	answer := s.Call(testName, testPath, introspectInterface+".Introspect", "av", bomb)
	runtime.ReadMemStats(&after)
	if bustest.ErrorName(answer) == "" {
		t.Errorf("answered with %v", answer)
	}
	// The test's own copies of the message are part of it.
	if used := after.TotalAlloc - before.TotalAlloc; used > 5*uint64(len(bomb)) {
		t.Errorf("%d MB of message took %d MB of memory", len(bomb)>>20, used>>20)
	}
	alive(t, o, "the bomb")
}

// File descriptors that nobody asked for are closed, or never come.
func TestDescriptorsFromAnybody(t *testing.T) {
	for _, files := range []bool{false, true} {
		address := bustest.Start(t)
		newCounterWith(t, Config{Name: testName, Address: address, Files: files})
		o := found(t, bustest.Connect(t, address))
		s := bustest.NewStranger(t, address, -1)
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		fds := make([]int, 16)
		for i := range fds {
			fds[i] = int(null.Fd())
		}
		array := binary.LittleEndian.AppendUint32(nil, 4*16)
		for i := range fds {
			array = binary.LittleEndian.AppendUint32(array, uint32(i))
		}
		before := descriptors(t)
		for range 20 {
			for _, message := range []struct {
				member, signature string
				body              []byte
			}{
				{"Nothing", "", nil},
				{"Nothing", "ah", array},
				{"Add", "", nil},
				{"Add", "x", make([]byte, 8)},
				{"Add", "ah", array},
				{"Options", "a{sv}", dict(append([]byte{1, 'h', 0, 0, 0, 0}, 99, 0, 0, 0))},
				{"Options", "a{sv}", dict(append([]byte{2, 'a', 'h', 0, 0, 0}, array...))},
			} {
				if answer := s.Call(testName, testPath, testName+"."+message.member, message.signature, message.body, fds...); answer == nil {
					t.Fatalf("no answer to %+v", message)
				}
			}
		}
		alive(t, o, "file descriptors")
		if after := descriptors(t); after > before {
			t.Errorf("%d file descriptors, %d before", after, before)
		}
	}
}

// Whatever one user does, root and other users are served.
func TestOneUserIsNotAll(t *testing.T) {
	address := bustest.Start(t)
	newCounter(t, address, 0)
	root, other := bustest.Connect(t, address), bustest.ConnectAs(t, address, 1)
	found(t, root)
	authority := bustest.StartAuthority(t, address)
	authority.Say(bustest.Answer{Authorized: true})

	args := append([]byte{1, 0, 0, 0, 'r', 0, 0, 0}, make([]byte, 8)...)
	refused := 0
	for range 4 { // connections
		s := bustest.NewStranger(t, address, nobody)
		defer authority.Delay(s.Name)()
		var last uint32
		for range 2 * perUser {
			last = s.Send(testName, testPath, testName+".Secret", "sx", args)
		}
		if answer := s.Answer(last); bustest.ErrorName(answer) == errorLimits {
			refused++
		}
	}
	if refused != 4 {
		t.Errorf("%d of 4 connections were told to wait", refused)
	}
	for range perUser / 2 {
		if name := <-authority.Waiting(); name == "" {
			t.Error("a question without subject")
		}
	}
	if err := secret(other, 0); err != nil {
		t.Errorf("another user: %v", err)
	}
	if err := secret(root, 0); err != nil {
		t.Errorf("root: %v", err)
	}
}
