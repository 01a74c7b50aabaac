package bus

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// gate reads the messages of the bus in the library's stead. Anybody may send any
// message that the bus takes for valid to a service, before any authorization. The
// library (godbus 5.2.2) does not withstand that: it closes the connection at a message
// that it cannot decode, decodes messages at up to thirty times their size, starts a
// goroutine for each call, and leaks file descriptors that the body does not refer to.
//
// Method calls never reach the library: gate hands the header to a service, which says
// how many bytes of the body it is ready to read. Signals reach the library only if the
// bus itself sent them, answers only within limits, and both only if the library can
// decode them.
//
// A fixed library would have to know the methods before it decodes their arguments, and
// a library of our own would have to implement clients as well: the gate is smaller
// than either.
type gate struct {
	*net.UnixConn
	calls calls // nil: a client, which receives no calls
	files bool  // the service takes file descriptors

	speaking bool   // the handshake has ended
	ready    []byte // bytes for the library
	oob      []byte
	received []int // file descriptors of the message that is being read
	lost     bool  // file descriptors beyond the limit were dropped
}

// calls receives method calls. begin is called in the order of messages, and returns
// once the body was read or skipped.
type calls interface {
	call(f *frame, r *rest)
}

// rest is the body of a call. It is either read or skipped, exactly once, before the
// call is answered: after the answer, nothing of the call is kept in memory.
type rest struct {
	gate   *gate
	broken error // error of the connection
}

func (r *rest) read(f *frame) (files []int, err error) {
	files, r.broken = r.gate.body(f)
	return files, r.broken
}

func (r *rest) skip(f *frame) { r.broken = r.gate.skip(f.size) }

const (
	maxAnswer = 16 << 20 // bytes of an answer of the bus, of polkit or of systemd
	maxValues = 1 << 20  // values in an answer
)

// Dial connects to a bus as a client, to the system bus if address is empty. ctx also
// ends the handshake.
func Dial(ctx context.Context, address string) (*dbus.Conn, error) {
	return dial(ctx, address, nil, false)
}

func dial(ctx context.Context, address string, calls calls, files bool) (*dbus.Conn, error) {
	conn, err := dialSocket(ctx, cmp.Or(address, os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), "unix:path=/run/dbus/system_bus_socket"))
	if err != nil {
		return nil, err
	}
	// The handshake does not know ctx: end it by ending the connection.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c, err := dbus.NewConn(&gate{UnixConn: conn, calls: calls, files: files, oob: make([]byte, unix.CmsgSpace(4*253))})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	err = c.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))})
	if err == nil {
		err = c.Hello()
	}
	if err != nil {
		c.Close()
		return nil, cmp.Or(ctx.Err(), err)
	}
	return c, nil
}

// dialSocket connects to the first of an address's sockets that exists.
func dialSocket(ctx context.Context, addresses string) (*net.UnixConn, error) {
	err := fmt.Errorf("%q is no address of a bus on this machine", addresses)
	for address := range strings.SplitSeq(addresses, ";") {
		keys, isUnix := strings.CutPrefix(address, "unix:")
		for pair := range strings.SplitSeq(keys, ",") {
			key, value, _ := strings.Cut(pair, "=")
			name, wrong := dbus.UnescapeBusAddressValue(value)
			if key == "abstract" {
				name = "@" + name
			}
			if !isUnix || wrong != nil || key != "path" && key != "abstract" {
				continue
			}
			var conn net.Conn
			if conn, err = new(net.Dialer).DialContext(ctx, "unix", name); err == nil {
				return conn.(*net.UnixConn), nil
			}
		}
	}
	return nil, err
}

// Write notices the end of the handshake, and adds the negotiation of file descriptors,
// which the library leaves out for connections that it did not open itself.
func (g *gate) Write(p []byte) (int, error) {
	if !g.speaking && bytes.Equal(p, []byte("BEGIN\r\n")) {
		if err := g.negotiate(); err != nil {
			return 0, err
		}
		g.speaking = true
	}
	return g.UnixConn.Write(p)
}

// negotiate asks the bus to deliver file descriptors. To a client that does not ask,
// the bus delivers no message that has any.
func (g *gate) negotiate() error {
	if !g.files {
		return nil
	}
	if _, err := g.UnixConn.Write([]byte("NEGOTIATE_UNIX_FD\r\n")); err != nil {
		return err
	}
	line := []byte{}
	for !bytes.HasSuffix(line, []byte("\r\n")) && len(line) < 1024 {
		var b [1]byte
		if _, err := io.ReadFull(g.UnixConn, b[:]); err != nil {
			return err
		}
		line = append(line, b[0])
	}
	if !bytes.HasPrefix(line, []byte("AGREE_UNIX_FD")) {
		return fmt.Errorf("the bus takes no file descriptors: %q", line)
	}
	return nil
}

