package schema

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// object is a JSON object.
type object = map[string]any

// JSONSchema returns the format as a JSON Schema of the draft 2020-12, for
// editors: https://json-schema.org/draft/2020-12. It can't say all that Check
// knows, and accepts whatever Check accepts. Blocks of other programs are
// allowed at the top only.
func JSONSchema() ([]byte, error) {
	g := generator{defs: object{}}
	top := g.block(topType)
	top["additionalProperties"] = true
	top["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	top["title"] = "cloud-config"
	top["description"] = "The config of a node: kairos-cloud-config(5)."
	top["$defs"] = g.defs
	return json.MarshalIndent(top, "", "  ")
}

// generator makes schemas of types; those of blocks are made once.
type generator struct{ defs object }

// block returns the schema of a struct.
func (g *generator) block(t reflect.Type) object {
	properties := object{}
	var required []string
	for _, f := range fieldsOf(t) {
		properties[f.key] = g.property(f)
		if f.required {
			required = append(required, f.key)
		}
	}
	s := object{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
	if required != nil {
		s["required"] = required
	}
	return s
}

// property returns the schema of a key, with what its tags say.
func (g *generator) property(f *field) object {
	s := g.value(f.typ, f)
	if _, isRef := s["$ref"]; isRef {
		s = object{"allOf": []any{s}}
	}
	s["description"] = f.doc
	if f.def != "" {
		s["description"] = f.doc + " Default: " + f.def + "."
	}
	if f.example != "" {
		s["examples"] = []any{example(f)}
	}
	if f.old != "" {
		s["deprecated"] = true
		s["description"] = f.doc + " Deprecated: " + f.old + "."
	}
	return s
}

// example returns the example of a key as JSON.
func example(f *field) any {
	n, _ := tree.Parse("the example of "+f.key, []byte(f.key+": "+f.example))
	return n.Field(f.key) // TestTags holds that it is YAML
}

// ref returns a reference to the schema of a struct.
func (g *generator) ref(t reflect.Type) object {
	name := t.Name()
	if _, made := g.defs[name]; !made {
		g.defs[name] = nil // a type may hold itself
		g.defs[name] = g.block(t)
	}
	return object{"$ref": "#/$defs/" + name}
}

// value returns the schema of a type; f is the key that its texts belong to.
func (g *generator) value(t reflect.Type, f *field) object {
	if own, ok := reflect.Zero(reflect.PointerTo(t)).Interface().(interface {
		jsonSchema(g *generator, f *field) object
	}); ok {
		return own.jsonSchema(g, f)
	}
	switch t.Kind() {
	case reflect.String:
		return texts(f)
	case reflect.Bool:
		return pattern(`^([Tt]rue|TRUE|[Ff]alse|FALSE|[Yy](es)?|YES|[Nn]o?|NO|[Oo]n|ON|[Oo]ff|OFF)$`, "boolean", "string", "null")
	case reflect.Int, reflect.Int64:
		return pattern(`^[0-9_]+$|^0[xXoObB][0-9a-fA-F_]+$`, "integer", "string", "null")
	case reflect.Slice:
		return object{"type": []string{"array", "null"}, "items": g.value(t.Elem(), f)}
	case reflect.Pointer:
		return g.value(t.Elem(), f)
	case reflect.Struct:
		return g.ref(t)
	}
	panic("schema: no JSON Schema for " + t.String())
}

// later are texts that only the node knows the value of.
const later = `\{\{|\$\{credential:`

// pattern returns the schema of scalars; the pattern is for strings only.
func pattern(expr string, types ...string) object {
	return object{"type": types, "pattern": expr + "|^$|" + later}
}

// texts returns the schema of a text: any scalar, since YAML takes 13 for a
// number.
func texts(f *field) object {
	s := object{"type": []string{"string", "number", "boolean", "null"}}
	var expr string
	switch words := ruleOf(f).words; {
	case f.enum != nil:
		words = f.enum
		fallthrough
	case words != nil:
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = strings.ReplaceAll(w, "+", `\+`)
		}
		expr = "^(" + strings.Join(quoted, "|") + ")$"
	default:
		expr = ruleOf(f).pattern
	}
	if expr != "" {
		s["pattern"] = expr + "|^$|" + later
	}
	return s
}

func ruleOf(f *field) rule {
	if f.is == "" {
		return rule{}
	}
	return ruleFor(f.is)
}

func (*Mode) jsonSchema(*generator, *field) object {
	return pattern(`^(0o)?[0-7]{1,5}$`, "integer", "string", "null")
}

func (*Owner) jsonSchema(*generator, *field) object {
	return object{"type": []string{"string", "integer", "null"}}
}

func (*Names) jsonSchema(_ *generator, f *field) object {
	single := object{"type": []string{"string", "number", "boolean", "null"}} // with commas in it
	return object{"anyOf": []any{single, object{"type": "array", "items": texts(f)}}}
}

func (*Command) jsonSchema(*generator, *field) object {
	return object{"type": []string{"string", "number", "boolean", "array", "null"}, "items": object{"type": []string{"string", "number", "boolean", "null"}}}
}

func (*Users) jsonSchema(g *generator, _ *field) object {
	user := g.ref(reflect.TypeFor[User]())
	return object{"anyOf": []any{
		object{"type": "null"},
		object{"type": "object", "additionalProperties": user},
		object{"type": "array", "items": object{"anyOf": []any{user, object{"const": "default"}}}},
	}}
}

func (*Groups) jsonSchema(g *generator, _ *field) object {
	name := object{"type": []string{"string", "number", "boolean", "null"}}
	members := object{"type": "object", "maxProperties": 1, "not": object{"required": []string{"name"}}}
	return object{"anyOf": []any{name, object{"type": "array", "items": object{"anyOf": []any{name, members, g.ref(reflect.TypeFor[Group]())}}}}}
}

func (*Dependency) jsonSchema(g *generator, _ *field) object {
	return object{"anyOf": []any{object{"type": "string"}, g.ref(reflect.TypeFor[Dependency]())}}
}

func (*ConfigURL) jsonSchema(g *generator, _ *field) object {
	return object{"anyOf": []any{
		object{"type": []string{"string", "null"}, "pattern": rules["url"].pattern + "|^$"},
		g.ref(reflect.TypeFor[ConfigURL]()),
	}}
}

func (*Opaque) jsonSchema(*generator, *field) object { return object{} }

// jsonSchema offers the stages that there are and allows others.
func (*Stages) jsonSchema(g *generator, _ *field) object {
	steps := object{"type": []string{"array", "null"}, "items": g.ref(reflect.TypeFor[Step]())}
	known := object{}
	for _, stage := range stageKeys(StageNames) {
		known[stage] = steps
	}
	return object{"type": []string{"object", "null"}, "properties": known, "additionalProperties": steps}
}

func (*Entries[T]) jsonSchema(g *generator, f *field) object {
	s := object{"type": []string{"object", "null"}, "additionalProperties": g.value(reflect.TypeFor[T](), f)}
	if f.keyIs != "" {
		if expr := ruleFor(f.keyIs).pattern; expr != "" {
			s["propertyNames"] = object{"pattern": expr}
		}
	}
	return s
}

// Keys returns all keys of the format with what is known of them, for the
// manual: the blocks in the order in which they come up.
func Keys() []Block {
	var list []Block
	for _, t := range blocks() {
		b := Block{Name: t.Name()}
		for _, f := range fieldsOf(t) {
			b.Keys = append(b.Keys, Key{Name: f.key, Type: typeName(f), Doc: f.doc, Default: f.def, Example: f.example, Deprecated: f.old, Required: f.required})
		}
		list = append(list, b)
	}
	return list
}

// Block is a map of the format.
type Block struct {
	Name string
	Keys []Key
}

// Key is a key of a block.
type Key struct {
	Name, Type, Doc, Default, Example, Deprecated string
	Required                                      bool
}

// blocks are the types of all maps that the format has.
func blocks() []reflect.Type {
	var list []reflect.Type
	var visit func(t reflect.Type)
	visit = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Slice, reflect.Pointer:
			visit(t.Elem())
		case reflect.Struct:
			if value, free := t.FieldByName("Value"); free && strings.HasPrefix(t.Name(), "Entry[") {
				visit(value.Type)
				return
			}
			if len(fieldsOf(t)) == 0 || slices.Contains(list, t) {
				return
			}
			list = append(list, t)
			for _, f := range fieldsOf(t) {
				visit(f.typ)
			}
		}
	}
	visit(topType)
	visit(reflect.TypeFor[Step]())
	return list
}

