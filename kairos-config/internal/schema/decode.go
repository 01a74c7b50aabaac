package schema

import (
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/spell"
)

// decoder is a type that reads its value itself.
type decoder interface {
	decode(n *tree.Node, name string, problems *diag.List)
}

// checker is a type that finds what is wrong beyond single keys.
type checker interface {
	check(n *tree.Node, problems *diag.List)
}

// decode reads a node into a Go value by its type and holds it against the
// tags of its fields. name is what the value is called in messages. null
// leaves the value as it is. A field Pos takes the position of the node.
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
	case reflect.Int:
		i, ok := n.Int()
		if expect(n, ok && i >= 0 && i <= math.MaxInt32, "a number", name, problems) {
			v.SetInt(i)
		}
	case reflect.Slice:
		decodeSlice(n, v, name, problems)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		decodeValue(n, v.Elem(), name, problems)
	case reflect.Struct:
		decodeStruct(n, v, name, problems)
	default:
		panic("schema: no decoder for " + v.Type().String())
	}
}

// expect adds the error that a value has the wrong type, unless ok.
func expect(n *tree.Node, ok bool, want, name string, problems *diag.List) bool {
	if !ok {
		problems.Errorf(n.Pos, "%s must be %s, not %s", name, want, quoted(n.Text, n, name))
	}
	return ok
}

// quoted returns a text for a message: its beginning when it is no secret, else
// what kind of value it is.
func quoted(text string, n *tree.Node, name string) string {
	if !n.Scalar() || n.Kind == tree.Null || secretName(name) {
		return n.Kind.String()
	}
	const most = 40
	text, _, more := strings.Cut(text, "\n")
	if runes := []rune(text); len(runes) > most {
		text, more = string(runes[:most]), true
	}
	if more {
		text += "…"
	}
	return strconv.Quote(text)
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
	fields := fieldsOf(v.Type())
	for _, f := range n.Fields {
		i := slices.IndexFunc(fields, func(known *field) bool { return known.key == f.Key })
		if i < 0 { // Kairos does not look at the case in blocks of its own
			i = slices.IndexFunc(fields, func(known *field) bool { return strings.EqualFold(known.key, f.Key) && n.Field(known.key) == nil })
			if i >= 0 {
				problems.Warnf(f.Pos, "key %q is deprecated: write %q", f.Key, fields[i].key)
			}
		}
		if i < 0 {
			unknownKey(f, v.Type(), name, problems)
			continue
		}
		before := len(*problems)
		decodeValue(f.Value, v.FieldByIndex(fields[i].index), f.Key, problems)
		if len(*problems) == before { // what has the wrong type has been told of
			fields[i].hold(f, problems)
		}
	}
	for _, f := range fields {
		if value := n.Field(f.key); f.required && (value == nil || value.Scalar() && value.Text == "") {
			problems.Errorf(n.Pos, "%s: %s is missing", name, f.key)
		}
	}
	if c, ok := v.Addr().Interface().(checker); ok {
		c.check(n, problems)
	}
}

// field is what the tags of a struct's field say.
type field struct {
	key, doc, def, example string
	is, keyIs, old         string
	enum                   []string
	required               bool
	index                  []int
	typ                    reflect.Type
}

var fieldCache sync.Map // reflect.Type to []*field

// fieldsOf returns the keys that a struct has, in the order of the source.
func fieldsOf(t reflect.Type) []*field {
	if cached, ok := fieldCache.Load(t); ok {
		return cached.([]*field)
	}
	var list []*field
	for _, sf := range reflect.VisibleFields(t) {
		tag := sf.Tag
		f := &field{
			key: tag.Get("key"), doc: tag.Get("doc"), def: tag.Get("def"), example: tag.Get("eg"),
			is: tag.Get("is"), keyIs: tag.Get("keyis"), old: tag.Get("old"), required: tag.Get("req") == "y",
			index: sf.Index, typ: sf.Type,
		}
		if enum, ok := tag.Lookup("enum"); ok {
			f.enum = strings.Split(enum, "|")
		}
		if f.key != "" {
			list = append(list, f)
		}
	}
	fieldCache.Store(t, list)
	return list
}

func keysOf(t reflect.Type) []string {
	var list []string
	for _, f := range fieldsOf(t) {
		list = append(list, f.key)
	}
	return list
}

// hold holds a value of the right type against the tags.
func (f *field) hold(at tree.Field, problems *diag.List) {
	n := at.Value
	if n.Kind == tree.Null {
		return
	}
	if f.old != "" {
		problems.Warnf(at.Pos, "%s is deprecated: %s", f.key, f.old)
	}
	if f.enum != nil {
		rule{what: "one of the known words", words: f.enum}.holdAll(n, f.key, problems)
	}
	if f.is != "" {
		if f.typ == reflect.TypeFor[Names]() && n.Scalar() {
			for _, name := range splitNames(n.Text) {
				ruleFor(f.is).hold(n, name, f.key, problems)
			}
		} else {
			ruleFor(f.is).holdAll(n, f.key, problems)
		}
	}
	if f.keyIs != "" && n.Kind == tree.Map {
		ruleFor(f.keyIs).holdKeys(n, f.key, problems)
	}
}

// notHere are keys that people look for where they aren't, and what to write
// instead.
var notHere = map[reflect.Type]map[string]string{
	reflect.TypeFor[User](): {
		"sudo":     "rights come with groups, such as groups: [admin]",
		"password": `did you mean "passwd"?`,
	},
	reflect.TypeFor[File](): {"mode": `did you mean "permissions"?`, "append": "a file is written whole"},
}

// unknownKey says that a key has no meaning here. At the top of a config other
// blocks may belong to other programs: unless it looks like a slip, and is no
// block, that is a warning even for those who check.
func unknownKey(f tree.Field, t reflect.Type, name string, problems *diag.List) {
	meant := spell.Closest(f.Key, keysOf(t))
	switch {
	case meant != "":
		problems.Warnf(f.Pos, "unknown key %q: did you mean %q?", f.Key, meant)
	case notHere[t][f.Key] != "":
		problems.Warnf(f.Pos, "unknown key %q in %s: %s", f.Key, name, notHere[t][f.Key])
	case t == topType:
		problems.Warnf(f.Pos, "unknown block %q: left to other programs", f.Key)
		return
	default:
		problems.Warnf(f.Pos, "unknown key %q in %s", f.Key, name)
	}
	if t != topType || f.Value.Kind != tree.Map {
		problems.Mistake()
	}
}

// Opaque is a value that other programs read, whatever it is.
type Opaque struct{}

func (Opaque) decode(*tree.Node, string, *diag.List) {}

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
