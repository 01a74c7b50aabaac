package schema

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// object is a JSON object.
type object = map[string]any

// JSONSchema returns a JSON Schema, draft 2020-12, of the format for editors:
// https://json-schema.org/draft/2020-12. It accepts everything that Check accepts, but
// cannot express all its rules. Blocks of other programs are allowed at the top only.
func JSONSchema() ([]byte, error) {
	g := generator{defs: object{}}
	top := g.block(topType)
	properties := top["properties"].(object)
	for key, instead := range modules {
		properties[key] = object{"not": object{}, "description": "Not supported here: " + instead + ".", "deprecated": true}
	}
	// Editors show what others may read, or nobody: VS Code by deprecationMessage.
	top["additionalProperties"] = object{"deprecated": true, "deprecationMessage": "No key of the format: left to other programs.",
		"description": "No key of the format: left to other programs."}
	top["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	top["$id"] = "urn:kairos:toolkit:cloud-config"
	top["title"] = "cloud-config"
	top["description"] = "The config of a node: kairos-cloud-config(5)."
	top["$defs"] = g.defs
	return json.MarshalIndent(top, "", "  ")
}

// generator creates schemas of types, once for each block.
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
	if f.none != "" {
		s["deprecated"] = true
		s["description"] = f.doc + " Without effect here, because " + f.none + "."
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
		return either(object{"type": []string{"boolean", "null"}}, object{"enum": booleans}, object{"type": "string", "pattern": later + "|^$"})
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

// later matches texts whose value only the node knows.
const later = `\{\{|\$\{credential:`

// booleans are the texts that count as booleans.
var booleans = func() (list []string) {
	for _, word := range []string{"true", "false", "yes", "no", "on", "off", "y", "n"} {
		list = append(list, word, strings.ToUpper(word[:1])+word[1:], strings.ToUpper(word))
	}
	slices.Sort(list)
	return slices.Compact(list)
}()

// either returns a schema that one of others must fit.
func either(schemas ...any) object { return object{"anyOf": schemas} }

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
		values := []any{nil} // editors offer these
		for _, w := range words {
			values = append(values, w)
			if w == "true" || w == "false" || w == "off" {
				values = append(values, false)
			}
		}
		return either(object{"enum": unique(values)}, object{"type": "string", "pattern": later + "|^$"})
	default:
		expr = ruleOf(f).pattern
	}
	if expr != "" {
		s["pattern"] = expr + "|^$|" + later
	}
	return s
}

// unique leaves out what is there a second time: an enum may not have that.
func unique(values []any) []any {
	var list []any
	for _, v := range values {
		if !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list
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

func (*OctalMode) jsonSchema(*generator, *field) object {
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

// jsonSchema offers the known stages and allows others.
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