// typeName says what a key takes, for people.
func typeName(f *field) string {
	if f.enum != nil {
		return "one of " + strings.Join(slices.DeleteFunc(slices.Clone(f.enum), func(w string) bool { return w == "" }), ", ")
	}
	return nameOf(f.typ, f)
}

func nameOf(t reflect.Type, f *field) string {
	switch t {
	case reflect.TypeFor[Mode]():
		return "permissions"
	case reflect.TypeFor[Owner]():
		return "number or name"
	case reflect.TypeFor[Names]():
		return "list of strings, or one string with commas"
	case reflect.TypeFor[MiB]():
		return "number of MiB"
	case reflect.TypeFor[Secret]():
		return "string"
	case reflect.TypeFor[Command]():
		return "string, or list of strings"
	case reflect.TypeFor[Users]():
		return "map of names to users, or list of users"
	case reflect.TypeFor[Groups]():
		return "list of strings and maps"
	case reflect.TypeFor[Stages]():
		return "map of stages to lists of steps"
	case reflect.TypeFor[ConfigURL]():
		return "string, or map"
	case reflect.TypeFor[Dependency]():
		return "string, or map"
	case reflect.TypeFor[Opaque]():
		return "anything"
	}
	switch t.Kind() {
	case reflect.String:
		if r := ruleOf(f); r.what != "" && f.is != "word" && f.is != "oneline" {
			what, _, _ := strings.Cut(r.what, ":")
			return strings.TrimPrefix(strings.TrimPrefix(what, "a "), "an ")
		}
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int:
		return "number"
	case reflect.Pointer:
		return nameOf(t.Elem(), f)
	case reflect.Slice:
		if entry := t.Elem(); entry.Kind() == reflect.Struct && strings.HasPrefix(entry.Name(), "Entry[") {
			value, _ := entry.FieldByName("Value")
			return "map of names to " + plural(nameOf(value.Type, f))
		}
		return "list of " + plural(nameOf(t.Elem(), f))
	}
	return "map"
}

func plural(name string) string {
	first, rest, more := strings.Cut(name, " ")
	switch {
	case strings.HasPrefix(name, "string, or"):
		return "commands"
	case more && first == "list":
		return "lists " + rest
	case more:
		return fmt.Sprintf("strings, each %s", article(name))
	}
	return name + "s"
}

func article(name string) string {
	if strings.ContainsRune("aeiouAEIOU", rune(name[0])) {
		return "an " + name
	}
	return "a " + name
}
