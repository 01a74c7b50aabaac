package bus

import (
	"context"
	"encoding/xml"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
)

// Interfaces of the D-Bus specification, "Standard interfaces".
const (
	peerInterface       = "org.freedesktop.DBus.Peer"
	introspectInterface = "org.freedesktop.DBus.Introspectable"
	propertiesInterface = "org.freedesktop.DBus.Properties"
)

// peer are the methods of org.freedesktop.DBus.Peer, which every object and every path
// has.
var peer = func() map[string]*function {
	functions := map[string]*function{}
	for _, m := range []Method{
		{Name: "Ping", Func: func(context.Context, *Call) error { return nil }},
		{Name: "GetMachineId", Out: []string{"machine_uuid"}, Func: func(context.Context, *Call) (string, error) {
			id, err := os.ReadFile("/etc/machine-id")
			return strings.TrimSpace(string(id)), err
		}},
	} {
		functions[m.Name] = functionOf(peerInterface, m)
	}
	return functions
}()

// standard returns the interfaces that every object has, Introspectable first.
func (o *Object) standard() []Interface {
	return []Interface{
		{Name: introspectInterface, Methods: []Method{
			{Name: "Introspect", Out: []string{"xml_data"}, Func: o.introspect},
		}},
		{Name: propertiesInterface, Methods: []Method{
			{Name: "Get", In: []string{"interface_name", "property_name"}, Out: []string{"value"}, Func: o.get},
			{Name: "GetAll", In: []string{"interface_name"}, Out: []string{"properties"}, Func: o.getAll},
			{Name: "Set", In: []string{"interface_name", "property_name", "value"}, Func: o.set},
		}, Signals: []Signal{
			{"PropertiesChanged", []Arg{{"interface_name", "s"}, {"changed_properties", "a{sv}"}, {"invalidated_properties", "as"}}},
		}},
	}
}

func (o *Object) get(_ context.Context, _ *Call, iface, name string) (dbus.Variant, error) {
	p, in, err := o.property(iface, name)
	if err != nil {
		return dbus.Variant{}, err
	}
	return p.variant(in)
}

func (o *Object) getAll(_ context.Context, _ *Call, iface string) (map[string]dbus.Variant, error) {
	all := map[string]dbus.Variant{}
	found := iface == ""
	for _, i := range o.interfaces {
		if iface != "" && i.Name != iface {
			continue
		}
		found = true
		for _, p := range i.Properties {
			v, err := p.variant(i.Name)
			if err != nil {
				return nil, err
			}
			all[p.Name] = v
		}
	}
	if !found {
		return nil, dbus.MakeUnknownInterfaceError(iface)
	}
	return all, nil
}

func (o *Object) set(_ context.Context, _ *Call, iface, name string, _ dbus.Variant) error {
	if _, _, err := o.property(iface, name); err != nil {
		return err
	}
	return dbus.NewError("org.freedesktop.DBus.Error.PropertyReadOnly", []any{fmt.Sprintf("property %s cannot be written", name)})
}

func (o *Object) property(iface, name string) (Property, string, error) {
	for _, i := range o.interfaces {
		if iface != "" && i.Name != iface {
			continue
		}
		for _, p := range i.Properties {
			if p.Name == name {
				return p, i.Name, nil
			}
		}
	}
	return Property{}, "", dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{fmt.Sprintf("there is no property %q", name)})
}

// introspect returns the introspection data of the object: D-Bus specification,
// "Introspection data format".
func (o *Object) introspect(context.Context, *Call) (string, error) {
	node := introspect.Node{Interfaces: []introspect.Interface{introspect.PeerData}}
	for _, i := range o.interfaces {
		node.Interfaces = append(node.Interfaces, o.describe(i))
	}
	o.service.mu.Lock()
	for _, name := range o.service.children(o.path) {
		node.Children = append(node.Children, introspect.Node{Name: name})
	}
	o.service.mu.Unlock()
	data, err := xml.MarshalIndent(node, "", " ")
	return strings.TrimLeft(introspect.IntrospectDeclarationString, "\n\t") + string(data) + "\n", err
}

func (o *Object) describe(i Interface) introspect.Interface {
	d := introspect.Interface{Name: i.Name}
	for _, m := range i.Methods {
		f := o.calls[i.Name][m.Name]
		args := describeArgs(m.In, f.in, "in")
		d.Methods = append(d.Methods, introspect.Method{Name: m.Name, Args: append(args, describeArgs(m.Out, f.out, "out")...)})
	}
	for _, p := range i.Properties {
		described := introspect.Property{Name: p.Name, Type: p.Type, Access: "read"}
		if p.Const {
			described.Annotations = []introspect.Annotation{{Name: propertyConst, Value: "const"}}
		}
		d.Properties = append(d.Properties, described)
	}
	for _, s := range i.Signals {
		var args []introspect.Arg
		for _, a := range s.Args {
			args = append(args, introspect.Arg{Name: a.Name, Type: a.Type})
		}
		d.Signals = append(d.Signals, introspect.Signal{Name: s.Name, Args: args})
	}
	return d
}

const propertyConst = "org.freedesktop.DBus.Property.EmitsChangedSignal"

func describeArgs(names []string, types []reflect.Type, direction string) (args []introspect.Arg) {
	for i, name := range names {
		args = append(args, introspect.Arg{Name: name, Type: dbus.SignatureOfType(types[i]).String(), Direction: direction})
	}
	return args
}

// children returns the names of the nodes right beneath a path, in order. The
// caller holds the lock.
func (s *Service) children(path dbus.ObjectPath) (names []string) {
	above := strings.TrimSuffix(string(path), "/") + "/"
	for p := range s.objects {
		if rest, beneath := strings.CutPrefix(string(p), above); beneath && rest != "" {
			name, _, _ := strings.Cut(rest, "/")
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
