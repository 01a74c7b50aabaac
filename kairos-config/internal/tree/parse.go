package tree

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"go.yaml.in/yaml/v3"
)

// Bounds on what a source may make of memory and stack, far beyond any real
// config. Values behind aliases count each time that they are used, so that
// an alias bomb ends at the first.
const (
	maxNodes = 100_000
	maxDepth = 100
)

// Parse reads the first YAML document of a source. A source that is empty or
// holds comments only is an empty map. The tree is nil when the problems hold
// an error that leaves nothing to use.
func Parse(source string, data []byte) (*Node, diag.List) {
	var problems diag.List
	pos := diag.Pos{Source: source, Line: 1}
	if at, what := unreadable(data); what != "" {
		at.Source = source
		problems.Errorf(at, "not valid YAML: %s", what)
		return nil, problems
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return &Node{Kind: Map, Pos: pos}, nil
	case err != nil:
		at, message, hint := syntaxError(data, err)
		at.Source = source
		problems.Add(diag.Errorf(at, "not valid YAML: %s", message).WithHint("%s", hint))
		return nil, problems
	}
	c := converter{source: source, problems: &problems, open: map[*yaml.Node]bool{}}
	root, err := c.convert(doc.Content[0], 0)
	if err != nil {
		problems.Errorf(c.pos(c.at), "%v", err)
		return nil, problems
	}
	if root.Kind == Null {
		root = &Node{Kind: Map, Pos: pos}
	}
	if root.Kind != Map {
		problems.Errorf(root.Pos, "a config must be a map of keys, not %v", root.Kind)
		return nil, problems
	}
	var next yaml.Node
	if dec.Decode(&next) == nil {
		problems.Warnf(c.pos(&next), "the second YAML document in the file is ignored")
	}
	return root, problems
}

// converter makes a Node of a yaml.Node: aliases and merge keys resolved,
// bounds enforced.
type converter struct {
	source   string
	problems *diag.List
	nodes    int
	open     map[*yaml.Node]bool // alias targets on the way from the root
	at       *yaml.Node          // where the conversion is, for errors
}

func (c *converter) pos(n *yaml.Node) diag.Pos {
	return diag.Pos{Source: c.source, Line: n.Line, Column: n.Column}
}

func (c *converter) convert(n *yaml.Node, depth int) (*Node, error) {
	c.at = n
	if c.nodes++; c.nodes > maxNodes {
		return nil, fmt.Errorf("more than %d values, aliases counted each time", maxNodes)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d levels", maxDepth)
	}
	switch n.Kind {
	case yaml.AliasNode:
		if c.open[n.Alias] {
			return nil, fmt.Errorf("alias *%s is inside its own anchor", n.Value)
		}
		c.open[n.Alias] = true
		defer delete(c.open, n.Alias)
		return c.convert(n.Alias, depth+1)
	case yaml.SequenceNode:
		return c.list(n, depth)
	case yaml.MappingNode:
		return c.mapping(n, depth)
	}
	return c.scalar(n)
}

func (c *converter) scalar(n *yaml.Node) (*Node, error) {
	node := &Node{Kind: String, Text: n.Value, Pos: c.pos(n), Block: n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0}
	switch n.ShortTag() {
	case "!!null":
		node.Kind, node.Text = Null, ""
	case "!!bool":
		node.Kind = Bool
	case "!!int":
		node.Kind = Int
	case "!!float":
		node.Kind = Float
	case "!!binary":
		raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(n.Value), ""))
		if err != nil {
			return nil, fmt.Errorf("!!binary value: %w", err)
		}
		node.Text = string(raw)
	}
	return node, nil
}

func (c *converter) list(n *yaml.Node, depth int) (*Node, error) {
	node := &Node{Kind: List, Pos: c.pos(n), Items: make([]*Node, 0, len(n.Content))}
	for _, item := range n.Content {
		v, err := c.convert(item, depth+1)
		if err != nil {
			return nil, err
		}
		node.Items = append(node.Items, v)
	}
	return node, nil
}

func (c *converter) mapping(n *yaml.Node, depth int) (*Node, error) {
	node := &Node{Kind: Map, Pos: c.pos(n), Fields: make([]Field, 0, len(n.Content)/2)}
	index := make(map[string]int, len(n.Content)/2)
	var inherited []*Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		v, err := c.convert(value, depth+1)
		if err != nil {
			return nil, err
		}
		if key.ShortTag() == "!!merge" {
			inherited = append(inherited, v)
			continue
		}
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			c.at = key
			return nil, errors.New("a key must be a word, not a list or a map")
		}
		f := Field{Key: key.Value, Pos: c.pos(key), Value: v}
		if first, twice := index[f.Key]; twice {
			c.problems.Errorf(f.Pos, "key %q is repeated, first in line %d", f.Key, node.Fields[first].Pos.Line)
			node.Fields[first] = f
			continue
		}
		index[f.Key] = len(node.Fields)
		node.Fields = append(node.Fields, f)
	}
	for _, from := range inherited {
		if err := inherit(node, from); err != nil {
			c.at = n
			return nil, err
		}
	}
	return node, nil
}

// inherit adds the keys of a merge key's value that the map has not itself:
// https://yaml.org/type/merge.html.
func inherit(node, from *Node) error {
	maps := []*Node{from}
	if from.Kind == List {
		maps = from.Items
	}
	for _, m := range maps {
		if m.Kind != Map {
			return fmt.Errorf("merge key << wants a map, got %v", m.Kind)
		}
		for _, f := range m.Fields {
			if node.Field(f.Key) == nil {
				node.Fields = append(node.Fields, f)
			}
		}
	}
	return nil
}
