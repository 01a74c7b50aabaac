package template

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"text/template"
)

// functions returns all functions, each within the bounds. Those that Go's
// templates have by themselves and that make texts are among them.
func (b *bounds) functions() template.FuncMap {
	all := template.FuncMap{turnName: b.turn, callName: b.call, escapeName: escaped}
	for _, group := range []template.FuncMap{builtin, texts, expressions, encodings, numbers, lists, maps, kinds, paths, times, more, rare} {
		for name, f := range group {
			all[name] = b.bounded(f)
		}
	}
	withMust(all)
	return all
}

// bounded returns a function that fails when it is late, or when it makes more
// than is allowed.
func (b *bounds) bounded(f any) any {
	inner := reflect.ValueOf(f)
	t := inner.Type()
	results := []reflect.Type{t.Out(0), reflect.TypeFor[error]()}
	ins := make([]reflect.Type, t.NumIn())
	for i := range ins {
		ins[i] = t.In(i)
	}
	outer := reflect.FuncOf(ins, results, t.IsVariadic())
	return reflect.MakeFunc(outer, func(args []reflect.Value) []reflect.Value {
		failed := func(err error) []reflect.Value {
			return []reflect.Value{reflect.Zero(results[0]), reflect.ValueOf(&err).Elem()}
		}
		if err := b.late(); err != nil {
			return failed(err)
		}
		var out []reflect.Value
		if t.IsVariadic() {
			out = inner.CallSlice(args)
		} else {
			out = inner.Call(args)
		}
		if len(out) == 2 && !out[1].IsNil() {
			return failed(out[1].Interface().(error))
		}
		if size(out[0], 0) > maxText {
			return failed(errTooLong)
		}
		return []reflect.Value{out[0], reflect.Zero(results[1])}
	}).Interface()
}

// size is about how many bytes a value holds, or more than is allowed.
func size(v reflect.Value, depth int) int {
	const item = 16
	switch v.Kind() {
	case reflect.Interface:
		if !v.IsNil() {
			return size(v.Elem(), depth)
		}
	case reflect.String:
		return len(v.String())
	case reflect.Slice:
		total := item * v.Len()
		for i := 0; i < v.Len() && total <= maxText; i++ {
			if depth > 100 {
				return maxText + 1
			}
			total += size(v.Index(i), depth+1)
		}
		return total
	case reflect.Map:
		total := item * v.Len()
		for iter := v.MapRange(); total <= maxText && iter.Next(); {
			if depth > 100 {
				return maxText + 1
			}
			total += size(iter.Key(), depth+1) + size(iter.Value(), depth+1)
		}
		return total
	}
	return 0
}

// builtin are those of text/template that make texts of any size.
var builtin = template.FuncMap{
	"print":    func(args ...any) (string, error) { return sprint(fmt.Sprint, args) },
	"println":  func(args ...any) (string, error) { return sprint(fmt.Sprintln, args) },
	"printf":   sprintf,
	"html":     func(args ...any) (string, error) { return sprint(template.HTMLEscaper, args) },
	"js":       func(args ...any) (string, error) { return sprint(template.JSEscaper, args) },
	"urlquery": func(args ...any) (string, error) { return sprint(template.URLQueryEscaper, args) },
}

func sprint(f func(...any) string, args []any) (string, error) {
	if size(reflect.ValueOf(args), 0) > maxText {
		return "", errTooLong
	}
	return f(args...), nil
}

// wide is a verb of printf that asks for more than 999 places.
var wide = regexp.MustCompile(`%[^a-zA-Z%]*(\*|\d{4,})`)

func sprintf(format string, args ...any) (string, error) {
	if wide.MatchString(format) {
		return "", errors.New("widths of more than 999, or from arguments, are not supported")
	}
	if size(reflect.ValueOf(args), 0)+1000*len(format) > 16*maxText {
		return "", errTooLong
	}
	return fmt.Sprintf(format, args...), nil
}
