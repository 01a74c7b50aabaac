package schema

import (
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

func (m *Mode) decode(n *tree.Node, name string, problems *diag.List) {
	var bits int64
	var err error
	if n.Kind == tree.String {
		bits, err = strconv.ParseInt(strings.TrimPrefix(n.Text, "0o"), 8, 64)
	} else {
		var ok bool
		if bits, ok = n.Int(); !ok {
			err = strconv.ErrSyntax
		}
	}
	if !expect(n, err == nil && bits >= 0 && bits <= 0o7777, "an octal number like 0644", name, problems) {
		return
	}
	*m = Mode{Set: true, Bits: int(bits)}
	if octal, err := strconv.ParseInt(n.Text, 8, 64); n.Kind == tree.Int && err == nil && n.Text[0] != '0' && octal <= 0o7777 {
		problems.Warnf(n.Pos, "%s %s is a decimal number, 0%o in octal", name, n.Text, bits)
		problems.Hint("write 0%s if octal is meant", n.Text)
	}
}

// Owner is a user or a group, by number or by name.
type Owner struct {
	Set  bool
	ID   int
	Name string // "" when ID says it
}

func (o *Owner) decode(n *tree.Node, name string, problems *diag.List) {
	if !expect(n, n.Scalar() && n.Text != "", "a number or a name", name, problems) {
		return
	}
	if id, ok := n.Int(); ok {
		if expect(n, id >= 0 && id < 1<<32-1, "a number of a user or group", name, problems) {
			*o = Owner{Set: true, ID: int(id)}
		}
		return
	}
	*o = Owner{Set: true, Name: n.Text}
}

// Names is a list of names, or one string with commas, as cloud-init has it.
type Names []string

func (names *Names) decode(n *tree.Node, name string, problems *diag.List) {
	if n.Kind == tree.List {
		decode(n, (*[]string)(names), name, problems)
		return
	}
	if expect(n, n.Scalar(), "a list of names", name, problems) {
		*names = splitNames(n.Text)
	}
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

// Secret is a string that no message repeats.
type Secret string

// String hides the secret from everything that prints.
func (Secret) String() string { return "(secret)" }

// Command is a line or a script for the shell, with where it stands.
type Command struct {
	Pos    diag.Pos
	Script string
}

// decode takes a string, or a list of words that are quoted for the shell, as
// in cloud-init's runcmd.
func (c *Command) decode(n *tree.Node, name string, problems *diag.List) {
	c.Pos = n.Pos
	if n.Kind == tree.List {
		var words []string
		decode(n, &words, name, problems)
		for i, w := range words {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		c.Script = strings.Join(words, " ")
		return
	}
	if !expect(n, n.Scalar(), "a command", name, problems) {
		if n.Kind == tree.Map {
			problems.Hint(`a command with ": " in it needs quotes, or "- |" and a line of its own`)
		}
		return
	}
	c.Script = n.Text
}

// Users is users by name: a map in a step, a list at the top of a config;
// both are taken in both places.
type Users []User

func (u *Users) decode(n *tree.Node, name string, problems *diag.List) {
	switch n.Kind {
	case tree.Map:
		for _, f := range n.Fields {
			user := User{Name: f.Key, Pos: f.Pos}
			ruleFor("account").hold(&tree.Node{Kind: tree.String, Pos: f.Pos}, f.Key, "the name of a user", problems)
			decode(f.Value, &user, name+"."+f.Key, problems)
			if user.Name != f.Key {
				problems.Errorf(f.Pos, "user %s has another name inside: %q", f.Key, user.Name)
			}
			*u = append(*u, user)
		}
	case tree.List:
		for _, item := range n.Items {
			if item.Kind == tree.String && item.Text == "default" {
				problems.Warnf(item.Pos, "there is no default user: left out")
				continue
			}
			var user User
			decode(item, &user, name, problems)
			if item.Kind == tree.Map && user.Name == "" {
				problems.Errorf(item.Pos, "%s: name is missing", name)
			}
			*u = append(*u, user)
		}
	default:
		expect(n, false, "a map or a list of users", name, problems)
	}
}

// Groups is groups to make sure of: cloud-init's list of names, of maps with
// the members (- name: [user, …]), or of maps with details.
type Groups []Group

func (g *Groups) decode(n *tree.Node, name string, problems *diag.List) {
	if n.Kind != tree.List {
		var names Names
		names.decode(n, name, problems)
		for _, group := range names {
			ruleFor("account").hold(n, group, name, problems)
			*g = append(*g, Group{Pos: n.Pos, Name: group})
		}
		return
	}
	for _, item := range n.Items {
		switch {
		case item.Scalar():
			ruleFor("account").hold(item, item.Text, name, problems)
			*g = append(*g, Group{Pos: item.Pos, Name: item.Text})
		case item.Kind == tree.Map && item.Field("name") == nil && len(item.Fields) == 1:
			group := Group{Pos: item.Pos, Name: item.Fields[0].Key}
			ruleFor("account").holdKeys(item, name, problems)
			decode(item.Fields[0].Value, &group.Members, name, problems)
			*g = append(*g, group)
		default:
			var group Group
			decode(item, &group, name, problems)
			*g = append(*g, group)
		}
	}
}

// secretNames are the keys whose values no message repeats.
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

// ParseConfigURL takes the digest off a URL: https://HOST/PATH#sha256=DIGEST.
func ParseConfigURL(text string) ConfigURL {
	url, fragment, _ := strings.Cut(text, "#")
	u := ConfigURL{URL: url}
	if digest, ok := strings.CutPrefix(fragment, "sha256="); ok {
		u.SHA256 = digest
	}
	return u
}

// decode takes a bare name, or a map with a name.
func (d *Dependency) decode(n *tree.Node, name string, problems *diag.List) {
	if n.Scalar() {
		d.Name = n.Text
		return
	}
	type plain Dependency // without this method
	decode(n, (*plain)(d), name, problems)
}
