package template

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// Node renders all texts of a value and returns the result, the same node
// where there is nothing to render.
//
// A template that fails is an error where it speaks of facts. Any other text
// with braces may be a template of somebody else, such as of a Helm chart or
// of docker --format: it stays as it is, with a warning, as in Kairos.
func (r *Renderer) Node(n *tree.Node) (*tree.Node, diag.List) {
	var problems diag.List
	return r.node(n, &problems), problems
}

// Config renders the parts of a config that may have templates: the steps, and the keys
// that become steps.
func (r *Renderer) Config(config *tree.Node) (*tree.Node, diag.List) {
	var problems diag.List
	made := copied(config)
	for i, f := range made.Fields {
		if f.Key == "config_url" {
			made.Fields[i].Value = r.address(f.Value, &problems)
		}
		if schema.Templated(f.Key) {
			made.Fields[i].Value = r.node(f.Value, &problems)
		}
	}
	return made, problems
}

func (r *Renderer) node(n *tree.Node, problems *diag.List) *tree.Node {
	switch n.Kind {
	case tree.String:
		if Has(n.Text) {
			return r.scalar(n, problems)
		}
	case tree.List:
		for i, item := range n.Items {
			if made := r.node(item, problems); made != item {
				n = copied(n)
				n.Items[i] = made
			}
		}
	case tree.Map:
		for i, f := range n.Fields {
			if made := r.node(f.Value, problems); made != f.Value {
				n = copied(n)
				n.Fields[i].Value = made
			}
		}
	}
	return n
}

// copied returns a node of its own with the same values.
func copied(n *tree.Node) *tree.Node {
	c := *n
	c.Items = append([]*tree.Node(nil), n.Items...)
	c.Fields = append([]tree.Field(nil), n.Fields...)
	return &c
}

func (r *Renderer) scalar(n *tree.Node, problems *diag.List) *tree.Node {
	text, err := r.Text(n.Text)
	var failed *Error
	if errors.As(err, &failed) {
		at := n.Pos
		if n.Block && failed.Line > 0 {
			at.Line, at.Column = at.Line+failed.Line, 0
		}
		if mentionsFacts(n.Text) {
			problems.Errorf(at, "template: %s", failed.Message)
			return spoiled(n)
		}
		problems.Warnf(at, "text in braces stays as it is: as a template, it fails: %s", failed.Message)
		return n
	}
	if Missing(text) && !Missing(n.Text) {
		problems.Add(diag.Errorf(n.Pos, "template: this machine does not have one of its facts").WithHint(`{{ default "…" FACT }} sets a value for such machines`))
		return spoiled(n)
	}
	made := *n
	made.Text = text
	return &made
}

// address renders the address of a config.
func (r *Renderer) address(n *tree.Node, problems *diag.List) *tree.Node {
	if url := n.Field("url"); url != nil {
		made := copied(n)
		for i, f := range made.Fields {
			if f.Key == "url" {
				made.Fields[i].Value = r.address(url, problems)
			}
		}
		return made
	}
	if n.Kind != tree.String || !Has(n.Text) {
		return n
	}
	text, err := r.Address(n.Text)
	if err != nil {
		problems.Errorf(n.Pos, "%v", err)
		return spoiled(n)
	}
	made := *n
	made.Text = text
	return &made
}

// spoiled returns a value that nobody uses.
func spoiled(n *tree.Node) *tree.Node {
	made := *n
	made.Spoiled = true
	return &made
}

// Content renders the content of a file after it was decoded, as yip does. A content
// that is no text, or no template, stays as it is.
func (r *Renderer) Content(data []byte, pos diag.Pos) ([]byte, diag.List) {
	var problems diag.List
	if r == nil || !bytes.Contains(data, []byte("{{")) || !utf8.Valid(data) {
		return data, nil
	}
	made := r.scalar(&tree.Node{Kind: tree.String, Text: string(data), Pos: pos}, &problems)
	if made.Spoiled {
		return nil, problems
	}
	return []byte(made.Text), problems
}

// nothing is what Go's templates write for what isn't there.
var nothing = regexp.MustCompile(`<no value>|%!.\(<nil>\)|<nil>`)

// Missing reports whether a text was rendered from a missing fact.
func Missing(text string) bool { return nothing.MatchString(text) }

func mentionsFacts(text string) bool {
	return strings.Contains(text, ".Values") || strings.Contains(text, ".MachineID") || strings.Contains(text, ".Random") || strings.Contains(text, ".UUID") || strings.Contains(text, ".ProtectedID")
}
