package template

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"
)

// text returns a value as sprig does.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	case error:
		return v.Error()
	case fmt.Stringer:
		return v.String()
	}
	return fmt.Sprint(v)
}

// texts are sprig's functions on strings, with sprig's order of arguments: the
// text comes last, so that it can be piped.
var texts = template.FuncMap{
	"trim":       strings.TrimSpace,
	"trimAll":    func(cut, s string) string { return strings.Trim(s, cut) },
	"trimall":    func(cut, s string) string { return strings.Trim(s, cut) },
	"trimPrefix": func(prefix, s string) string { return strings.TrimPrefix(s, prefix) },
	"trimSuffix": func(suffix, s string) string { return strings.TrimSuffix(s, suffix) },
	"upper":      strings.ToUpper,
	"lower":      strings.ToLower,
	"title":      title,
	"untitle":    untitle,
	"nospace":    func(s string) string { return strings.Join(strings.Fields(s), "") },
	"trunc":      trunc,
	"substr":     substr,
	"contains":   func(part, s string) bool { return strings.Contains(s, part) },
	"hasPrefix":  func(prefix, s string) bool { return strings.HasPrefix(s, prefix) },
	"hasSuffix":  func(suffix, s string) bool { return strings.HasSuffix(s, suffix) },
	"quote":      func(args ...any) string { return wrapped(args, strconv.Quote) },
	"squote":     func(args ...any) string { return wrapped(args, func(s string) string { return "'" + s + "'" }) },
	"cat":        func(args ...any) string { return wrapped(args, func(s string) string { return s }) },
	"indent":     indent,
	"nindent": func(n int, s string) (string, error) {
		out, err := indent(n, s)
		return "\n" + out, err
	},
	"replace":   replace,
	"plural":    plural,
	"repeat":    repeat,
	"initials":  initials,
	"snakecase": func(s string) string { return strings.Join(casedWords(s), "_") },
	"kebabcase": func(s string) string { return strings.Join(casedWords(s), "-") },
	"toString":  text,
	"toStrings": toStrings,
	"join":      func(sep string, v any) string { return strings.Join(toStrings(v), sep) },
	"splitList": func(sep, s string) []string { return strings.SplitN(s, sep, maxItems) },
	"split":     func(sep, s string) map[string]string { return numbered(strings.SplitN(s, sep, maxItems)) },
	"splitn": func(sep string, n int, s string) map[string]string {
		return numbered(strings.SplitN(s, sep, min(n, maxItems)))
	},
	"sortAlpha": func(v any) []string {
		sorted := slices.Clone(toStrings(v))
		slices.Sort(sorted)
		return sorted
	},
	"regexMatch": func(expr, s string) (bool, error) {
		re, err := compile(expr)
		return err == nil && re.MatchString(s), err
	},
	"regexFind": func(expr, s string) (string, error) {
		re, err := compile(expr)
		if err != nil {
			return "", err
		}
		return re.FindString(s), nil
	},
	"regexFindAll": func(expr, s string, n int) ([]string, error) {
		re, err := compile(expr)
		if err != nil {
			return nil, err
		}
		return re.FindAllString(s, within(n)), nil
	},
	"regexReplaceAll": func(expr, s, by string) (string, error) {
		return regexReplace(expr, s, by, (*regexp.Regexp).ReplaceAllString)
	},
	"regexReplaceAllLiteral": func(expr, s, by string) (string, error) {
		return regexReplace(expr, s, by, (*regexp.Regexp).ReplaceAllLiteralString)
	},
	"regexSplit": func(expr, s string, n int) ([]string, error) {
		re, err := compile(expr)
		if err != nil {
			return nil, err
		}
		return re.Split(s, within(n)), nil
	},
	"regexQuoteMeta": regexp.QuoteMeta,
}

// within bounds a count where a negative one means all.
func within(n int) int {
	if n < 0 || n > maxItems {
		return maxItems
	}
	return n
}

