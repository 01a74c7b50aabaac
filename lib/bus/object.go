package bus

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/godbus/dbus/v5"
)

// Interface describes an interface of an object.
type Interface struct {
	Name       string
	Methods    []Method
	Properties []Property
	Signals    []Signal
}

// Method is a method of an interface.
type Method struct {
	Name string
	// Action is the polkit action for callers who are not root. Without one, everybody
	// may call the method. polkit gets arguments and options as details, by their
	// names, so that rules can use them.
	Action string
	// Widens returns further polkit actions that the call needs, because its arguments
	// or options permit more than the method's action says. It may add details.
	Widens func(details map[string]string) (actions []string)
	// MaxBody is how many bytes the arguments may have, if more than maxBody.
	MaxBody int
	// In and Out name the arguments and the results.
	In, Out []string
	// Func is a func(context.Context, *Call, arguments…) (results…, error).
	// The context ends when the service stops.
	Func any
}

// Property is a readable property.
type Property struct {
	Name string
	Type string // D-Bus signature
	// Const says that the value never changes.
	Const bool
	// Get returns the value. This package holds no lock while it calls Get.
	Get func() any
}

// Signal is a signal of an interface.
type Signal struct {
	Name string
	Args []Arg
}

// Arg is an argument of a signal.
type Arg struct {
	Name string
	Type string // D-Bus signature
}

// Object is an object of a service.
type Object struct {
	service    *Service
	path       dbus.ObjectPath
	interfaces []Interface
	calls      map[string]map[string]*function // by interface and method

	telling sync.Mutex     // held while signals are sent, so that they leave in the order of the values
	told    map[string]any // values of properties as last signalled, by interface and name
}

// function is a method's Func with the types of its arguments and results as
// signatures.
type function struct {
	Method
	value   reflect.Value
	in, out []reflect.Type
}

// Export adds an object to the service. It panics where a description is invalid.
func (s *Service) Export(path dbus.ObjectPath, interfaces ...Interface) *Object {
	if !path.IsValid() {
		panic(fmt.Sprintf("bus: path %q", path))
	}
	o := &Object{service: s, path: path, calls: map[string]map[string]*function{}, told: map[string]any{}}
	o.interfaces = append(slices.Clone(interfaces), o.standard()...)
	for _, i := range o.interfaces {
		o.calls[i.Name] = map[string]*function{}
		for _, m := range i.Methods {
			o.calls[i.Name][m.Name] = functionOf(i.Name, m)
		}
		for _, p := range i.Properties {
			mustBeType(i.Name, p.Name, p.Type)
		}
		for _, sig := range i.Signals {
			for _, a := range sig.Args {
				mustBeType(i.Name, sig.Name, a.Type)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[path] = o
	return o
}

var (
	contextType = reflect.TypeFor[context.Context]()
	callType    = reflect.TypeFor[*Call]()
	errorType   = reflect.TypeFor[error]()
)

func functionOf(iface string, m Method) *function {
	f := &function{Method: m, value: reflect.ValueOf(m.Func)}
	t := f.value.Type()
	if t.NumIn() != 2+len(m.In) || t.NumOut() != len(m.Out)+1 || t.In(0) != contextType || t.In(1) != callType || t.Out(len(m.Out)) != errorType {
		panic(fmt.Sprintf("bus: %s.%s: Func does not fit In and Out: %s", iface, m.Name, t))
	}
	for i := range m.In {
		f.in = append(f.in, t.In(2+i))
	}
	for i := range m.Out {
		f.out = append(f.out, t.Out(i))
	}
	return f
}

// signature returns the D-Bus signature of a type. It panics, in Export, for types that
// D-Bus does not have.
func signature(types []reflect.Type) (s string) {
	for _, t := range types {
		s += dbus.SignatureOfType(t).String()
	}
	return s
}

func mustBeType(iface, member, signature string) {
	// As the value of a map it must be one complete type.
	if _, err := dbus.ParseSignature("a{s" + signature + "}"); err != nil {
		panic(fmt.Sprintf("bus: %s.%s: type %q", iface, member, signature))
	}
}

// Path returns the object's path.
func (o *Object) Path() dbus.ObjectPath { return o.path }

// Remove removes the object from the bus.
func (o *Object) Remove() {
	o.service.mu.Lock()
	defer o.service.mu.Unlock()
	delete(o.service.objects, o.path)
}

// Emit sends a signal of the object.
func (o *Object) Emit(iface, name string, args ...any) error {
	i := slices.IndexFunc(o.interfaces, func(i Interface) bool { return i.Name == iface })
	if i < 0 {
		return fmt.Errorf("object %s has no interface %s", o.path, iface)
	}
	j := slices.IndexFunc(o.interfaces[i].Signals, func(s Signal) bool { return s.Name == name })
	if j < 0 {
		return fmt.Errorf("interface %s has no signal %s", iface, name)
	}
	want := ""
	for _, a := range o.interfaces[i].Signals[j].Args {
		want += a.Type
	}
	if have := dbus.SignatureOf(args...).String(); have != want {
		return fmt.Errorf("signal %s.%s with %q, not %q", iface, name, have, want)
	}
	return o.service.conn.Emit(o.path, iface+"."+name, args...)
}

// Changed signals, in one PropertiesChanged, the properties of an interface whose
// values differ from those signalled last: of the named properties, or of all. The
// caller must hold no lock that a Get takes.
func (o *Object) Changed(iface string, names ...string) error {
	o.telling.Lock()
	defer o.telling.Unlock()
	changed := map[string]dbus.Variant{}
	for _, p := range o.properties(iface) {
		if p.Const || len(names) > 0 && !slices.Contains(names, p.Name) {
			continue
		}
		v, err := p.variant(iface)
		if err != nil {
			return err
		}
		key := iface + "." + p.Name
		if was, known := o.told[key]; known && reflect.DeepEqual(was, v.Value()) {
			continue
		}
		o.told[key] = v.Value()
		changed[p.Name] = v
	}
	if len(changed) == 0 {
		return nil
	}
	return o.service.conn.Emit(o.path, propertiesInterface+".PropertiesChanged", iface, changed, []string{})
}

func (o *Object) properties(iface string) []Property {
	for _, i := range o.interfaces {
		if i.Name == iface {
			return i.Properties
		}
	}
	return nil
}

// errType returns the error for a Get or a Func whose result doesn't have the described
// type.
var errType = errors.New("the value is not of the type that was announced")

func (p Property) variant(iface string) (dbus.Variant, error) {
	value := p.Get()
	if have := dbus.SignatureOf(value).String(); have != p.Type {
		return dbus.Variant{}, fmt.Errorf("property %s.%s: %w: %q, not %q", iface, p.Name, errType, have, p.Type)
	}
	return dbus.MakeVariant(value), nil
}
