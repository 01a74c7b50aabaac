package schema

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// Mode is permissions, 0 to 07777. In YAML 0644 is an octal number; a string
// is octal too, as cloud-init writes it.
type Mode struct {
	Set  bool
	Bits int
}

func (m *Mode) decode(n *tree.Node, f *field, problems *diag.List) bool {
	bits, ok := n.Int()
	if n.Kind == tree.String {
		bits, ok = octal(n.Text)
	}
	if !m.set(bits, ok, n, f, problems) {
		return false
	}
	if meant, ok := octal(n.Text); n.Kind == tree.Int && ok && n.Text[0] != '0' && meant <= 0o7777 {
		problems.Add(diag.Warnf(n.Pos, "%s %s is a decimal number, 0%o in octal", f.key, n.Text, bits).WithHint("write 0%s if octal is meant", n.Text))
	}
	return true
}

func (m *Mode) set(bits int64, ok bool, n *tree.Node, f *field, problems *diag.List) bool {
	if !expect(n, ok && bits >= 0 && bits <= 0o7777, "an octal number like 0644", f.key, problems) {
		return false
	}
	*m = Mode{Set: true, Bits: int(bits)}
	return true
}

// octal reads octal digits, with or without the 0 or 0o before them.
func octal(text string) (int64, bool) {
	bits, err := strconv.ParseInt(strings.TrimPrefix(text, "0o"), 8, 64)
	return bits, err == nil
}

// OctalMode is permissions in write_files: octal digits, with quotes or without,
// as in cloud-init, which takes 755 for 0755.
type OctalMode struct{ Mode }

func (m *OctalMode) decode(n *tree.Node, f *field, problems *diag.List) bool {
	if n.Kind != tree.Int && n.Kind != tree.String {
		return m.Mode.decode(n, f, problems)
	}
	bits, ok := octal(n.Text)
	return m.set(bits, ok, n, f, problems)
}

// Owner is a user or a group, by number or by name.
type Owner struct {
	Set  bool
	ID   int
	Name string // "" when ID says it
}

func (o *Owner) decode(n *tree.Node, f *field, problems *diag.List) bool {
	if n.Scalar() && n.Text == "" {
		return true
	}
	if !expect(n, n.Scalar(), "a number or a name", f.key, problems) {
		return false
	}
	if id, ok := n.Int(); ok {
		if !expect(n, id >= 0 && id < 1<<32-1, "a number of a user or group", f.key, problems) {
			return false
		}
		*o = Owner{Set: true, ID: int(id)}
		return true
	}
	*o = Owner{Set: true, Name: n.Text}
	return true
}

// Names is a list of names, or one string with commas, as cloud-init has it.
type Names []string

func (names *Names) decode(n *tree.Node, f *field, problems *diag.List) bool {
	if n.Kind == tree.List {
		return decodeValue(n, reflect.ValueOf((*[]string)(names)).Elem(), f, problems)
	}
	if !expect(n, n.Scalar(), "a list of names", f.key, problems) {
		return false
	}
	for _, name := range splitNames(n.Text) {
		if f.fitsText(n, name, problems) {
			*names = append(*names, name)
		}
	}
	return true
}

// splitNames takes apart names with commas between them.
func splitNames(text string) []string {
	var names []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			names = append(names, part)
		}
	}
	return names
}

// Secret is a string that is never printed in messages.
type Secret string

// String returns a placeholder.
func (Secret) String() string { return "(secret)" }

// Command is a command line or script for the shell, with its position.
type Command struct {
	Pos    diag.Pos
	Script string
}

// decode takes a string, or a list of words that are quoted for the shell, as
// in cloud-init's runcmd.
func (c *Command) decode(n *tree.Node, f *field, problems *diag.List) bool {
	c.Pos = n.Pos
	if n.Kind == tree.List {
		words := make([]string, len(n.Items))
		for i, item := range n.Items {
			if !decode(item, &words[i], f.key, problems) {
				return false // the others alone would be another command
			}
			words[i] = "'" + strings.ReplaceAll(words[i], "'", `'\''`) + "'"
		}
		c.Script = strings.Join(words, " ")
		return true
	}
	if n.Kind == tree.Map {
		problems.Add(wrongType(n, "a command", f.key).WithHint(`a command with ": " in it needs quotes, or "- |" and a line of its own`))
		return false
	}
	if !expect(n, n.Scalar(), "a command", f.key, problems) {
		return false
	}
	c.Script = n.Text
	return true
}

