package layout

import (
	"errors"
	"fmt"
	"strings"
)

// MaxSize is the maximum size of a layout file, in bytes.
const MaxSize = 1 << 20

// Variable is one assignment of a layout file.
type Variable struct {
	Name, Value string
	Line        int // from 1
}

// Parse parses a layout file: lines of NAME=VALUE, as in EnvironmentFile= of
// systemd.exec(5). It ignores empty lines, comments, and "export " before a name. A
// value may be in single or double quotes; a backslash at the end of a line continues
// it. A variable that is assigned twice is returned twice. Invalid lines are returned
// as an error beside the variables.
func Parse(data []byte) ([]Variable, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("larger than %d bytes", MaxSize)
	}
	var vars []Variable
	var failed error
	lines := strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		number, text := i+1, strings.TrimSpace(lines[i])
		for strings.HasSuffix(text, `\`) && i+1 < len(lines) {
			i++
			text = strings.TrimSuffix(text, `\`) + " " + strings.TrimSpace(lines[i])
		}
		if text == "" || text[0] == '#' || text[0] == ';' {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(text, "export "), "=")
		name = strings.TrimSpace(name)
		if !ok || !isName(name) {
			failed = errors.Join(failed, fmt.Errorf("line %d: want NAME=VALUE", number))
			continue
		}
		value, err := unquote(strings.TrimSpace(value))
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("line %d: %s: %w", number, name, err))
			continue
		}
		vars = append(vars, Variable{name, value, number})
	}
	return vars, failed
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// unquote removes the quotes of a value.
func unquote(s string) (string, error) {
	if s == "" || s[0] != '"' && s[0] != '\'' {
		if strings.ContainsAny(s, "\x00") {
			return "", errors.New("NUL in the value")
		}
		return s, nil
	}
	quote := s[0]
	var out strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == quote:
			if strings.TrimSpace(s[i+1:]) != "" {
				return "", errors.New("text after the closing quote")
			}
			return out.String(), nil
		case s[i] == '\\' && quote == '"' && i+1 < len(s):
			i++
			out.WriteByte(s[i])
		case s[i] == 0:
			return "", errors.New("NUL in the value")
		default:
			out.WriteByte(s[i])
		}
	}
	return "", errors.New("no closing quote")
}
