package schema

import (
	"reflect"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// Typed returns a merged config in which values have the types of their keys, for
// programs that read them: "true" and on become true, "512" becomes 512, and 5 becomes
// "5" where a text is expected. Keys get the spelling of the format. A value that
// cannot be converted stays as it is.
func Typed(config *tree.Node) *tree.Node { return typed(config, topType) }

func typed(n *tree.Node, t reflect.Type) *tree.Node {
	if n == nil || n.Kind == tree.Null {
		return n
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[Users]():
		return typedUsers(n)
	case reflect.TypeFor[MiB]():
		return typedInt(n)
	}
	if _, own := reflect.Zero(reflect.PointerTo(t)).Interface().(decoder); own && (t.Kind() != reflect.Slice || t.Elem().Kind() != reflect.Struct) {
		return n
	}
	switch t.Kind() {
	case reflect.Bool:
		if b, ok := n.Bool(); ok {
			return scalar(n, tree.Bool, strconv.FormatBool(b))
		}
	case reflect.Int, reflect.Int64:
		return typedInt(n)
	case reflect.String:
		if n.Scalar() {
			return scalar(n, tree.String, n.Text)
		}
	case reflect.Slice:
		return typedList(n, t.Elem())
	case reflect.Struct:
		return typedMap(n, t)
	}
	return n
}

func scalar(n *tree.Node, kind tree.Kind, text string) *tree.Node {
	made := *n
	made.Kind, made.Text = kind, text
	return &made
}

func typedInt(n *tree.Node) *tree.Node {
	if i, ok := n.Int(); ok {
		return scalar(n, tree.Int, strconv.FormatInt(i, 10))
	}
	return n
}

// typedList is of lists, and of maps with free keys.
func typedList(n *tree.Node, elem reflect.Type) *tree.Node {
	made := *n
	if n.Kind == tree.Map && elem.Kind() == reflect.Struct && strings.HasPrefix(elem.Name(), "Entry[") {
		value, _ := elem.FieldByName("Value")
		made.Fields = nil
		for _, f := range n.Fields {
			f.Value = typed(f.Value, value.Type)
			made.Fields = append(made.Fields, f)
		}
		return &made
	}
	made.Items = nil
	for _, item := range n.Items {
		made.Items = append(made.Items, typed(item, elem))
	}
	return &made
}

func typedMap(n *tree.Node, t reflect.Type) *tree.Node {
	made := *n
	made.Fields = nil
	for _, f := range n.Fields {
		for _, known := range fieldsOf(t) {
			if known.key == f.Key || alike(known.key, f.Key) && n.Field(known.key) == nil {
				f.Key, f.Value = known.key, typed(f.Value, known.typ)
				break
			}
		}
		made.Fields = append(made.Fields, f)
	}
	return &made
}

func typedUsers(n *tree.Node) *tree.Node {
	made := *n
	made.Fields, made.Items = nil, nil
	for _, f := range n.Fields {
		f.Value = typed(f.Value, reflect.TypeFor[User]())
		made.Fields = append(made.Fields, f)
	}
	for _, item := range n.Items {
		made.Items = append(made.Items, typed(item, reflect.TypeFor[User]()))
	}
	return &made
}
