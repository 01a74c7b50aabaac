package tree

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// WriteYAML writes a tree as YAML. With origin, every value carries a comment
// with the file and line that it came from.
func WriteYAML(w io.Writer, n *Node, origin bool) error {
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(toYAML(n, origin)); err != nil {
		return fmt.Errorf("write YAML: %w", err)
	}
	return enc.Close()
}

var yamlTags = [...]string{Null: "!!null", Bool: "!!bool", Int: "!!int", Float: "!!float", String: "!!str"}

func toYAML(n *Node, origin bool) *yaml.Node {
	out := &yaml.Node{}
	switch n.Kind {
	case List:
		out.Kind = yaml.SequenceNode
		for _, item := range n.Items {
			out.Content = append(out.Content, toYAML(item, origin))
		}
	case Map:
		out.Kind = yaml.MappingNode
		for _, f := range n.Fields {
			key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: f.Key}
			out.Content = append(out.Content, key, toYAML(f.Value, origin))
		}
	default:
		out.Kind, out.Tag, out.Value = yaml.ScalarNode, yamlTags[n.Kind], n.Text
		if n.Kind == Null {
			out.Value = "null"
		}
	}
	if origin && (n.Scalar() || len(n.Items)+len(n.Fields) == 0) {
		out.LineComment = "# " + n.Pos.FileLine()
	}
	return out
}

// MarshalJSON writes the value without its origin.
func (n *Node) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	n.writeJSON(&b)
	return b.Bytes(), nil
}

func (n *Node) writeJSON(b *bytes.Buffer) {
	switch n.Kind {
	case Null:
		b.WriteString("null")
	case Bool:
		v, _ := n.Bool()
		b.WriteString(strconv.FormatBool(v))
	case Int:
		if v, ok := n.Int(); ok {
			b.WriteString(strconv.FormatInt(v, 10))
			return
		}
		writeString(b, n.Text)
	case Float:
		// .inf and .nan are no numbers of JSON.
		if v, err := strconv.ParseFloat(n.Text, 64); err == nil && json.Valid([]byte(n.Text)) {
			b.WriteString(strconv.FormatFloat(v, 'g', -1, 64))
			return
		}
		writeString(b, n.Text)
	case String:
		writeString(b, n.Text)
	case List:
		b.WriteByte('[')
		for i, item := range n.Items {
			if i > 0 {
				b.WriteByte(',')
			}
			item.writeJSON(b)
		}
		b.WriteByte(']')
	case Map:
		b.WriteByte('{')
		for i, f := range n.Fields {
			if i > 0 {
				b.WriteByte(',')
			}
			writeString(b, f.Key)
			b.WriteByte(':')
			f.Value.writeJSON(b)
		}
		b.WriteByte('}')
	}
}

func writeString(b *bytes.Buffer, s string) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes
	b.Truncate(b.Len() - 1)
}

// Origins returns where each value comes from: "file:line" by dotted key.
func (n *Node) Origins() map[string]string {
	origins := map[string]string{}
	n.origins("", origins)
	return origins
}

func (n *Node) origins(key string, into map[string]string) {
	if n.Scalar() || len(n.Items)+len(n.Fields) == 0 {
		if key != "" {
			into[key] = n.Pos.FileLine()
		}
		return
	}
	for i, item := range n.Items {
		item.origins(key+"["+strconv.Itoa(i)+"]", into)
	}
	for _, f := range n.Fields {
		name := f.Key
		if strings.ContainsAny(name, ".[") {
			name = `"` + name + `"`
		}
		if key != "" {
			name = key + "." + name
		}
		f.Value.origins(name, into)
	}
}
