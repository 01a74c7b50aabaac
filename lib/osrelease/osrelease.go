// Package osrelease reads os-release(5).
package osrelease

import (
	"bytes"
	"strings"
)

// Files are the paths of os-release, the preferred one first.
var Files = []string{"/etc/os-release", "/usr/lib/os-release"}

// Limit is how many bytes of os-release programs read at most.
const Limit = 1 << 20

// Parse parses os-release: KEY=value, quoted as in a shell. It skips other lines.
func Parse(data []byte) map[string]string {
	fields := map[string]string{}
	for line := range bytes.Lines(data) {
		key, value, ok := strings.Cut(strings.TrimSpace(string(line)), "=")
		if ok && key != "" && key[0] != '#' {
			fields[key] = unquote(value)
		}
	}
	return fields
}

// unquote removes quotes, and backslashes before special characters.
func unquote(s string) string {
	n := len(s)
	if n >= 2 && s[0] == '\'' && s[n-1] == '\'' {
		return s[1 : n-1]
	}
	if n >= 2 && s[0] == '"' && s[n-1] == '"' {
		s = s[1 : n-1]
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
