package template

import (
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// empty is sprig's: false, 0, "" and what holds nothing.
func empty(v any) bool {
	r := reflect.ValueOf(v)
	if !r.IsValid() {
		return true
	}
	switch r.Kind() {
	case reflect.Map, reflect.Slice, reflect.Array, reflect.String:
		return r.Len() == 0
	case reflect.Struct:
		return false
	}
	return r.IsZero()
}

// expressions choose between values.
var expressions = template.FuncMap{
	"empty": empty,
	"default": func(otherwise any, given ...any) any {
		if len(given) == 0 || empty(given[0]) {
			return otherwise
		}
		return given[0]
	},
	"coalesce": func(args ...any) any {
		for _, a := range args {
			if !empty(a) {
				return a
			}
		}
		return nil
	},
	"ternary": func(yes, no any, which bool) any {
		if which {
			return yes
		}
		return no
	},
	"all":  func(args ...any) bool { return !slices.ContainsFunc(args, empty) },
	"any":  func(args ...any) bool { return slices.ContainsFunc(args, func(a any) bool { return !empty(a) }) },
	"fail": func(message string) (string, error) { return "", errors.New(message) },
	// As in Helm: what is missing or empty is an error with a text of the author's.
	"required": func(message string, v any) (any, error) {
		if v == nil || v == "" {
			return nil, errors.New(message)
		}
		return v, nil
	},
}

var encodings = template.FuncMap{
	"b64enc": func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"b64dec": func(s string) (string, error) {
		data, err := base64.StdEncoding.DecodeString(s)
		return string(data), err
	},
	"b32enc": func(s string) string { return base32.StdEncoding.EncodeToString([]byte(s)) },
	"b32dec": func(s string) (string, error) {
		data, err := base32.StdEncoding.DecodeString(s)
		return string(data), err
	},
	"sha1sum":      func(s string) string { sum := sha1.Sum([]byte(s)); return hex.EncodeToString(sum[:]) },
	"sha256sum":    func(s string) string { sum := sha256.Sum256([]byte(s)); return hex.EncodeToString(sum[:]) },
	"sha512sum":    func(s string) string { sum := sha512.Sum512([]byte(s)); return hex.EncodeToString(sum[:]) },
	"toJson":       func(v any) (string, error) { return asJSON(v, "", true) },
	"toRawJson":    func(v any) (string, error) { return asJSON(v, "", false) },
	"toPrettyJson": func(v any) (string, error) { return asJSON(v, "  ", true) },
	"fromJson": func(s string) (any, error) {
		var v any
		err := json.Unmarshal([]byte(s), &v)
		return v, err
	},
}

func asJSON(v any, indent string, escape bool) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetIndent("", indent)
	enc.SetEscapeHTML(escape)
	err := enc.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// integer is sprig's: what is no number is 0.
func integer(v any) int64 {
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return r.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return int64(min(r.Uint(), math.MaxInt64))
	case reflect.Float32, reflect.Float64:
		return int64(r.Float())
	case reflect.Bool:
		if r.Bool() {
			return 1
		}
	case reflect.String:
		n, err := strconv.ParseInt(r.String(), 0, 64)
		if err != nil {
			f, _ := strconv.ParseFloat(r.String(), 64)
			return int64(f)
		}
		return n
	}
	return 0
}

func decimal(v any) float64 {
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Float32, reflect.Float64:
		return r.Float()
	case reflect.String:
		f, _ := strconv.ParseFloat(r.String(), 64)
		return f
	}
	return float64(integer(v))
}

func fold(args []any, f func(a, b int64) int64) int64 {
	total := integer(args[0])
	for _, a := range args[1:] {
		total = f(total, integer(a))
	}
	return total
}

func divide(a, b any, f func(a, b int64) int64) (int64, error) {
	if integer(b) == 0 {
		return 0, errors.New("division by zero")
	}
	return f(integer(a), integer(b)), nil
}

var numbers = template.FuncMap{
	"int":     func(v any) int { return int(integer(v)) },
	"int64":   integer,
	"float64": decimal,
	"atoi":    func(s string) int { n, _ := strconv.Atoi(s); return n },
	"add": func(args ...any) int64 {
		return fold(append([]any{0}, args...), func(a, b int64) int64 { return a + b })
	},
	"add1": func(v any) int64 { return integer(v) + 1 },
	"sub":  func(a, b any) int64 { return integer(a) - integer(b) },
	"mul": func(a any, args ...any) int64 {
		return fold(append([]any{a}, args...), func(a, b int64) int64 { return a * b })
	},
	"div": func(a, b any) (int64, error) { return divide(a, b, func(a, b int64) int64 { return a / b }) },
	"mod": func(a, b any) (int64, error) { return divide(a, b, func(a, b int64) int64 { return a % b }) },
	"max": func(a any, args ...any) int64 {
		return fold(append([]any{a}, args...), func(a, b int64) int64 { return max(a, b) })
	},
	"min": func(a any, args ...any) int64 {
		return fold(append([]any{a}, args...), func(a, b int64) int64 { return min(a, b) })
	},
	"floor": func(v any) float64 { return math.Floor(decimal(v)) },
	"ceil":  func(v any) float64 { return math.Ceil(decimal(v)) },
	"round": func(v any, places int) float64 {
		scale := math.Pow(10, float64(places))
		return math.Round(decimal(v)*scale) / scale
	},
	"until":     func(n int) ([]int, error) { return steps(0, n, cmp.Compare(n, 0)) },
	"untilStep": func(from, to, step int) ([]int, error) { return steps(from, to, step) },
}

// steps counts from a number until before another one.
func steps(from, to, step int) ([]int, error) {
	list := []int{}
	if step == 0 || step > 0 != (to > from) {
		return list, nil
	}
	for n := from; step > 0 && n < to || step < 0 && n > to; n += step {
		if len(list) == maxItems {
			return nil, fmt.Errorf("makes a list of more than %d items", maxItems)
		}
		list = append(list, n)
	}
	return list, nil
}

var kinds = template.FuncMap{
	"kindOf": func(v any) string { return reflect.ValueOf(v).Kind().String() },
	"kindIs": func(kind string, v any) bool { return reflect.ValueOf(v).Kind().String() == kind },
	"typeOf": func(v any) string { return fmt.Sprintf("%T", v) },
}

var paths = template.FuncMap{
	"base": path.Base, "dir": path.Dir, "ext": path.Ext, "clean": path.Clean, "isAbs": path.IsAbs,
}

var times = template.FuncMap{
	"now":       time.Now,
	"date":      func(layout string, v any) string { return clock(v).Format(layout) },
	"unixEpoch": func(v any) string { return strconv.FormatInt(clock(v).Unix(), 10) },
}

// clock returns a moment: a time, or seconds since 1970.
func clock(v any) time.Time {
	if t, ok := v.(time.Time); ok {
		return t
	}
	return time.Unix(integer(v), 0)
}
