package account

import (
	"bytes"
	"slices"
	"strings"
)

// table is one of the four account files: lines of fields separated by colons. Other
// lines (comments, NIS) stay as they are.
type table struct {
	path   string
	fields int // number of fields in a line
	lines  [][]string
	dirty  bool
	absent bool // the file doesn't exist
}

func parseTable(path string, fields int, data []byte) *table {
	t := &table{path: path, fields: fields}
	for line := range bytes.Lines(data) {
		t.lines = append(t.lines, strings.Split(strings.TrimSuffix(string(line), "\n"), ":"))
	}
	return t
}

func (t *table) encode() []byte {
	var b bytes.Buffer
	for _, line := range t.lines {
		b.WriteString(strings.Join(line, ":"))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// find returns the line of a name, or nil. Its fields may be changed with set.
func (t *table) find(name string) []string {
	return t.findBy(0, name)
}

func (t *table) findBy(field int, value string) []string {
	for _, line := range t.lines {
		if len(line) == t.fields && line[field] == value {
			return line
		}
	}
	return nil
}

// set sets a field of a line that find returned.
func (t *table) set(line []string, field int, value string) {
	if line[field] != value {
		line[field] = value
		t.dirty = true
	}
}

// add appends a line, before lines of NIS, which must stay last.
func (t *table) add(line ...string) []string {
	at := slices.IndexFunc(t.lines, func(l []string) bool { return strings.HasPrefix(l[0], "+") })
	if at < 0 {
		at = len(t.lines)
	}
	t.lines = slices.Insert(t.lines, at, line)
	t.dirty = true
	return line
}

// addMember adds a name to a field with a list separated by commas.
func (t *table) addMember(line []string, field int, name string) {
	members := strings.FieldsFunc(line[field], func(r rune) bool { return r == ',' })
	if !slices.Contains(members, name) {
		t.set(line, field, strings.Join(append(members, name), ","))
	}
}

// remove takes the line of a name away.
func (t *table) remove(name string) {
	before := len(t.lines)
	t.lines = slices.DeleteFunc(t.lines, func(l []string) bool { return len(l) == t.fields && l[nameField] == name })
	t.dirty = t.dirty || len(t.lines) != before
}
