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

// One mistake costs one thing: what can't be used is left out and told of, and
// what stands beside it counts. An item of a list goes alone, and so does a key
// of most blocks. Only what makes no sense in part goes as a whole: see entire.

// decoder is a type that decodes its value itself, and reports whether the value can be
// used.
type decoder interface {
	decode(n *tree.Node, f *field, problems *diag.List) bool
}

// checker is a type that validates more than single keys, and reports whether the value
// can be used.
type checker interface {
	check(n *tree.Node, problems *diag.List) bool
}

// entire is a block that is left out when any of its keys can't be used: a file with
// invalid permissions, for instance, must not become world-readable.
type entire interface{ entire() }

func (*Directory) entire()   {}
func (*File) entire()        {}
func (*Download) entire()    {}
func (*Git) entire()         {}
func (*Entity) entire()      {}
func (*Override) entire()    {}
func (*Layout) entire()      {}
func (*UnpackImage) entire() {}
func (*IfFiles) entire()     {}
func (*ConfigURL) entire()   {}
func (*Dependency) entire()  {}
func (*Bundle) entire()      {}

// decode decodes a node into a Go value by its type, and validates it by the tags of
// its fields. name is the name of the value in messages. null leaves the value
// unchanged. A field Pos gets the position of the node.
func decode(n *tree.Node, into any, name string, problems *diag.List) bool {
	return decodeValue(n, reflect.ValueOf(into).Elem(), &field{key: name}, problems)
}

// decodeValue reports whether the value can be used. If not, it leaves it unchanged, or
// the caller leaves it out.
func decodeValue(n *tree.Node, v reflect.Value, f *field, problems *diag.List) bool {
	if n.Spoiled { // that has been told
		return false
	}
	if n.Kind == tree.Null {
		return true
	}
	if d, ok := v.Addr().Interface().(decoder); ok {
		return d.decode(n, f, problems)
	}
	switch v.Kind() {
	case reflect.String:
		if !expect(n, n.Scalar(), "a string", f.key, problems) || !f.fits(n, problems) {
			return false
		}
		v.SetString(n.Text)
	case reflect.Bool:
		b, ok := n.Bool()
		if !expect(n, ok, "true or false", f.key, problems) {
			return false
		}
		v.SetBool(b)
	case reflect.Int:
		i, ok := n.Int()
		if !expect(n, ok && i >= 0 && i <= math.MaxInt32, "a number", f.key, problems) {
			return false
		}
		v.SetInt(i)
	case reflect.Slice:
		return decodeSlice(n, v, f, problems)
	case reflect.Pointer:
		made := reflect.New(v.Type().Elem())
		if !decodeValue(n, made.Elem(), f, problems) {
			return false
		}
		v.Set(made)
	case reflect.Struct:
		return decodeStruct(n, v, f.key, problems)
	default:
		panic("schema: no decoder for " + v.Type().String())
	}
	return true
}

// expect adds the error that a value has the wrong type, unless ok.
func expect(n *tree.Node, ok bool, want, name string, problems *diag.List) bool {
	if !ok {
		problems.Add(wrongType(n, want, name))
	}
	return ok
}

func wrongType(n *tree.Node, want, name string) diag.Problem {
	return diag.Errorf(n.Pos, "%s must be %s, not %s", name, want, quoted(n.Text, n, name))
}

// quoted returns a text for a message: its beginning or, for a secret, the kind of
// value.
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

func decodeSlice(n *tree.Node, v reflect.Value, f *field, problems *diag.List) bool {
	if elem := v.Type().Elem(); n.Scalar() && (elem.Kind() == reflect.String || elem == reflect.TypeFor[Command]()) {
		// A key or a command alone is what it is meant to be.
		problems.Add(diag.Errorf(n.Pos, "%s must be a list, not %s: taken as its only item", f.key, quoted(n.Text, n, f.key)).WithHint("write it as an item: - …"))
		n = &tree.Node{Kind: tree.List, Pos: n.Pos, Items: []*tree.Node{n}}
	}
	if n.Scalar() {
		problems.Add(wrongType(n, "a list", f.key).WithHint("write it as an item: - …"))
		return false
	}
	if !expect(n, n.Kind == tree.List, "a list", f.key, problems) {
		return false
	}
	slice := reflect.MakeSlice(v.Type(), 0, len(n.Items))
	for _, item := range n.Items {
		if item.Kind == tree.Null {
			problems.Warnf(item.Pos, "%s has an empty item", f.key)
			continue
		}
		value := reflect.New(v.Type().Elem()).Elem()
		if decodeValue(item, value, f, problems) {
			slice = reflect.Append(slice, value)
		}
	}
	v.Set(slice)
	return true
}

