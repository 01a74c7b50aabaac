package bus

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// Dict converts a struct (or a pointer to one) to an a{sv}, with the names and
// omissions of its json tags: --json and D-Bus show the same. Signed integers become x,
// unsigned ones t, times become text in RFC 3339, slices of structs aa{sv}, slices of
// int ax; nil pointers are left out. It panics for types that D-Bus does not have.
func Dict(v any) map[string]dbus.Variant {
	dict := map[string]dbus.Variant{}
	addFields(dict, reflect.ValueOf(v))
	return dict
}

// Dicts converts each element of a slice as Dict does.
func Dicts[T any](list []T) []map[string]dbus.Variant {
	dicts := make([]map[string]dbus.Variant, 0, len(list))
	for _, v := range list {
		dicts = append(dicts, Dict(v))
	}
	return dicts
}

func addFields(dict map[string]dbus.Variant, v reflect.Value) {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	if !v.IsValid() {
		return
	}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch value := v.Field(i); {
		case field.Anonymous && name == "":
			addFields(dict, value)
		case !field.IsExported() || name == "-":
		case (strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")) && value.IsZero():
		default:
			if plain, ok := plainValue(value); ok {
				dict[name] = dbus.MakeVariant(plain)
			}
		}
	}
}

// plainValue returns a value as D-Bus represents it; false where there is none.
func plainValue(v reflect.Value) (any, bool) {
	if t, ok := v.Interface().(time.Time); ok {
		return t.Format(time.RFC3339), true
	}
	switch v.Kind() {
	case reflect.Bool:
		return v.Bool(), true
	case reflect.String:
		return v.String(), true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int(), true
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return v.Uint(), true
	case reflect.Float32, reflect.Float64:
		return v.Float(), true
	case reflect.Pointer:
		if v.IsNil() {
			return nil, false
		}
		return plainValue(v.Elem())
	case reflect.Struct:
		return Dict(v.Interface()), true
	case reflect.Slice:
		return plainSlice(v), true
	}
	panic(fmt.Sprintf("bus: no D-Bus type for %s", v.Type()))
}

func plainSlice(v reflect.Value) any {
	if v.Type().Elem().Kind() == reflect.String {
		list := make([]string, 0, v.Len())
		for i := range v.Len() {
			list = append(list, v.Index(i).String())
		}
		return list
	}
	if v.Type().Elem().Kind() == reflect.Int {
		list := make([]int64, 0, v.Len())
		for i := range v.Len() {
			list = append(list, v.Index(i).Int())
		}
		return list
	}
	list := make([]map[string]dbus.Variant, 0, v.Len())
	for i := range v.Len() {
		list = append(list, Dict(v.Index(i).Interface()))
	}
	return list
}
