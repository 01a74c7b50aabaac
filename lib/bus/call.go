package bus

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/godbus/dbus/v5"
)

// Call is a call that is being answered.
type Call struct {
	service *Service
	// Sender is the caller's unique name on the bus.
	Sender string
	// Interactive says that the caller is ready to wait for a person who is
	// asked for a password.
	Interactive bool
}

// Caller is who calls.
type Caller struct {
	UID uint32
	PID uint32 // 0 when unknown; may have ended, and belong to another by now
}

// Caller asks the bus who the caller is.
func (c *Call) Caller(ctx context.Context) (Caller, error) {
	var who map[string]dbus.Variant
	err := c.service.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetConnectionCredentials", 0, c.Sender).Store(&who)
	if err != nil {
		return Caller{}, fmt.Errorf("who is %s: %w", c.Sender, err)
	}
	uid, ok := who["UnixUserID"].Value().(uint32)
	if !ok {
		return Caller{}, fmt.Errorf("who is %s: the bus does not say", c.Sender)
	}
	pid, _ := who["ProcessID"].Value().(uint32)
	return Caller{uid, pid}, nil
}

// arrived counts a call at the moment it is read, before anything else is:
// what leave relies on. The library answers org.freedesktop.DBus.Peer itself.
func (s *Service) arrived(msg *dbus.Message) {
	if msg.Type == dbus.TypeMethodCall && text(msg, dbus.FieldInterface) != peerInterface {
		s.begin()
	}
}

func text(msg *dbus.Message, field dbus.HeaderField) string {
	switch v := msg.Headers[field].Value().(type) {
	case string:
		return v
	case dbus.ObjectPath:
		return string(v)
	}
	return ""
}

// handler hands every call to answer. It says yes to whatever the library
// looks up, so that each call that has arrived comes to its end here.
type handler struct{ service *Service }

func (h handler) LookupObject(dbus.ObjectPath) (dbus.ServerObject, bool) { return h, true }
func (h handler) LookupInterface(string) (dbus.Interface, bool)          { return h, true }
func (h handler) LookupMethod(string) (dbus.Method, bool)                { return h, true }
func (h handler) NumArguments() int                                      { return 0 }
func (h handler) NumReturns() int                                        { return 0 }
func (h handler) ArgumentValue(int) any                                  { return nil }
func (h handler) ReturnValue(int) any                                    { return nil }

// DecodeArguments answers the call. The library would send an answer after
// Call has returned, when the call is no longer counted, and the process might
// have left by then: so it is made to believe that none is wanted.
func (h handler) DecodeArguments(_ *dbus.Conn, sender string, msg *dbus.Message, _ []any) ([]any, error) {
	defer h.service.end()
	wanted := msg.Flags&dbus.FlagNoReplyExpected == 0
	msg.Flags |= dbus.FlagNoReplyExpected
	body, err := h.service.answer(sender, msg)
	closeFiles(msg.Body)
	if wanted {
		h.service.reply(msg, body, err)
	}
	return nil, nil
}

func (h handler) Call(...any) ([]any, error) { return nil, nil }

func (s *Service) reply(to *dbus.Message, body []any, err error) {
	msg := &dbus.Message{Type: dbus.TypeMethodReply, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(to.Serial()),
	}}
	if err != nil {
		e := s.errorOf(err)
		msg.Type, msg.Body = dbus.TypeError, e.Body
		msg.Headers[dbus.FieldErrorName] = dbus.MakeVariant(e.Name)
	}
	if sender, ok := to.Headers[dbus.FieldSender]; ok {
		msg.Headers[dbus.FieldDestination] = sender
	}
	if len(msg.Body) > 0 {
		msg.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(msg.Body...))
	}
	if call := s.conn.Send(msg, nil); call.Err != nil {
		s.config.Log.Warn("answer", "to", text(to, dbus.FieldMember), "error", call.Err)
	}
}

// answer finds what is called, checks the arguments, asks whether the caller
// may, and calls it.
func (s *Service) answer(sender string, msg *dbus.Message) ([]any, error) {
	f, err := s.find(dbus.ObjectPath(text(msg, dbus.FieldPath)), text(msg, dbus.FieldInterface), text(msg, dbus.FieldMember))
	if err != nil {
		return nil, err
	}
	args, err := f.decode(msg.Body)
	if err != nil {
		return nil, err
	}
	c := &Call{service: s, Sender: sender, Interactive: msg.Flags&dbus.FlagAllowInteractiveAuthorization != 0}
	if f.Action != "" {
		if err := c.authorize(s.ctx, f.Action, f.details(args)); err != nil {
			return nil, err
		}
	}
	values := []reflect.Value{reflect.ValueOf(s.ctx), reflect.ValueOf(c)}
	results := f.value.Call(append(values, args...))
	if err, failed := results[len(f.out)].Interface().(error); failed {
		return nil, err
	}
	body := make([]any, len(f.out))
	for i := range body {
		body[i] = results[i].Interface()
	}
	return body, nil
}

// find finds a function. Without interface, the first one that has it counts
// (D-Bus specification, "Message types").
func (s *Service) find(path dbus.ObjectPath, iface, member string) (*function, error) {
	o := s.object(path)
	if o == nil {
		return nil, dbus.MakeNoObjectError(path)
	}
	found := false
	for _, i := range o.interfaces {
		if iface != "" && iface != i.Name {
			continue
		}
		found = true
		if f := o.calls[i.Name][member]; f != nil {
			return f, nil
		}
	}
	if !found {
		return nil, dbus.MakeUnknownInterfaceError(iface)
	}
	return nil, dbus.MakeUnknownMethodError(member)
}

// object returns an object, or for a path above one an object that has nothing
// but children.
func (s *Service) object(path dbus.ObjectPath) *Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[path]; o != nil {
		return o
	}
	if len(s.children(path)) == 0 {
		return nil
	}
	o := &Object{service: s, path: path, calls: map[string]map[string]*function{}}
	o.interfaces = o.standard()[:1]
	introspect := o.interfaces[0]
	o.calls[introspect.Name] = map[string]*function{introspect.Methods[0].Name: functionOf(introspect.Name, introspect.Methods[0])}
	return o
}

// maxText is the length of the longest argument that is a string, in bytes.
const maxText = 4096

var errArguments = errors.New("the arguments do not fit")

func (f *function) decode(body []any) ([]reflect.Value, error) {
	have := ""
	if len(body) > 0 {
		have = dbus.SignatureOf(body...).String()
	}
	if want := signature(f.in); have != want {
		return nil, invalid("%w: %q, not %q", errArguments, have, want)
	}
	pointers, values := make([]any, len(f.in)), make([]reflect.Value, len(f.in))
	for i, t := range f.in {
		p := reflect.New(t)
		pointers[i], values[i] = p.Interface(), p.Elem()
	}
	if err := dbus.Store(body, pointers...); err != nil {
		return nil, invalid("%w: %w", errArguments, err)
	}
	for i, v := range values {
		if v.Kind() == reflect.String && v.Len() > maxText {
			return nil, invalid("%s has %d bytes, more than %d", f.In[i], v.Len(), maxText)
		}
	}
	return values, nil
}

// details are the arguments that are strings, by their names.
func (f *function) details(args []reflect.Value) map[string]string {
	details := map[string]string{}
	for i, a := range args {
		if a.Kind() == reflect.String {
			details[f.In[i]] = a.String()
		}
	}
	return details
}