func decodeStruct(n *tree.Node, v reflect.Value, name string, problems *diag.List) bool {
	if !expect(n, n.Kind == tree.Map, "a map", name, problems) {
		return false
	}
	if pos := v.FieldByName("Pos"); pos.IsValid() {
		pos.Set(reflect.ValueOf(n.Pos))
	}
	fields := fieldsOf(v.Type())
	_, whole := v.Addr().Interface().(entire)
	usable := true
	for _, f := range n.Fields {
		i := slices.IndexFunc(fields, func(known *field) bool { return known.key == f.Key })
		if i < 0 { // Kairos does not look at the case in blocks of its own, and its pages have other dashes
			i = slices.IndexFunc(fields, func(known *field) bool { return alike(known.key, f.Key) && n.Field(known.key) == nil })
			if i >= 0 {
				problems.Warnf(f.Pos, "key %q is deprecated: write %q", f.Key, fields[i].key)
			}
		}
		if i < 0 {
			unknownKey(f, v.Type(), name, problems)
			continue
		}
		known := fields[i]
		known.remark(f, problems)
		ok := decodeValue(f.Value, v.FieldByIndex(known.index), known, problems)
		if !ok {
			v.FieldByIndex(known.index).SetZero()
		}
		usable = usable && (ok || !whole && !known.required)
	}
	for _, f := range fields {
		value := n.Field(f.key)
		if f.required && (value == nil || !value.Spoiled && value.Scalar() && value.Text == "") {
			problems.Errorf(n.Pos, "%s: %s is missing", name, f.key)
			usable = false
		}
	}
	if c, ok := v.Addr().Interface().(checker); ok {
		usable = c.check(n, problems) && usable
	}
	return usable
}

