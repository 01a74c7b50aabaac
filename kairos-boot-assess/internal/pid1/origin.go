package pid1

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Origin says how a unit was started.
type Origin struct {
	// PulledIn says that another unit wants or requires it.
	PulledIn bool
	// Transient says that a program created it at runtime: no file of the image
	// describes it.
	Transient bool
	// Slice is the slice that it runs in, "" for units without processes.
	Slice string
	// BusName is the bus name whose activation starts it.
	BusName string
	// Sockets are the sockets whose connections start it.
	Sockets []string
}

// dependents are the properties that name the units which pull a unit in.
var dependents = []string{"RequiredBy", "RequisiteOf", "WantedBy", "BoundBy", "UpheldBy"}

// Origin returns how a unit was started.
func (c *Conn) Origin(ctx context.Context, u Unit) (o Origin, err error) {
	properties, err := c.properties(ctx, u.path, "Unit")
	if err != nil {
		return o, fmt.Errorf("why %s runs: %w", u.Name, err)
	}
	for _, name := range dependents {
		names, _ := properties[name].Value().([]string)
		o.PulledIn = o.PulledIn || len(names) > 0
	}
	o.Transient, _ = properties["Transient"].Value().(bool)
	triggers, _ := properties["TriggeredBy"].Value().([]string)
	for _, name := range triggers {
		if path.Ext(name) == ".socket" {
			o.Sockets = append(o.Sockets, name)
		}
	}
	kind := strings.TrimPrefix(path.Ext(u.Name), ".")
	if kind == "" {
		return o, nil
	}
	// A unit of a type without such properties has none.
	properties, err = c.properties(ctx, u.path, strings.ToUpper(kind[:1])+kind[1:])
	if err != nil {
		return o, fmt.Errorf("why %s runs: %w", u.Name, err)
	}
	o.Slice, _ = properties["Slice"].Value().(string)
	o.BusName, _ = properties["BusName"].Value().(string)
	return o, nil
}

func (c *Conn) properties(ctx context.Context, path dbus.ObjectPath, kind string) (all map[string]dbus.Variant, err error) {
	err = c.conn.Object(service, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.GetAll", 0, service+"."+kind).Store(&all)
	return all, err
}