// Read returns bytes for the library.
func (g *gate) Read(p []byte) (int, error) {
	if !g.speaking {
		return g.UnixConn.Read(p)
	}
	for len(g.ready) == 0 {
		if err := g.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, g.ready)
	g.ready = g.ready[n:]
	return n, nil
}

// next reads one message. Its errors are errors of the connection.
func (g *gate) next() error {
	begin := make([]byte, fixedHeader, 512)
	if err := g.fill(begin); err != nil {
		return err
	}
	f, rest, err := newFrame(begin)
	if err != nil {
		return err
	}
	if f.header > maxHeader {
		return g.skip(rest + f.size) // nobody can be answered
	}
	f.data = append(f.data, make([]byte, rest)...)
	if err := g.fill(f.data[fixedHeader:]); err != nil {
		return err
	}
	if f.parse() != nil {
		return g.skip(f.size)
	}
	switch f.kind {
	case dbus.TypeMethodCall:
		return g.called(f)
	case dbus.TypeSignal:
		if f.sender != "org.freedesktop.DBus" { // whom else do we listen to?
			return g.skip(f.size)
		}
		return g.pass(f, false)
	case dbus.TypeMethodReply, dbus.TypeError:
		return g.pass(f, true)
	}
	return g.skip(f.size)
}

func (g *gate) called(f *frame) error {
	if g.calls == nil || f.sender == "" {
		return g.skip(f.size)
	}
	r := rest{gate: g}
	g.calls.call(f, &r)
	return r.broken
}

// pass hands a message to the library if the library can decode it: it would close the
// connection otherwise. In the place of an invalid answer the library gets an error, so
// that the caller does not wait forever.
func (g *gate) pass(f *frame, answer bool) error {
	wrong := errTooBig
	if f.size > maxAnswer {
		if err := g.skip(f.size); err != nil {
			return err
		}
	} else {
		files, err := g.body(f)
		if err != nil {
			return err
		}
		closeAll(files)
		if wrong = f.check(maxValues); wrong == nil {
			_, wrong = f.message(nil)
		}
	}
	if wrong == nil {
		g.ready = f.data
		return nil
	}
	if !answer {
		return nil
	}
	refusal := &dbus.Message{Type: dbus.TypeError, Body: []any{wrong.Error()}, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldErrorName:   dbus.MakeVariant("org.freedesktop.DBus.Error.InconsistentMessage"),
		dbus.FieldReplySerial: dbus.MakeVariant(f.replySerial),
		dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf("")),
	}}
	var data bytes.Buffer
	err := refusal.EncodeTo(&data, f.order)
	g.ready = data.Bytes()
	return err
}

// body reads the body of a message and takes its file descriptors.
func (g *gate) body(f *frame) (files []int, err error) {
	f.data = append(f.data, make([]byte, f.size)...)
	if err := g.fill(f.data[f.header:]); err != nil {
		g.drop()
		return nil, err
	}
	files, g.received = g.received, nil
	if g.lost || len(files) != int(f.files) {
		closeAll(files)
		f.files, files = 0, nil // names none that it has
	}
	g.lost = false
	return files, nil
}

// skip reads the rest of a message and drops it.
func (g *gate) skip(n int) error {
	defer g.drop()
	scratch := make([]byte, min(n, 32<<10))
	for n > 0 {
		part := scratch[:min(n, len(scratch))]
		if err := g.fill(part); err != nil {
			return err
		}
		n -= len(part)
	}
	return nil
}

func (g *gate) drop() {
	closeAll(g.received)
	g.received, g.lost = nil, false
}

// fill reads bytes, and the file descriptors that come with them. As gate reads one
// message at a time, the descriptors belong to that message.
func (g *gate) fill(p []byte) error {
	for len(p) > 0 {
		n, oobn, flags, _, err := g.ReadMsgUnix(p, g.oob)
		if oobn > 0 {
			g.take(g.oob[:oobn])
		}
		if flags&unix.MSG_CTRUNC != 0 {
			g.lost = true
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.EOF
		}
		p = p[n:]
	}
	return nil
}

func (g *gate) take(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		g.lost = true
	}
	for _, m := range messages {
		if files, err := unix.ParseUnixRights(&m); err == nil {
			g.received = append(g.received, files...)
		}
	}
}

func closeAll(files []int) {
	for _, fd := range files {
		unix.Close(fd)
	}
}
