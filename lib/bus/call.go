package bus

import (
	"context"
	"errors"
	"reflect"
	"runtime/debug"

	"github.com/godbus/dbus/v5"
)

// Call is an unanswered method call.
type Call struct {
	service *Service
	// Sender is the caller's unique name on the bus.
	Sender string
	// Caller is the process that made the call.
	Caller Caller
	// Interactive says that the caller waits while polkit asks a person for a password:
	// the flag ALLOW_INTERACTIVE_AUTHORIZATION.
	Interactive bool
}

const (
	// maxBody is how many bytes the arguments of a call may have, unless its Method
	// sets MaxBody.
	maxBody = 64 << 10
	// maxArguments is how many values the arguments of a call may hold.
	maxArguments = 4096
)

// call takes a call from the connection, in the order of messages. It counts the call
// first, on which leave relies. It reads the body only if the call names a method and
// the user may make another call now.
func (s *Service) call(f *frame, r *rest) {
	s.begin()
	fn, leave, err := s.admit(f)
	if err != nil {
		r.skip(f)
		s.reply(f, nil, err)
		s.end()
		return
	}
	files, err := r.read(f)
	if err == nil {
		err = f.check(maxArguments)
	}
	if err != nil {
		closeAll(files)
		s.reply(f, nil, malformed(err))
		leave()
		s.end()
		return
	}
	go func() { // Run waits until it is no longer counted
		defer s.end()
		defer leave()
		body, err := s.answer(f, fn, files)
		closeAll(files)
		s.reply(f, body, err)
	}()
}

// admit finds the called method, or returns why the call is refused.
func (s *Service) admit(f *frame) (fn *function, leave func(), err error) {
	if fn, err = s.find(dbus.ObjectPath(f.path), f.iface, f.member); err != nil {
		return nil, nil, err
	}
	if want := signature(fn.in); f.signature != want {
		return nil, nil, invalid("%w: %q, not %q", errArguments, f.signature, want)
	}
	if most := max(fn.MaxBody, maxBody); f.size > most {
		return nil, nil, denied(errorLimits, "%s: arguments of %d bytes, more than %d", f.member, f.size, most)
	}
	who, err := s.callers.who(s.ctx, f.sender)
	if err != nil {
		return nil, nil, err
	}
	f.caller = who
	leave, err = s.callers.enter(who.UID, f.size)
	return fn, leave, err
}

// malformed wraps the error of a check in a D-Bus error.
func malformed(err error) error {
	if errors.Is(err, errTooBig) {
		return denied(errorLimits, "%v", err)
	}
	return invalid("%w: %w", errArguments, err)
}

func (s *Service) reply(to *frame, body []any, err error) {
	if to.flags&dbus.FlagNoReplyExpected != 0 {
		return
	}
	msg := &dbus.Message{Type: dbus.TypeMethodReply, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(to.serial),
		dbus.FieldDestination: dbus.MakeVariant(to.sender),
	}}
	if err != nil {
		e := s.errorOf(err)
		msg.Type, msg.Body = dbus.TypeError, e.Body
		msg.Headers[dbus.FieldErrorName] = dbus.MakeVariant(e.Name)
	}
	if len(msg.Body) > 0 {
		msg.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(msg.Body...))
	}
	if call := s.conn.Send(msg, nil); call.Err != nil {
		s.config.Log.Warn("answer", "to", to.member, "error", call.Err)
	}
}

// answer decodes the arguments, checks authorization and calls the function.
func (s *Service) answer(f *frame, fn *function, files []int) (body []any, err error) {
	defer func() { // a mistake in a method is an error of that call
		if r := recover(); r != nil {
			s.config.Log.Error("panic", "in", f.member, "cause", r, "stack", string(debug.Stack()))
			body, err = nil, errors.New("internal error: the journal has it")
		}
	}()
	msg, err := f.message(files)
	if err != nil {
		return nil, malformed(err)
	}
	f.data = nil // large, perhaps
	args, err := fn.decode(msg.Body)
	if err != nil {
		return nil, err
	}
	c := &Call{service: s, Sender: f.sender, Caller: f.caller, Interactive: f.flags&dbus.FlagAllowInteractiveAuthorization != 0}
	if err := c.authorizeAll(s.ctx, fn, args); err != nil {
		return nil, err
	}
	values := []reflect.Value{reflect.ValueOf(s.ctx), reflect.ValueOf(c)}
	results := fn.value.Call(append(values, args...))
	if err, failed := results[len(fn.out)].Interface().(error); failed {
		return nil, err
	}
	body = make([]any, len(fn.out))
	for i := range body {
		body[i] = results[i].Interface()
	}
	return body, nil
}

// authorizeAll checks authorization for the action of a function, and for each action
// of Widens.
func (c *Call) authorizeAll(ctx context.Context, fn *function, args []reflect.Value) error {
	if fn.Action == "" {
		return nil
	}
	details := fn.details(args)
	actions := []string{fn.Action}
	if fn.Widens != nil {
		actions = append(actions, fn.Widens(details)...)
	}
	for _, action := range actions {
		if err := c.authorize(ctx, action, details); err != nil {
			return err
		}
	}
	return nil
}

// find finds the function of a call. Without an interface it returns the first one of
// that name (D-Bus specification, "Message types").
func (s *Service) find(path dbus.ObjectPath, iface, member string) (*function, error) {
	if iface == peerInterface { // of any path
		if f := peer[member]; f != nil {
			return f, nil
		}
		return nil, dbus.MakeUnknownMethodError(member)
	}
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

// object returns the object at a path; for a path above one, an object that has only
// children.
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
