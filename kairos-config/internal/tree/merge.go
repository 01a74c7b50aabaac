package tree

import (
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
)

// Merge lays the tree over on top of base and returns the result; both stay
// as they are. The rules are Kairos':
//
//   - maps merge key by key, however deep;
//   - a list of maps gains the maps of the later list at its end;
//   - other lists become the union, the earlier order kept;
//   - null empties what stands there, its type kept: "", 0, false, [], {};
//   - everything else is replaced by the later value.
//
// Where a map, a list and a scalar meet, the later one wins and problems says
// so; Kairos drops the whole merge there.
func Merge(base, over *Node, problems *diag.List) *Node {
	switch {
	case base == nil || base.Kind == Null:
		return over
	case over == nil:
		return base
	case over.Kind == Null:
		return empty(base, over.Pos)
	case base.Kind == Map && over.Kind == Map:
		return mergeMaps(base, over, problems)
	case base.Kind == List && over.Kind == List:
		return mergeLists(base, over)
	case base.Scalar() && over.Scalar():
		return over
	}
	problems.Warnf(over.Pos, "%v replaces %v of %s", over.Kind, base.Kind, base.Pos.FileLine())
	return over
}

func empty(n *Node, pos diag.Pos) *Node {
	e := &Node{Kind: n.Kind, Pos: pos}
	switch n.Kind {
	case Bool:
		e.Text = "false"
	case Int, Float:
		e.Text = "0"
	}
	return e
}

func mergeMaps(base, over *Node, problems *diag.List) *Node {
	merged := &Node{Kind: Map, Pos: over.Pos, Fields: make([]Field, len(base.Fields), len(base.Fields)+len(over.Fields))}
	copy(merged.Fields, base.Fields)
	index := make(map[string]int, len(merged.Fields))
	for i, f := range merged.Fields {
		index[f.Key] = i
	}
	for _, f := range over.Fields {
		i, there := index[f.Key]
		if !there {
			merged.Fields = append(merged.Fields, f)
			continue
		}
		old := merged.Fields[i].Value
		merged.Fields[i] = Field{Key: f.Key, Pos: f.Pos, Value: Merge(old, f.Value, problems)}
	}
	return merged
}

// mergeLists decides by the first value of the earlier list, as Kairos does.
func mergeLists(base, over *Node) *Node {
	if len(base.Items) == 0 {
		return over
	}
	merged := &Node{Kind: List, Pos: over.Pos, Items: make([]*Node, len(base.Items), len(base.Items)+len(over.Items))}
	copy(merged.Items, base.Items)
	if base.Items[0].Kind == Map {
		merged.Items = append(merged.Items, over.Items...)
		return merged
	}
	seen := make(map[string]bool, len(base.Items)+len(over.Items))
	for _, item := range base.Items {
		seen[fingerprint(item)] = true
	}
	for _, item := range over.Items {
		if print := fingerprint(item); !seen[print] {
			seen[print] = true
			merged.Items = append(merged.Items, item)
		}
	}
	return merged
}

// fingerprint is the same text for values of the same content and for no
// others.
func fingerprint(n *Node) string {
	if n.Scalar() {
		return strconv.Itoa(int(n.Kind)) + strconv.Quote(n.Text)
	}
	var b strings.Builder
	b.WriteByte('[')
	for _, item := range n.Items {
		b.WriteString(fingerprint(item))
	}
	for _, f := range n.Fields {
		b.WriteString(strconv.Quote(f.Key))
		b.WriteString(fingerprint(f.Value))
	}
	b.WriteByte(']')
	return b.String()
}