// Users is users by name: a map in a step, a list at the top of a config;
// both are taken in both places.
type Users []User

func (u *Users) decode(n *tree.Node, f *field, problems *diag.List) bool {
	switch n.Kind {
	case tree.Map:
		for _, at := range n.Fields {
			user := User{Name: at.Key, Pos: at.Pos}
			ok := ruleFor("account").hold(&tree.Node{Kind: tree.String, Pos: at.Pos}, at.Key, "the name of a user", problems)
			ok = decode(at.Value, &user, f.key+"."+at.Key, problems) && ok
			if user.Name != "" && user.Name != at.Key {
				problems.Errorf(at.Pos, "user %s has another name in it: %q", at.Key, user.Name)
				ok = false
			}
			if user.Name = at.Key; ok {
				*u = append(*u, user)
			}
		}
	case tree.List:
		for _, item := range n.Items {
			if item.Kind == tree.String { // cloud-init: default, or names alone
				if slices.Contains(splitNames(item.Text), "default") {
					problems.Warnf(item.Pos, "there is no default user: skipped")
				}
				for _, name := range splitNames(item.Text) {
					if name != "default" && ruleFor("account").hold(item, name, "the name of a user", problems) {
						*u = append(*u, User{Name: name, Pos: item.Pos})
					}
				}
				continue
			}
			var user User
			before := len(*problems)
			if !decode(item, &user, f.key, problems) {
				continue
			}
			if user.Name == "" {
				if !(*problems)[before:].Failed() {
					problems.Errorf(item.Pos, "%s: name is missing", f.key)
				}
				continue
			}
			*u = append(*u, user)
		}
	default:
		return expect(n, false, "a map or a list of users", f.key, problems)
	}
	return true
}

// Groups is groups to make sure of: cloud-init's list of names, of maps with
// the members (- name: [user, …]), or of maps with details.
type Groups []Group

func (g *Groups) decode(n *tree.Node, f *field, problems *diag.List) bool {
	account := field{key: f.key, is: "account"}
	if n.Kind != tree.List {
		var names Names
		ok := names.decode(n, &account, problems)
		for _, group := range names {
			*g = append(*g, Group{Pos: n.Pos, Name: group})
		}
		return ok
	}
	for _, item := range n.Items {
		group := Group{Pos: item.Pos}
		var ok bool
		switch {
		case item.Spoiled:
		case item.Scalar():
			group.Name = item.Text
			ok = account.fits(item, problems)
		case item.Kind == tree.Map && item.Field("name") == nil && len(item.Fields) == 1:
			at := item.Fields[0]
			group.Name = at.Key
			keys := field{key: f.key, keyIs: "account"}
			members := field{key: at.Key, is: "account"}
			ok = keys.fitsKey(at, problems)
			ok = decodeValue(at.Value, reflect.ValueOf(&group.Members).Elem(), &members, problems) && ok
		default:
			ok = decode(item, &group, f.key, problems)
		}
		if ok && group.Name != "" {
			*g = append(*g, group)
		}
	}
	return true
}

// secretNames are the keys whose values are never printed in messages.
var secretNames = []string{"passwd", "password", "private_key", "network_token", "external_db", "env", "environment"}

// secretName reports whether a key, dotted or not, names a secret.
func secretName(key string) bool {
	for part := range strings.SplitSeq(key, ".") {
		if slices.Contains(secretNames, part) {
			return true
		}
	}
	return false
}

// ParseConfigURL splits the digest off a URL: https://HOST/PATH#sha256=DIGEST.
func ParseConfigURL(text string) ConfigURL {
	url, fragment, _ := strings.Cut(text, "#")
	u := ConfigURL{URL: url}
	if digest, ok := strings.CutPrefix(fragment, "sha256="); ok {
		u.SHA256 = digest
	}
	return u
}

// decode takes a bare name, or a map with a name.
func (d *Dependency) decode(n *tree.Node, f *field, problems *diag.List) bool {
	if n.Scalar() {
		d.Name = n.Text
		return n.Text != ""
	}
	type plain Dependency // without this method
	return decode(n, (*plain)(d), f.key, problems)
}