// field holds the tags of a struct's field.
type field struct {
	key, doc, def, example string
	is, keyIs, old, none   string
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
			is: tag.Get("is"), keyIs: tag.Get("keyis"), old: tag.Get("old"), none: tag.Get("none"), required: tag.Get("req") == "y",
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

// alike reports whether two keys are equal but for case, dashes and underscores.
func alike(a, b string) bool {
	plain := strings.NewReplacer("-", "", "_", "")
	return strings.EqualFold(a, b) || strings.EqualFold(plain.Replace(a), plain.Replace(b))
}

// valueOf returns the value of a key in any spelling, or the map.
func valueOf(n *tree.Node, key string) *tree.Node {
	for _, f := range n.Fields {
		if alike(f.Key, key) {
			return f.Value
		}
	}
	return n
}

// dotted are the blocks in which Kairos accepts keys with dots: partitions.oem.size.
var dotted = []string{"install", "upgrade", "reset"}

// Undot moves values of keys with dots to their nested places. Nested keys that exist
// take precedence.
func Undot(root *tree.Node) *tree.Node {
	if root == nil || root.Kind != tree.Map {
		return root
	}
	made := root
	for _, f := range fieldsOf(topType) {
		block := root.Field(f.key)
		if !slices.Contains(dotted, f.key) || block == nil || block.Kind != tree.Map || !slices.ContainsFunc(block.Fields, func(at tree.Field) bool { return dottedKey(at, f.typ) }) {
			continue
		}
		own := &tree.Node{Kind: tree.Map, Pos: block.Pos}
		var plain diag.List // nothing of a kind meets another in one map
		rest := &tree.Node{Kind: tree.Map, Pos: block.Pos}
		for _, at := range block.Fields {
			path, err := tree.ParsePath(at.Key)
			if !dottedKey(at, f.typ) || err != nil || own.Set(path, at.Value) != nil {
				rest.Fields = append(rest.Fields, at)
			}
		}
		made = made.With([]tree.Field{{Key: f.key, Pos: block.Pos, Value: tree.Merge(own, rest, &plain)}})
	}
	return made
}

// dottedKey reports whether a key leads into a block of its block.
func dottedKey(at tree.Field, t reflect.Type) bool {
	first, _, ok := strings.Cut(at.Key, ".")
	return ok && slices.ContainsFunc(fieldsOf(t), func(f *field) bool { return f.key == first })
}

// remark adds warnings about a key that do not depend on its value.
func (f *field) remark(at tree.Field, problems *diag.List) {
	if at.Value.Kind != tree.Null && f.old != "" {
		problems.Warnf(at.Pos, "%s is deprecated: %s", f.key, f.old)
	}
	if at.Value.Kind != tree.Null && f.none != "" {
		problems.Warnf(at.Pos, "%s is accepted, without effect here, because %s", f.key, f.none)
	}
}

// fits reports whether a text matches the tags, and adds an error if not.
func (f *field) fits(n *tree.Node, problems *diag.List) bool {
	return f.fitsText(n, n.Text, problems)
}

func (f *field) fitsText(n *tree.Node, text string, problems *diag.List) bool {
	if f.enum != nil && !(rule{what: "one of the known words", words: f.enum}).hold(n, text, f.key, problems) {
		return false
	}
	return f.is == "" || ruleFor(f.is).hold(n, text, f.key, problems)
}

// fitsKey is fits for the key of a map with free keys.
func (f *field) fitsKey(at tree.Field, problems *diag.List) bool {
	return f.keyIs == "" || ruleFor(f.keyIs).hold(&tree.Node{Kind: tree.String, Pos: at.Pos}, at.Key, "a key of "+f.key, problems)
}

// notHere maps keys that people write in the wrong place to hints.
var notHere = map[reflect.Type]map[string]string{
	reflect.TypeFor[User](): {
		"sudo":     "use groups for privileges, such as groups: [admin]",
		"password": `did you mean "passwd"?`,
	},
	reflect.TypeFor[File]():      {"mode": `did you mean "permissions"?`},
	reflect.TypeFor[WriteFile](): {"mode": `did you mean "permissions"?`},
}

// unknownKey adds a problem for an unknown key. At the top of a config an unknown block
// may belong to another program: there it is a warning, even in a validation, unless
// the key looks like a typing error and its value is no block.
func unknownKey(f tree.Field, t reflect.Type, name string, problems *diag.List) {
	meant := spell.Closest(f.Key, keysOf(t))
	var p diag.Problem
	switch {
	case t == topType && modules[f.Key] != "":
		problems.Add(diag.Mistakef(f.Pos, "%s is not supported here: %s", f.Key, modules[f.Key]))
		return
	case meant != "":
		p = diag.Warnf(f.Pos, "unknown key %q: did you mean %q?", f.Key, meant)
	case notHere[t][f.Key] != "":
		p = diag.Warnf(f.Pos, "unknown key %q in %s: %s", f.Key, name, notHere[t][f.Key])
	case t == topType:
		problems.Warnf(f.Pos, "unknown block %q: left to other programs", f.Key)
		return
	default:
		p = diag.Warnf(f.Pos, "unknown key %q in %s", f.Key, name)
	}
	// A block that looks like one of ours may be somebody else's, unless it holds what
	// only ours holds.
	p.Mistaken = t != topType || f.Value.Kind != tree.Map || meant == "stages"
	problems.Add(p)
}

// Opaque is a value that only other programs interpret.
type Opaque struct{}

func (Opaque) decode(*tree.Node, *field, *diag.List) bool { return true }

// Entry is one key of a map whose keys are free.
type Entry[T any] struct {
	Key   string
	Pos   diag.Pos
	Value T
}

// Entries is a map whose keys are free, in the order of the source.
type Entries[T any] []Entry[T]

func (e *Entries[T]) decode(n *tree.Node, f *field, problems *diag.List) bool {
	if !expect(n, n.Kind == tree.Map, "a map", f.key, problems) {
		return false
	}
	for _, at := range n.Fields {
		entry := Entry[T]{Key: at.Key, Pos: at.Pos}
		value := *f
		value.key += "." + at.Key
		if f.fitsKey(at, problems) && decodeValue(at.Value, reflect.ValueOf(&entry.Value).Elem(), &value, problems) {
			*e = append(*e, entry)
		}
	}
	return true
}
