package boot

import (
	"bufio"
	"io"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
)

// maxLinks bounds how many symbolic links one path may go through, as the
// kernel does.
const maxLinks = 40

// Resolve returns the node at a path of an image as a process in the image
// would see it: symbolic links are followed, and ".." of the root is the root.
// It returns nil for what does not exist, and for loops.
func Resolve(root *tree.Node, name string) *tree.Node {
	stack := []*tree.Node{root}
	left := strings.Split(name, "/")
	for links := 0; len(left) > 0; {
		part := left[0]
		left = left[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			stack = stack[:max(1, len(stack)-1)]
			continue
		}
		node := stack[len(stack)-1].Lookup(part)
		if node == nil {
			return nil
		}
		if !node.IsSymlink() {
			stack = append(stack, node)
			continue
		}
		if links++; links > maxLinks {
			return nil
		}
		if strings.HasPrefix(node.Content, "/") {
			stack = stack[:1]
		}
		left = append(strings.Split(node.Content, "/"), left...)
	}
	return stack[len(stack)-1]
}

// maxText bounds the text files of an image that are read, in bytes.
const maxText = 1 << 20

// OSRelease returns the fields of the image's os-release(5), empty when it has
// none.
func OSRelease(root *tree.Node, content Content) (map[string]string, error) {
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		n := file(root, name)
		if n == nil {
			continue
		}
		r, err := content(n)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return parseOSRelease(io.LimitReader(r, maxText))
	}
	return map[string]string{}, nil
}

// parseOSRelease reads KEY=value lines, quoted as in a shell.
func parseOSRelease(r io.Reader) (map[string]string, error) {
	fields := map[string]string{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		key, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		if !ok || key == "" || key[0] == '#' {
			continue
		}
		fields[key] = unquote(value)
	}
	return fields, lines.Err()
}

// unquote removes the quotes and backslashes that os-release(5) allows.
func unquote(s string) string {
	if n := len(s); n >= 2 && s[0] == '\'' && s[n-1] == '\'' {
		return s[1 : n-1]
	}
	if n := len(s); n >= 2 && s[0] == '"' && s[n-1] == '"' {
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
