package schema

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/spell"
)

// decoder is a type that reads its value itself.
type decoder interface {
	decode(n *tree.Node, name string, problems *diag.List)
}

// decode reads a node into a Go value by its type. name is what the value is
// called in messages. null leaves the value as it is.
//
// Struct fields carry their key in the tag `key`; a field Pos takes the
// position of the node. A key without a field is a problem: see unknownKey.
func decode(n *tree.Node, into any, name string, problems *diag.List) {
	decodeValue(n, reflect.ValueOf(into).Elem(), name, problems)
}

func decodeValue(n *tree.Node, v reflect.Value, name string, problems *diag.List) {
	if n.Kind == tree.Null {
		return
	}
	if d, ok := v.Addr().Interface().(decoder); ok {
		d.decode(n, name, problems)
		return
	}
	switch v.Kind() {
	case reflect.String:
		if expect(n, n.Scalar(), "a string", name, problems) {
			v.SetString(n.Text)
		}
	case reflect.Bool:
		b, ok := n.Bool()
		if expect(n, ok, "true or false", name, problems) {
			v.SetBool(b)
		}
	case reflect.Slice:
		decodeSlice(n, v, name, problems)
	case reflect.Struct:
		decodeStruct(n, v, name, problems)
	default:
		panic("schema: no decoder for " + v.Type().String())
	}
}

// expect adds the error that a value has the wrong type, unless ok.
func expect(n *tree.Node, ok bool, want, name string, problems *diag.List) bool {
	if ok {
		return true
	}
	got := n.Kind.String()
	if n.Scalar() && len(n.Text) < 40 && !strings.Contains(n.Text, "\n") && !secretName(name) {
		got = fmt.Sprintf("%q", n.Text)
	}
	problems.Errorf(n.Pos, "%s must be %s, not %s", name, want, got)
	return false
}

func decodeSlice(n *tree.Node, v reflect.Value, name string, problems *diag.List) {
	if !expect(n, n.Kind == tree.List, "a list", name, problems) {
		if n.Scalar() {
			problems.Hint("write it as an item: - …")
		}
		return
	}
	slice := reflect.MakeSlice(v.Type(), 0, len(n.Items))
	for _, item := range n.Items {
		if item.Kind == tree.Null {
			problems.Warnf(item.Pos, "%s has an empty item", name)
			continue
		}
		value := reflect.New(v.Type().Elem()).Elem()
		decodeValue(item, value, name, problems)
		slice = reflect.Append(slice, value)
	}
	v.Set(slice)
}

func decodeStruct(n *tree.Node, v reflect.Value, name string, problems *diag.List) {
	if !expect(n, n.Kind == tree.Map, "a map", name, problems) {
		return
	}
	if pos := v.FieldByName("Pos"); pos.IsValid() {
		pos.Set(reflect.ValueOf(n.Pos))
	}
	for _, f := range n.Fields {
		i := fieldIndex(v.Type(), f.Key)
		if i < 0 {
			unknownKey(f, v.Type(), name, problems)
			continue
		}
		if v.Type().Field(i).Type == laterType {
			problems.Warnf(f.Pos, "%s is not supported yet and left out", f.Key)
			continue
		}
		decodeValue(f.Value, v.Field(i), f.Key, problems)
	}
}

func fieldIndex(t reflect.Type, key string) int {
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("key") == key {
			return i
		}
	}
	return -1
}

// keys returns the keys that a struct has.
func keys(t reflect.Type) []string {
	var list []string
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("key"); key != "" {
			list = append(list, key)
		}
	}
	return list
}

// unknownKey says that a key has no meaning here. At the top of a config
// other blocks may belong to other programs: there only what looks like a
// slip is a problem.
func unknownKey(f tree.Field, t reflect.Type, name string, problems *diag.List) {
	meant := spell.Closest(f.Key, keys(t))
	switch {
	case meant != "":
		problems.Warnf(f.Pos, "unknown key %q", f.Key)
		problems.Hint("did you mean %q?", meant)
	case t != topType:
		problems.Warnf(f.Pos, "unknown key %q in %s", f.Key, name)
	}
}

// Later is a key that Kairos has and this program doesn't yet.
type Later struct{}

// Opaque is a block that other programs read.
type Opaque struct{}

func (Opaque) decode(*tree.Node, string, *diag.List) {}

var laterType = reflect.TypeFor[Later]()

// Entry is one key of a map whose keys are free.
type Entry[T any] struct {
	Key   string
	Pos   diag.Pos
	Value T
}

// Entries is a map whose keys are free, in the order of the source.
type Entries[T any] []Entry[T]

func (e *Entries[T]) decode(n *tree.Node, name string, problems *diag.List) {
	if !expect(n, n.Kind == tree.Map, "a map", name, problems) {
		return
	}
	for _, f := range n.Fields {
		entry := Entry[T]{Key: f.Key, Pos: f.Pos}
		decode(f.Value, &entry.Value, name+"."+f.Key, problems)
		*e = append(*e, entry)
	}
}
