// Package compare compares two sets of configs: their values, and the results of their
// steps on the node.
package compare

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/mask"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/stage"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// Change is a value or an object on the node that differs. Before or After is "" where
// it is missing on that side. Secrets are masked.
type Change struct {
	Key    string `json:"key"` // a dotted key, or a path
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	Origin string `json:"origin"` // file:line, of After where there is one
}

// Result is the list of all differences.
type Result struct {
	Values []Change `json:"values"`
	Files  []Change `json:"files"` // files and other results of steps: see stage.Target
}

// None reports whether nothing differs.
func (r Result) None() bool { return len(r.Values)+len(r.Files) == 0 }

// Collections compares two sets of configs, and the results of their steps when they
// are filled with fill.
func Collections(before, after *source.Collection, fill stage.Fill) Result {
	a, _ := before.Merged()
	b, _ := after.Merged()
	return Result{Values: values(a, b), Files: files(before, after, fill)}
}

// leaf is a value with its place.
type leaf struct{ text, origin string }

// values compares two merged configs by dotted keys. It reports that a secret changed
// without showing it.
func values(before, after *tree.Node) []Change {
	a, b := map[string]leaf{}, map[string]leaf{}
	leaves(before, mask.Tree(before), "", a)
	leaves(after, mask.Tree(after), "", b)
	return changes(a, b)
}

// leaves flattens a tree. A truncated digest distinguishes masked values; it is never
// printed.
func leaves(n, masked *tree.Node, key string, into map[string]leaf) {
	switch {
	case n.Kind == tree.Map && len(n.Fields) > 0:
		for i, f := range n.Fields {
			leaves(f.Value, masked.Fields[i].Value, join(key, f.Key), into)
		}
	case n.Kind == tree.List && len(n.Items) > 0:
		for i, item := range n.Items {
			leaves(item, masked.Items[i], fmt.Sprintf("%s.%d", key, i), into)
		}
	default:
		text := masked.Text
		if n.Kind == tree.Null {
			text = "null"
		}
		if masked.Text != n.Text {
			text += separator + digest(n.Text)
		}
		if key != "" {
			into[key] = leaf{text, n.Pos.FileLine()}
		}
	}
}

func join(key, name string) string {
	if strings.ContainsAny(name, ".[]\"") {
		name = `"` + name + `"`
	}
	if key == "" {
		return name
	}
	return key + "." + name
}

// separator precedes the digest in a compared text. It can't occur in a config.
const separator = "\x00"

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func visible(text string) string {
	text, _, _ = strings.Cut(text, separator)
	return text
}

// changes compares by key, in the order of keys.
func changes(a, b map[string]leaf) []Change {
	list := []Change{}
	keys := slices.Sorted(maps.Keys(a))
	for key := range b {
		if _, both := a[key]; !both {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		before, hadIt := a[key]
		after, hasIt := b[key]
		if hadIt == hasIt && before.text == after.text {
			continue
		}
		c := Change{Key: key, Before: visible(before.text), After: visible(after.text), Origin: after.origin}
		if !hasIt {
			c.Origin = before.origin
		}
		list = append(list, c)
	}
	return list
}

// files compares the results of the steps of all stages of a boot, as far as the
// configs determine them: conditions and commands may have other results.
func files(before, after *source.Collection, fill stage.Fill) []Change {
	fill.KeepCredentials = true
	a, b := stage.Pair(before, after, fill)
	list := changes(targets(a), targets(b))
	first, second := stage.Scripts(a), stage.Scripts(b)
	if !slices.Equal(first, second) && slices.Equal(slices.Sorted(slices.Values(first)), slices.Sorted(slices.Values(second))) {
		list = append(list, Change{Key: "order of commands", Before: "another", After: "changed"})
	}
	return list
}

func targets(plans []*stage.Plan) map[string]leaf {
	all := map[string]leaf{}
	for name, t := range stage.Targets(plans) {
		all[mask.Text(name)] = leaf{t.What + separator + t.Digest, t.Origin}
	}
	return all
}
