package template

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"text/template"
)

// items returns the values of any list.
func items(v any) ([]any, error) {
	r := reflect.ValueOf(v)
	if r.Kind() != reflect.Slice && r.Kind() != reflect.Array {
		return nil, fmt.Errorf("want a list, got %T", v)
	}
	list := make([]any, r.Len())
	for i := range list {
		list[i] = r.Index(i).Interface()
	}
	return list, nil
}

// toStrings returns a list's values as texts; a value that is no list is one
// text.
func toStrings(v any) []string {
	list, err := items(v)
	if err != nil {
		if v == nil {
			return []string{}
		}
		list = []any{v}
	}
	out := []string{}
	for _, item := range list {
		if item != nil {
			out = append(out, text(item))
		}
	}
	return out
}

// of makes a function on the values of a list a function on any list.
func of[T any](f func(list []any) T) func(v any) (T, error) {
	return func(v any) (T, error) {
		list, err := items(v)
		if err != nil {
			var none T
			return none, err
		}
		return f(list), nil
	}
}

func has(list []any, v any) bool {
	return slices.ContainsFunc(list, func(item any) bool { return reflect.DeepEqual(item, v) })
}

var lists = template.FuncMap{
	"list":  func(args ...any) []any { return args },
	"tuple": func(args ...any) []any { return args },
	"first": of(func(list []any) any {
		if len(list) == 0 {
			return nil
		}
		return list[0]
	}),
	"last": of(func(list []any) any {
		if len(list) == 0 {
			return nil
		}
		return list[len(list)-1]
	}),
	"rest":    of(func(list []any) []any { return list[min(1, len(list)):] }),
	"initial": of(func(list []any) []any { return list[:max(0, len(list)-1)] }),
	"reverse": of(func(list []any) []any { slices.Reverse(list); return list }),
	"compact": of(func(list []any) []any { return slices.DeleteFunc(list, empty) }),
	"uniq": func(v any) ([]any, error) {
		list, err := items(v)
		if len(list) > 1000 {
			return nil, errors.New("uniq: a list of more than 1000 items")
		}
		out := []any{}
		for _, item := range list {
			if !has(out, item) {
				out = append(out, item)
			}
		}
		return out, err
	},
	"append": func(v, item any) ([]any, error) {
		list, err := items(v)
		return append(list, item), err
	},
	"prepend": func(v, item any) ([]any, error) {
		list, err := items(v)
		return append([]any{item}, list...), err
	},
	"concat": func(args ...any) ([]any, error) {
		all := []any{}
		for _, a := range args {
			list, err := items(a)
			if err != nil {
				return nil, err
			}
			all = append(all, list...)
		}
		return all, nil
	},
	"without": func(v any, omit ...any) ([]any, error) {
		list, err := items(v)
		return slices.DeleteFunc(list, func(item any) bool { return has(omit, item) }), err
	},
	"has": func(item, v any) (bool, error) {
		if v == nil {
			return false, nil
		}
		list, err := items(v)
		return has(list, item), err
	},
}

var maps = template.FuncMap{
	"dict": func(args ...any) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(args); i += 2 {
			m[text(args[i])] = ""
			if i+1 < len(args) {
				m[text(args[i])] = args[i+1]
			}
		}
		return m
	},
	"get": func(m map[string]any, key string) any {
		if v, ok := m[key]; ok {
			return v
		}
		return ""
	},
	"hasKey": func(m map[string]any, key string) bool { _, ok := m[key]; return ok },
	"keys": func(args ...map[string]any) []string {
		list := []string{}
		for _, m := range args {
			for key := range m {
				list = append(list, key)
			}
		}
		slices.Sort(list) // sprig's order is that of the day
		return list
	},
	"pick": func(m map[string]any, keys ...string) map[string]any {
		out := map[string]any{}
		for _, key := range keys {
			if v, ok := m[key]; ok {
				out[key] = v
			}
		}
		return out
	},
	"omit": func(m map[string]any, keys ...string) map[string]any {
		out := map[string]any{}
		for key, v := range m {
			if !slices.Contains(keys, key) {
				out[key] = v
			}
		}
		return out
	},
	"pluck": func(key string, args ...map[string]any) []any {
		out := []any{}
		for _, m := range args {
			if v, ok := m[key]; ok {
				out = append(out, v)
			}
		}
		return out
	},
	"dig": dig,
}

// dig goes down maps by their keys: dig "a" "b" DEFAULT MAP.
func dig(args ...any) (any, error) {
	if len(args) < 3 {
		return nil, errors.New("dig: want keys, a default and a map")
	}
	keys, otherwise, at := args[:len(args)-2], args[len(args)-2], args[len(args)-1]
	for _, key := range keys {
		m, ok := at.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("dig: %s is beneath %T", strings.TrimSpace(text(key)), at)
		}
		if at, ok = m[text(key)]; !ok {
			return otherwise, nil
		}
	}
	return at, nil
}
