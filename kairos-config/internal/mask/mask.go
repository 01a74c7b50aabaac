// Package mask masks secrets in configs. lib/mask recognizes secrets in texts.
package mask

import (
	"log/slog"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/mask"
)

// Mark replaces a secret.
const Mark = mask.Mark

// Text hides the secrets in a text.
func Text(s string) string { return mask.Text(s) }

// Tree returns a config with secrets masked: values of secret keys, values of options
// for secrets in a list, encoded contents, the arguments of the escrow's command, and
// secrets in texts (lib/mask). Origins stay.
func Tree(n *tree.Node) *tree.Node {
	masked := *n
	switch n.Kind {
	case tree.Map:
		masked.Fields = make([]tree.Field, len(n.Fields))
		for i, f := range n.Fields {
			f.Value = field(n, f)
			masked.Fields[i] = f
		}
	case tree.List:
		masked.Items = list(n.Items)
	case tree.String:
		masked.Text = mask.Text(n.Text)
	}
	return &masked
}

// field returns the value of a key of a map.
func field(n *tree.Node, f tree.Field) *tree.Node {
	encoded := n.Field("encoding")
	switch {
	case mask.Key(f.Key), mask.Value(f.Key) && f.Value.Scalar():
		return hide(f.Value)
	case f.Key == "content" && encoded != nil && encoded.Text != "" && encoded.Text != "text/plain":
		return hide(f.Value)
	case f.Key == "escrow" && f.Value.Kind == tree.Map:
		return escrow(f.Value)
	}
	return Tree(f.Value)
}

// escrow masks the arguments of a command.
func escrow(n *tree.Node) *tree.Node {
	masked := Tree(n)
	for i, f := range masked.Fields {
		if f.Key == "command" && f.Value.Kind == tree.List {
			command := *f.Value
			for k := range command.Items {
				if k > 0 {
					command.Items[k] = hide(command.Items[k])
				}
			}
			masked.Fields[i].Value = &command
		}
	}
	return masked
}

// list masks items; those that are the value of an option for a secret entirely.
func list(items []*tree.Node) []*tree.Node {
	masked := make([]*tree.Node, len(items))
	option := "" // the item before
	for i, item := range items {
		text := ""
		if item.Scalar() {
			text = item.Text
		}
		switch {
		case option == "":
			masked[i] = Tree(item)
		case mask.Option(option) && !strings.HasPrefix(text, "-"), option == "-t" && text != "": // K3s' short for --token
			masked[i] = hide(item)
		case option == "-u" || option == "-U" || option == "-p" || option == "-H" || option == "-w" || option == "--user" || option == "--header":
			masked[i] = behind(option, item)
		default:
			masked[i] = Tree(item)
		}
		option = text
	}
	return masked
}

// behind masks the value of an option that may be a secret: name:password, a password,
// a header.
func behind(option string, item *tree.Node) *tree.Node {
	const program = "sshpass " // a program whose -p is one
	masked := *item
	if item.Kind == tree.String {
		if text, ok := strings.CutPrefix(mask.Text(program+option+" "+item.Text), program+option+" "); ok {
			masked.Text = text
		} else {
			masked.Text = Mark
		}
	}
	return &masked
}

// Secret reports whether a key has a secret as its value, by its name.
func Secret(key string) bool { return mask.Value(key) }

// Error wraps an error and masks secrets in its text.
type Error struct{ Err error }

func (e Error) Error() string { return mask.Text(e.Err.Error()) }
func (e Error) Unwrap() error { return e.Err }

// Logger returns a logger that masks secrets.
func Logger(l *slog.Logger) *slog.Logger { return slog.New(handler{l.Handler()}) }

// hide masks a whole value, except its structure and emptiness.
func hide(n *tree.Node) *tree.Node {
	hidden := *n
	switch n.Kind {
	case tree.Null, tree.Bool:
	case tree.Map:
		hidden.Fields = make([]tree.Field, len(n.Fields))
		for i, f := range n.Fields {
			f.Value = hide(f.Value)
			hidden.Fields[i] = f
		}
	case tree.List:
		hidden.Items = make([]*tree.Node, len(n.Items))
		for i, item := range n.Items {
			hidden.Items[i] = hide(item)
		}
	default:
		if n.Text != "" {
			hidden.Kind, hidden.Text = tree.String, Mark
		}
	}
	return &hidden
}
