package template

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/adler32"
	"math"
	"math/big"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"
	"unicode"
)

// more are the other functions of sprig that read neither the environment nor
// the network. There is none that makes keys or certificates: they would be
// others at each boot.
var more = template.FuncMap{
	"hello":      func() string { return "Hello!" },
	"adler32sum": func(s string) string { return strconv.FormatUint(uint64(adler32.Checksum([]byte(s))), 10) },
	"abbrev":     func(width int, s string) string { return abbreviate(s, 0, width) },
	"abbrevboth": func(left, right int, s string) string { return abbreviate(s, left, right) },
	"swapcase": func(s string) string {
		return strings.Map(func(r rune) rune {
			switch {
			case unicode.IsUpper(r):
				return unicode.ToLower(r)
			case unicode.IsLower(r):
				return unicode.ToUpper(r)
			}
			return r
		}, s)
	},
	"camelcase": camel,
	"wrap":      func(width int, s string) string { return wrap(s, width, "\n") },
	"wrapWith":  func(width int, line, s string) string { return wrap(s, width, line) },
	"addf":      func(args ...any) float64 { return foldf(args, 0, func(a, b float64) float64 { return a + b }) },
	"add1f":     func(v any) float64 { return decimal(v) + 1 },
	"subf":      func(args ...any) float64 { return firstf(args, func(a, b float64) float64 { return a - b }) },
	"mulf":      func(args ...any) float64 { return firstf(args, func(a, b float64) float64 { return a * b }) },
	"divf":      func(args ...any) float64 { return firstf(args, func(a, b float64) float64 { return a / b }) },
	"maxf":      func(args ...any) float64 { return firstf(args, math.Max) },
	"minf":      func(args ...any) float64 { return firstf(args, math.Min) },
	"biggest": func(a any, args ...any) int64 {
		return fold(append([]any{a}, args...), func(a, b int64) int64 { return max(a, b) })
	},
	"toDecimal": func(v any) int64 { n, _ := strconv.ParseInt(fmt.Sprint(v), 8, 64); return n },
	"seq":       sequence,
	"chunk":     chunk,
	"values": func(d map[string]any) []any {
		list := []any{}
		for _, v := range d {
			list = append(list, v)
		}
		return list
	},
	"set":            func(d map[string]any, key string, v any) map[string]any { d[key] = v; return d },
	"unset":          func(d map[string]any, key string) map[string]any { delete(d, key); return d },
	"merge":          func(d map[string]any, more ...map[string]any) any { return merged(d, false, more) },
	"mergeOverwrite": func(d map[string]any, more ...map[string]any) any { return merged(d, true, more) },
	"deepEqual":      func(a, b any) bool { return reflect.DeepEqual(b, a) },
	"deepCopy":       deepCopy,
	"typeIs":         func(name string, v any) bool { return fmt.Sprintf("%T", v) == name },
	"typeIsLike": func(name string, v any) bool {
		t := fmt.Sprintf("%T", v)
		return t == name || t == "*"+name
	},
	"urlParse": urlParse, "urlJoin": urlJoin,
	"duration":       duration,
	"ago":            func(v any) string { return time.Since(clock(v)).Round(time.Second).String() },
	"htmlDate":       func(v any) string { return clock(v).Format(time.DateOnly) },
	"htmlDateInZone": func(v any, zone string) string { return inZone(v, zone).Format(time.DateOnly) },
	"dateInZone":     func(layout string, v any, zone string) string { return inZone(v, zone).Format(layout) },
	"date_in_zone":   func(layout string, v any, zone string) string { return inZone(v, zone).Format(layout) },
	"toDate":         func(layout, text string) time.Time { t, _ := time.ParseInLocation(layout, text, time.Local); return t },
	"mustToDate":     func(layout, text string) (time.Time, error) { return time.ParseInLocation(layout, text, time.Local) },
	"dateModify":     func(by string, t time.Time) time.Time { d, _ := time.ParseDuration(by); return t.Add(d) },
	"date_modify":    func(by string, t time.Time) time.Time { d, _ := time.ParseDuration(by); return t.Add(d) },
	"durationRound":  durationRound,
	"osBase":         filepath.Base, "osDir": filepath.Dir, "osExt": filepath.Ext, "osClean": filepath.Clean, "osIsAbs": filepath.IsAbs,
	"randAlphaNum": func(n int) (string, error) { return random(n, letters+digits) },
	"randAlpha":    func(n int) (string, error) { return random(n, letters) },
	"randNumeric":  func(n int) (string, error) { return random(n, digits) },
	"randAscii":    func(n int) (string, error) { return random(n, letters+digits+" !#$%&()*+,-./:;<=>?@[]^_{|}~") },
	"randInt": func(least, most int) (int, error) {
		if most <= least {
			return 0, errors.New("randInt: nothing to choose from")
		}
		n, err := rand.Int(rand.Reader, big.NewInt(int64(most-least)))
		return least + int(n.Int64()), err
	},
	"uuidv4": func() string {
		b := make([]byte, 16)
		_, _ = rand.Read(b) // never fails
		b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
		h := hex.EncodeToString(b)
		return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	},
}

const (
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)

func random(n int, from string) (string, error) {
	if n < 0 || n > maxText {
		return "", errTooLong
	}
	b := make([]byte, n)
	for i := range b {
		at, err := rand.Int(rand.Reader, big.NewInt(int64(len(from))))
		if err != nil {
			return "", err
		}
		b[i] = from[at.Int64()]
	}
	return string(b), nil
}