func compile(expr string) (*regexp.Regexp, error) {
	if len(expr) > 1000 {
		return nil, errors.New("a regular expression of more than 1000 characters")
	}
	return regexp.Compile(expr)
}

func regexReplace(expr, s, by string, replace func(re *regexp.Regexp, s, by string) string) (string, error) {
	re, err := compile(expr)
	if err != nil {
		return "", err
	}
	// by may put in what was found, as often as it has dollar signs
	grown := len(by) + strings.Count(by, "$")*len(s)
	const most = 16 * maxText
	if (len(s)+1)*grown > most && len(re.FindAllStringIndex(s, most/grown+1)) > most/grown {
		return "", errTooLong
	}
	return replace(re, s, by), nil
}

func replace(old, by, s string) (string, error) {
	if strings.Count(s, old)*len(by) > 4*maxText {
		return "", errTooLong
	}
	return strings.ReplaceAll(s, old, by), nil
}

func repeat(n int, s string) (string, error) {
	if n < 0 || n > maxText || n*len(s) > maxText {
		return "", errTooLong
	}
	return strings.Repeat(s, n), nil
}

func indent(n int, s string) (string, error) {
	if n < 0 || n > 1000 {
		return "", errors.New("indent: want 0 to 1000 spaces")
	}
	if (strings.Count(s, "\n")+1)*n > maxText {
		return "", errTooLong
	}
	pad := strings.Repeat(" ", n)
	return pad + strings.ReplaceAll(s, "\n", "\n"+pad), nil
}

// trunc takes the first n characters, or the last -n.
func trunc(n int, s string) string {
	switch {
	case n < 0 && len(s)+n > 0:
		return s[len(s)+n:]
	case n >= 0 && len(s) > n:
		return s[:n]
	}
	return s
}

func substr(start, end int, s string) string {
	switch {
	case start < 0:
		return trunc(max(end, 0), s)
	case end < 0 || end > len(s):
		end = len(s)
	}
	if start > end {
		return ""
	}
	return s[start:end]
}

func title(s string) string {
	before := ' '
	return strings.Map(func(r rune) rune {
		start := !unicode.IsLetter(before) && !unicode.IsDigit(before) && before != '_'
		before = r
		if start {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}

func untitle(s string) string {
	words := strings.SplitAfter(s, " ")
	for i, w := range words {
		r, n := utf8.DecodeRuneInString(w)
		if n > 0 {
			words[i] = string(unicode.ToLower(r)) + w[n:]
		}
	}
	return strings.Join(words, "")
}

func plural(one, many string, n int) string {
	if n == 1 {
		return one
	}
	return many
}

func initials(s string) string {
	var b strings.Builder
	for w := range strings.FieldsSeq(s) {
		r, _ := utf8.DecodeRuneInString(w)
		b.WriteRune(r)
	}
	return b.String()
}

// casedWords takes a name apart at its capitals, dashes, underscores and
// spaces, in lower case.
func casedWords(s string) []string {
	var words []string
	var word strings.Builder
	flush := func() {
		if word.Len() > 0 {
			words = append(words, strings.ToLower(word.String()))
			word.Reset()
		}
	}
	runes := []rune(s)
	for i, r := range runes {
		switch {
		case r == '-' || r == '_' || unicode.IsSpace(r):
			flush()
			continue
		case unicode.IsUpper(r) && i > 0:
			inner := !unicode.IsUpper(runes[i-1])
			last := unicode.IsUpper(runes[i-1]) && i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if inner || last {
				flush()
			}
		}
		word.WriteRune(r)
	}
	flush()
	return words
}

// wrapped joins the values that are there with spaces.
func wrapped(args []any, wrap func(string) string) string {
	var words []string
	for _, a := range args {
		if a != nil {
			words = append(words, wrap(text(a)))
		}
	}
	return strings.Join(words, " ")
}

// numbered is what split returns: _0, _1, …
func numbered(parts []string) map[string]string {
	m := make(map[string]string, len(parts))
	for i, p := range parts {
		m["_"+strconv.Itoa(i)] = p
	}
	return m
}
