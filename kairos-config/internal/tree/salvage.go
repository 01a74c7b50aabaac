package tree

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
)

// Salvage is Parse for texts that people wrote: a mistake in one block, a key at the
// left edge with all that belongs to it, costs this block. What it returns is what the
// text says without the lines of such blocks, each of which is told as an error; whole
// is false then. The tree is nil where it isn't plain which lines these are.
//
// No part of a broken block is ever used: half a list of commands, or of users, may
// mean the opposite of the whole.
func Salvage(source string, data []byte) (root *Node, whole bool, problems diag.List) {
	root, problems = Parse(source, data)
	if root != nil || len(data) > maxSearched {
		return root, root != nil, problems
	}
	blocks := cut(data)
	left := judge(source, blocks)
	if left == nil {
		return nil, false, problems
	}
	rest, found := Parse(source, without(blocks))
	if rest == nil || !slices.EqualFunc(rest.Fields, left, func(f Field, key string) bool { return f.Key == key }) {
		return nil, false, problems
	}
	var told diag.List
	for _, b := range blocks {
		if b.wrong != nil {
			told.Add(*b.wrong)
		}
	}
	return rest, false, append(told, found...)
}

// block is a key at the left edge, with its lines.
type block struct {
	key         string
	text        []byte
	first, last int           // lines, from 0; last is the one behind it
	stray       bool          // a line at the left edge that is no key, item or comment
	open        bool          // a quote or a bracket in it is not closed
	texts       bool          // it ends with a text as after |
	follows     bool          // lines in it can't belong to its key, which has a value already
	wrong       *diag.Problem // why it is left out
}

// maxBlocks bounds the blocks of a text, and maxAnchors those that need others.
const (
	maxBlocks  = 500
	maxAnchors = 20
)

var (
	leftKey = regexp.MustCompile(`^(?:"([A-Za-z0-9_./ -]+)"|'([A-Za-z0-9_./ -]+)'|([A-Za-z0-9_][A-Za-z0-9_./-]*))[ \t]*:(?:[ \t\r]|$)`)
	inline  = regexp.MustCompile(`:[ \t]+[^ \t\r#|>&!\[{"']`)
	marker  = regexp.MustCompile(`^(?:---|\.\.\.)(?:[ \t\r]|$)`)
)

// cut finds the blocks of the first document, none where something else stands at
// the left edge before the first.
func cut(data []byte) []*block {
	var blocks []*block
	number := -1
	for line := range bytes.Lines(data) {
		number++
		text := bytes.TrimRight(line, "\r\n")
		if marker.Match(text) {
			if len(blocks) > 0 { // a marker ends every text of YAML, quoted ones too
				break
			}
			if len(bytes.TrimSpace(text)) > 3 {
				return nil
			}
			continue
		}
		key := leftKey.FindSubmatch(text)
		plain := len(bytes.TrimSpace(text)) == 0 || strings.ContainsRune(" \t#", rune(text[0]))
		switch {
		case key != nil:
			if len(blocks) == maxBlocks {
				return nil
			}
			blocks = append(blocks, &block{key: string(bytes.Join(key[1:], nil)), first: number})
		case len(blocks) == 0 && plain:
			continue
		case len(blocks) == 0:
			return nil
		case !plain && text[0] != '-':
			blocks[len(blocks)-1].stray = true
		}
		b := blocks[len(blocks)-1]
		if key == nil && len(bytes.TrimSpace(text)) > 0 && text[0] != '#' {
			first, _, _ := bytes.Cut(b.text, []byte("\n"))
			b.follows = inline.Match(first)
		}
		b.text, b.last = append(b.text, line...), number+1
	}
	return blocks
}

// judge finds out which blocks are left out and returns the keys of the others, nil
// where there is nothing to gain.
func judge(source string, blocks []*block) []string {
	anchors := 0
	for i, b := range blocks {
		root, problems := Parse(source, b.text)
		line := b.first
		if root == nil && strings.Contains(problems[0].Message, "unknown anchor") && anchors < maxAnchors {
			anchors++ // it may be in a block before
			if root, problems = Parse(source, without(blocks[:i+1])); root != nil && len(root.Fields) > 0 {
				root = &Node{Kind: Map, Fields: root.Fields[len(root.Fields)-1:]}
			}
			line = 0
		}
		if root != nil && len(root.Fields) == 1 && root.Fields[0].Key == b.key {
			b.texts = endsWithText(root)
			continue
		}
		p := diag.Problem{Pos: diag.Pos{Source: source, Line: 1}, Severity: diag.Error, Message: "not valid YAML"}
		if root == nil {
			p = problems[0]
		}
		b.open = strings.Contains(p.Message, "end of stream") || strings.Contains(p.Message, "did not find expected ',' or") ||
			strings.Contains(p.Message, "did not find expected node content")
		p.Pos.Line += line
		p.Message += ": the block " + b.key + " is left out, the rest of the file counts"
		b.wrong = &p
	}
	doubt(source, blocks)
	var left []string
	for _, b := range blocks {
		if b.wrong == nil && !slices.Contains(left, b.key) {
			left = append(left, b.key)
		}
	}
	return left
}

// doubt leaves out what may be a part of a broken block and only looks like a key: what
// stands between a quote or a bracket and the next broken block, where it may be
// closed; what stands between a text as after | and a line that has escaped from it; and
// the block before one whose lines can't be its own.
func doubt(source string, blocks []*block) {
	broken := func(b *block) bool { return b.wrong != nil }
	leave := func(from, to int, because string) {
		for _, b := range blocks[from:to] {
			if b.wrong == nil {
				b.wrong = &diag.Problem{
					Pos: diag.Pos{Source: source, Line: b.first + 1, Column: 1}, Severity: diag.Error,
					Message: "the block " + b.key + " is left out as well: it may belong to the block " + because + ", which is not valid YAML",
				}
			}
		}
	}
	bad := make([]bool, len(blocks))
	for i, b := range blocks {
		bad[i] = broken(b)
	}
	for i, b := range blocks {
		if !bad[i] {
			continue
		}
		if next := slices.Index(bad[i+1:], true); b.open && next >= 0 {
			leave(i+1, i+1+next, b.key)
		}
		if b.follows && i > 0 {
			leave(i-1, i, b.key)
		}
		for k := i - 1; b.stray && k >= 0; k-- {
			if blocks[k].texts {
				leave(k, i, b.key)
				break
			}
		}
	}
}

// endsWithText reports whether what stands last in a tree is a text as after | or >.
func endsWithText(n *Node) bool {
	for {
		switch {
		case len(n.Items) > 0:
			n = n.Items[len(n.Items)-1]
		case len(n.Fields) > 0:
			n = n.Fields[len(n.Fields)-1].Value
		default:
			return n.Block
		}
	}
}

// without returns the text of the blocks that are not left out, each on its lines.
func without(blocks []*block) []byte {
	var out bytes.Buffer
	number := 0
	for _, b := range blocks {
		if b.wrong != nil {
			continue
		}
		out.WriteString(strings.Repeat("#\n", b.first-number))
		out.Write(b.text)
		number = b.last
	}
	return out.Bytes()
}