// abbreviate cuts a text to a width, with dots where something is left out.
func abbreviate(s string, offset, width int) string {
	const dots = "..."
	switch {
	case width < 4 || offset > 0 && width < 7 || len(s) <= width:
		return s
	case offset > len(s):
		offset = len(s)
	}
	if len(s)-offset < width-3 {
		offset = len(s) - (width - 3)
	}
	if offset <= 4 {
		return s[:width-3] + dots
	}
	if offset+width-3 < len(s) {
		return dots + abbreviate(s[offset:], 0, width-3)
	}
	return dots + s[len(s)-(width-3):]
}

func camel(s string) string {
	var out strings.Builder
	upper := true
	for _, r := range s {
		switch {
		case r == '_' || r == '-' || r == ' ':
			upper = true
		case upper:
			out.WriteRune(unicode.ToUpper(r))
			upper = false
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

// wrap breaks a text at blanks into lines of a width, where it can.
func wrap(s string, width int, line string) string {
	var out strings.Builder
	column := 0
	for i, word := range strings.Split(s, " ") {
		switch {
		case i == 0:
		case column+1+len(word) > max(width, 1):
			out.WriteString(line)
			column = 0
		default:
			out.WriteByte(' ')
			column++
		}
		out.WriteString(word)
		column += len(word)
	}
	return out.String()
}

func foldf(args []any, total float64, f func(a, b float64) float64) float64 {
	for _, a := range args {
		total = f(total, decimal(a))
	}
	return total
}

func firstf(args []any, f func(a, b float64) float64) float64 {
	if len(args) == 0 {
		return 0
	}
	return foldf(args[1:], decimal(args[0]), f)
}

// sequence is seq(1): numbers with blanks between them.
func sequence(args ...int) (string, error) {
	from, step, to := 1, 0, 0
	switch len(args) {
	case 0:
		return "", nil
	case 1:
		to = args[0]
	case 2:
		from, to = args[0], args[1]
	case 3:
		from, step, to = args[0], args[1], args[2]
	default:
		return "", nil
	}
	if step == 0 {
		step = 1
		if to < from {
			step = -1
		}
	}
	end := to + 1
	if step < 0 {
		end = to - 1
	}
	list, err := steps(from, end, step)
	return strings.Trim(fmt.Sprint(list), "[]"), err
}

func chunk(n int, list any) ([][]any, error) {
	if n < 1 {
		return nil, errors.New("chunk: no size")
	}
	v := reflect.ValueOf(list)
	if v.Kind() != reflect.Slice {
		return nil, errors.New("chunk: no list")
	}
	var chunks [][]any
	for i := 0; i < v.Len(); i++ {
		if i%n == 0 {
			chunks = append(chunks, nil)
		}
		last := len(chunks) - 1
		chunks[last] = append(chunks[last], v.Index(i).Interface())
	}
	return chunks, nil
}

func merged(d map[string]any, over bool, more []map[string]any) any {
	for _, other := range more {
		for key, value := range other {
			old, there := d[key]
			inner, isMap := old.(map[string]any)
			from, both := value.(map[string]any)
			switch {
			case there && isMap && both:
				merged(inner, over, []map[string]any{from})
			case !there || empty(old) || over && !empty(value):
				d[key] = value
			}
		}
	}
	return d
}

func deepCopy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		made := map[string]any{}
		for key, value := range v {
			made[key] = deepCopy(value)
		}
		return made
	case []any:
		made := slices.Clone(v)
		for i := range made {
			made[i] = deepCopy(made[i])
		}
		return made
	}
	return v
}

func urlParse(text string) (map[string]any, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	info := ""
	if u.User != nil {
		info = u.User.String()
	}
	return map[string]any{"scheme": u.Scheme, "host": u.Host, "hostname": u.Hostname(), "path": u.Path, "query": u.RawQuery, "opaque": u.Opaque, "fragment": u.Fragment, "userinfo": info}, nil
}

func urlJoin(d map[string]any) string {
	text := func(key string) string { s, _ := d[key].(string); return s }
	u := url.URL{Scheme: text("scheme"), Host: text("host"), Path: text("path"), RawQuery: text("query"), Opaque: text("opaque"), Fragment: text("fragment")}
	if info := text("userinfo"); info != "" {
		name, password, ok := strings.Cut(info, ":")
		u.User = url.User(name)
		if ok {
			u.User = url.UserPassword(name, password)
		}
	}
	return u.String()
}

func inZone(v any, zone string) time.Time {
	location, err := time.LoadLocation(zone)
	if err != nil {
		location = time.UTC
	}
	return clock(v).In(location)
}

// duration is of seconds, as a text or as an int64.
func duration(v any) string {
	var n int64
	switch v := v.(type) {
	case string:
		n, _ = strconv.ParseInt(v, 10, 64)
	case int64:
		n = v
	}
	return (time.Duration(n) * time.Second).String()
}

// durationRound is about how long: one number and one letter.
func durationRound(v any) string {
	var d time.Duration
	switch v := v.(type) {
	case string:
		d, _ = time.ParseDuration(v)
	case time.Time:
		d = time.Since(v)
	default:
		d = time.Duration(integer(v))
	}
	d = d.Abs()
	const day = 24 * time.Hour
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{365 * day, "y"}, {30 * day, "mo"}, {day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if d > unit.length {
			return strconv.FormatInt(int64(d/unit.length), 10) + unit.name
		}
	}
	return "0s"
}

// withMust adds the names of functions that fail where those without must don't.
func withMust(all template.FuncMap) {
	for _, name := range strings.Fields(`append push chunk compact first fromJson has initial last merge mergeOverwrite prepend
		regexFind regexFindAll regexMatch regexReplaceAll regexReplaceAllLiteral regexSplit rest reverse slice toJson
		toPrettyJson toRawJson uniq without deepCopy dateModify`) {
		if f, ok := all[name]; ok {
			all["must"+strings.ToUpper(name[:1])+name[1:]] = f
		}
	}
}
