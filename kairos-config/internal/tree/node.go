// Package tree represents a config as a tree of values with their files and lines. It
// parses YAML, merges trees by Kairos' rules, finds values by dotted keys, and writes
// YAML and JSON.
package tree

import (
	"slices"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
)

// Kind is the type of a value.
type Kind uint8

const (
	Null Kind = iota
	Bool
	Int
	Float
	String
	List
	Map
)

var kindNames = [...]string{"null", "a boolean", "an integer", "a number", "a string", "a list", "a map"}

// String returns the name of the kind for messages: "a list".
func (k Kind) String() string { return kindNames[k] }

// Node is a value. Nodes are shared between trees and never changed once their
// source is read.
type Node struct {
	Kind   Kind
	Text   string  // scalars: as written, without quotes
	Items  []*Node // lists
	Fields []Field // maps, in the order of the source, each key once
	Pos    diag.Pos
	Block  bool // a block scalar (| and >): its text begins on the line after Pos
	// Spoiled says that a template or credential of the value could not be expanded,
	// which was reported: the value must not be used.
	Spoiled bool
}

// Field is one key of a map.
type Field struct {
	Key   string
	Pos   diag.Pos // of the key
	Value *Node
}

// Scalar reports whether the node is neither a list nor a map.
func (n *Node) Scalar() bool { return n.Kind < List }

// Field returns the value of a key, or nil when the node is no map or has no
// such key.
func (n *Node) Field(key string) *Node {
	if n == nil || n.Kind != Map {
		return nil
	}
	for _, f := range n.Fields {
		if f.Key == key {
			return f.Value
		}
	}
	return nil
}

// With returns a copy of a map with other values for existing keys.
func (n *Node) With(fields []Field) *Node {
	made := *n
	made.Fields = slices.Clone(n.Fields)
	for _, f := range fields {
		if i := slices.IndexFunc(made.Fields, func(old Field) bool { return old.Key == f.Key }); i >= 0 {
			made.Fields[i] = f
		}
	}
	return &made
}

// Int returns an integer as YAML defines it: 0644 and 0o644 are octal, 0x1f is
// hexadecimal. It accepts strings with integers, since the kernel command line has only
// strings.
func (n *Node) Int() (int64, bool) {
	if n.Kind != Int && n.Kind != String {
		return 0, false
	}
	v, err := strconv.ParseInt(strings.ReplaceAll(n.Text, "_", ""), 0, 64)
	return v, err == nil
}

// Bool returns a boolean. The spellings of YAML 1.1 (yes, no, on, off) count,
// as strings too.
func (n *Node) Bool() (value, ok bool) {
	if n.Kind != Bool && n.Kind != String {
		return false, false
	}
	switch strings.ToLower(n.Text) {
	case "true", "yes", "on", "y":
		return true, true
	case "false", "no", "off", "n":
		return false, true
	}
	return false, false
}

// Truth returns the answer of --check: whether the value exists and is neither false,
// nor zero, nor empty.
func (n *Node) Truth() bool {
	if n == nil {
		return false
	}
	switch n.Kind {
	case Null:
		return false
	case List:
		return len(n.Items) > 0
	case Map:
		return len(n.Fields) > 0
	}
	if b, ok := n.Bool(); ok {
		return b
	}
	if i, ok := n.Int(); ok {
		return i != 0
	}
	return n.Text != ""
}
