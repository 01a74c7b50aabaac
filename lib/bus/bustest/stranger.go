package bustest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// Stranger is a client of the bus without a D-Bus library: it can send messages that a
// library would refuse to send.
type Stranger struct {
	t      testing.TB
	conn   *net.UnixConn
	serial uint32
	// Name returns the client's unique name.
	Name string
}

// NewStranger connects as the user uid; as the user of the test if negative.
func NewStranger(t testing.TB, address string, uid int) *Stranger {
	t.Helper()
	s := &Stranger{t: t}
	path := strings.TrimPrefix(strings.Split(address, ",")[0], "unix:path=")
	var err error
	if uid < 0 {
		uid = os.Getuid()
		s.conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	} else {
		as(t, uid, func() { s.conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"}) })
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.conn.Close() })
	s.say(fmt.Sprintf("\x00AUTH EXTERNAL %x\r\n", fmt.Sprint(uid)), "OK ")
	s.say("NEGOTIATE_UNIX_FD\r\n", "AGREE_UNIX_FD")
	s.say("BEGIN\r\n", "")
	answer := s.Call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.Hello", "", nil)
	s.Name = answer.Body[0].(string)
	return s
}

func (s *Stranger) say(line, want string) {
	s.t.Helper()
	if _, err := io.WriteString(s.conn, line); err != nil {
		s.t.Fatal(err)
	}
	for have := ""; want != "" && !strings.HasSuffix(have, "\r\n"); {
		var b [1]byte
		if _, err := io.ReadFull(s.conn, b[:]); err != nil {
			s.t.Fatal(err)
		}
		if have += string(b[:]); !strings.HasPrefix(have, want[:min(len(want), len(have))]) {
			s.t.Fatalf("%q, not %q", have, want)
		}
	}
}

// Send sends a method call whose body is taken as it is, with file descriptors.
func (s *Stranger) Send(name, path, method, signature string, body []byte, files ...int) (serial uint32) {
	s.t.Helper()
	i := strings.LastIndex(method, ".")
	return s.SendMessage(dbus.TypeMethodCall, map[dbus.HeaderField]any{
		dbus.FieldDestination: name, dbus.FieldPath: dbus.ObjectPath(path),
		dbus.FieldInterface: method[:i], dbus.FieldMember: method[i+1:],
	}, signature, body, files...)
}

// SendMessage sends a message as it is.
func (s *Stranger) SendMessage(kind dbus.Type, headers map[dbus.HeaderField]any, signature string, body []byte, files ...int) (serial uint32) {
	s.t.Helper()
	s.serial++
	data := Frame(kind, s.serial, headers, signature, body, len(files))
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
	}
	n, _, err := s.conn.WriteMsgUnix(data, rights, nil)
	if err == nil && n < len(data) {
		_, err = s.conn.Write(data[n:])
	}
	if err != nil {
		s.t.Fatalf("send to the bus: %v", err)
	}
	return s.serial
}

// Frame returns a message in wire format, little endian.
func Frame(kind dbus.Type, serial uint32, headers map[dbus.HeaderField]any, signature string, body []byte, files int) []byte {
	fields := []byte{}
	pad := func(n int) {
		for len(fields)%n != 0 {
			fields = append(fields, 0)
		}
	}
	add := func(field dbus.HeaderField, v any) {
		pad(8)
		sig := dbus.SignatureOf(v).String()
		fields = append(fields, byte(field), byte(len(sig)))
		fields = append(append(fields, sig...), 0)
		switch v := v.(type) {
		case uint32:
			pad(4)
			fields = binary.LittleEndian.AppendUint32(fields, v)
		case dbus.Signature:
			fields = append(append(append(fields, byte(len(v.String()))), v.String()...), 0)
		default:
			text := fmt.Sprint(v)
			pad(4)
			fields = binary.LittleEndian.AppendUint32(fields, uint32(len(text)))
			fields = append(append(fields, text...), 0)
		}
	}
	for field, v := range headers {
		add(field, v)
	}
	if signature != "" {
		add(dbus.FieldSignature, dbus.ParseSignatureMust(signature))
	}
	if files > 0 {
		add(dbus.FieldUnixFDs, uint32(files))
	}
	data := []byte{'l', byte(kind), 0, 1}
	for _, n := range []int{len(body), int(serial), len(fields)} {
		data = binary.LittleEndian.AppendUint32(data, uint32(n))
	}
	data = append(data, fields...)
	for len(data)%8 != 0 {
		data = append(data, 0)
	}
	return append(data, body...)
}

// Answer returns the answer to a call, nil when the bus closes the connection before
// there is one.
func (s *Stranger) Answer(serial uint32) *dbus.Message {
	s.t.Helper()
	s.conn.SetReadDeadline(time.Now().Add(time.Minute)) // a test that hangs fails
	for {
		msg, err := dbus.DecodeMessage(s.conn)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			s.t.Fatalf("no answer to message %d: %v", serial, err)
		}
		if to, _ := msg.Headers[dbus.FieldReplySerial].Value().(uint32); to == serial {
			return msg
		}
	}
}

// Call sends a call and returns its answer.
func (s *Stranger) Call(name, path, method, signature string, body []byte, files ...int) *dbus.Message {
	s.t.Helper()
	return s.Answer(s.Send(name, path, method, signature, body, files...))
}

// ErrorName returns the name of an error message, "" for other messages.
func ErrorName(msg *dbus.Message) string {
	if msg == nil {
		return "no answer"
	}
	name, _ := msg.Headers[dbus.FieldErrorName].Value().(string)
	return name
}

// NestedVariants returns the part of a body that begins at a position: nested variants,
// the innermost of which holds a value of a signature.
func NestedVariants(position, depth int, signature string, value []byte) []byte {
	body := []byte{}
	for range depth - 1 {
		body = append(body, 1, 'v', 0)
	}
	body = append(append(append(body, byte(len(signature))), signature...), 0)
	for (position+len(body))%4 != 0 {
		body = append(body, 0)
	}
	return append(body, value...)
}

// as runs f as another user. Without root it skips the test.
func as(t testing.TB, uid int, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can connect as another user")
	}
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The bus learns the user of the thread that connects. It is never
		// unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			err = errno
			return
		}
		f()
	}()
	<-done
	if err != nil {
		t.Fatal(err)
	}
}
