package tree

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
)

// Path is a parsed dotted key: names of map keys and numbers of list items.
type Path []string

// ParsePath parses a dotted key: install.device, users.0.name, users[0].name,
// stages.boot[0].sysctl."net.ipv4.ip_forward".
func ParsePath(s string) (Path, error) {
	var path Path
	for rest := s; ; {
		var name string
		var err error
		if name, rest, err = segment(rest); err != nil {
			return nil, fmt.Errorf("key %q: %w", s, err)
		}
		path = append(path, name)
		if rest == "" {
			return path, nil
		}
		if rest[0] == '.' {
			rest = rest[1:]
		}
	}
}

// segment takes the first name off a dotted key. What is left starts with a
// dot, a bracket, or is empty.
func segment(s string) (name, rest string, err error) {
	switch {
	case s == "":
		return "", "", errors.New("empty name")
	case s[0] == '"':
		end := strings.IndexByte(s[1:], '"')
		if end < 0 {
			return "", "", errors.New("quote without end")
		}
		name, rest = s[1:1+end], s[end+2:]
	case s[0] == '[':
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", "", errors.New("bracket without end")
		}
		name, rest = s[1:end], s[end+1:]
		if _, err := strconv.ParseUint(name, 10, 31); err != nil {
			return "", "", fmt.Errorf("[%s] is not the number of a list item", name)
		}
	default:
		end := strings.IndexAny(s, ".[")
		if end < 0 {
			end = len(s)
		}
		name, rest = s[:end], s[end:]
	}
	if name == "" {
		return "", "", errors.New("empty name")
	}
	if rest != "" && rest[0] != '.' && rest[0] != '[' {
		return "", "", fmt.Errorf("unexpected %q", rest)
	}
	return name, rest, nil
}

// Find returns the value at a path, or nil.
func (n *Node) Find(path Path) *Node {
	for _, name := range path {
		switch {
		case n == nil:
			return nil
		case n.Kind == Map:
			n = n.Field(name)
		case n.Kind == List:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(n.Items) {
				return nil
			}
			n = n.Items[i]
		default:
			return nil
		}
	}
	return n
}

// Set sets a value at a path of a tree under construction, and creates missing nodes. A
// number is the item of a list, where a list or nothing exists; the number after the
// last item appends.
func (n *Node) Set(path Path, value *Node) error {
	name, rest := path[0], path[1:]
	i, notNumber := strconv.ParseUint(name, 10, 31)
	if n.Kind == Null {
		n.Kind = Map
		if notNumber == nil {
			n.Kind = List
		}
	}
	var slot **Node
	switch {
	case n.Kind == Map:
		slot = n.field(name, value.Pos)
	case n.Kind == List && notNumber == nil && int(i) <= len(n.Items):
		if int(i) == len(n.Items) {
			n.Items = append(n.Items, &Node{Pos: value.Pos})
		}
		slot = &n.Items[i]
	case n.Kind == List && notNumber == nil:
		return fmt.Errorf("item %d of a list of %d", i, len(n.Items))
	default:
		return fmt.Errorf("%q is beneath %v", name, n.Kind)
	}
	if len(rest) == 0 {
		*slot = value
		return nil
	}
	return (*slot).Set(rest, value)
}

// field returns where the value of a key is kept; a new key has null.
func (n *Node) field(key string, pos diag.Pos) **Node {
	for i := range n.Fields {
		if n.Fields[i].Key == key {
			return &n.Fields[i].Value
		}
	}
	n.Fields = append(n.Fields, Field{Key: key, Pos: pos, Value: &Node{Pos: pos}})
	return &n.Fields[len(n.Fields)-1].Value
}

// Scalar parses a text as YAML without quotes: true is a boolean, 5 an integer.
func Scalar(text string, pos diag.Pos) *Node {
	n := &Node{Kind: String, Text: text, Pos: pos}
	switch text {
	case "true", "false":
		n.Kind = Bool
		return n
	case "null", "~":
		return &Node{Kind: Null, Pos: pos}
	}
	if _, err := strconv.ParseInt(text, 10, 64); err == nil {
		n.Kind = Int
	}
	return n
}
