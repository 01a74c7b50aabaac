package schema

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/spell"
)

// rule is a rule for a text, with a name for use in tags.
type rule struct {
	what    string            // for messages: "must be …"
	ok      func(string) bool // nil: see words
	pattern string            // for editors: what ok says, or a part of it
	words   []string          // the only allowed words
}

var rules = map[string]rule{
	"path":        {what: "an absolute path", ok: absolute, pattern: `^/`},
	"accountpath": {what: "an absolute path without colons", ok: accountPath, pattern: `^/[^:]*$`},
	"filename":    {what: "the name of a file, without slashes", ok: fileName, pattern: `^[^/]+$`},
	"hostname":    {what: "a host name: letters, digits, dashes and dots, 64 at most", ok: hostname},
	"account":     {what: "a name of an account: letters, digits, dots, dashes and underscores, 31 at most", ok: account},
	"accountid":   {what: "a name or a number of an account", ok: func(s string) bool { return account(s) || id(s) }},
	"id":          {what: "a number of an account", ok: id, pattern: `^[0-9]+$`},
	"variable":    {what: "a name of a variable: letters, digits and underscores", ok: variable, pattern: `^[A-Za-z_][A-Za-z0-9_]*$`},
	"assignment":  {what: "NAME=VALUE", ok: assignment, pattern: `^[A-Za-z_][A-Za-z0-9_]*=`},
	"gecos":       {what: "a text without colons and line breaks", ok: func(s string) bool { return !strings.ContainsAny(s, ":\n\x00") }, pattern: `^[^:\n]*$`},
	"oneline":     {what: "one line", ok: func(s string) bool { return !strings.ContainsAny(strings.TrimRight(s, "\n"), "\n\x00") }},
	"word":        {what: "one word", ok: func(s string) bool { return !strings.ContainsAny(s, " \t\r\n\x00") }, pattern: `^\S*$`},
	"module":      {what: "the name of a module, with its parameters behind it", ok: module, pattern: `^[A-Za-z0-9_][A-Za-z0-9_-]*( .*)?$`},
	"label":       {what: "a label: 36 characters at most, no slash", ok: label, pattern: `^[^/]{0,36}$`},
	"regexp":      {what: "a regular expression", ok: func(s string) bool { _, err := regexp.Compile(s); return err == nil }},
	"url":         {what: "a URL with https:// or http://", ok: webURL, pattern: `^https?://.`},
	"sha256":      {what: "a SHA-256 digest: 64 hex digits", ok: sha256, pattern: `^(sha256:)?[0-9a-fA-F]{64}$`},
	"nameserver":  {what: "an IP address", ok: nameserver},
	"device":      {what: "auto, a device like /dev/sda, or script:///PROGRAM", ok: func(s string) bool { return s == "auto" || absolute(s) || script(s) }, pattern: `^(auto|/.*|script:///.*)$`},
	"devicepath":  {what: "an absolute path, or script:///PROGRAM", ok: func(s string) bool { return absolute(s) || script(s) }, pattern: `^(/|script:///)`},
	"firstboot":   {what: "a setting of systemd-firstboot(1): " + strings.Join(Firstboot, ", "), ok: func(s string) bool { return slices.Contains(Firstboot, FirstbootKey(s)) }},
	"bundle":      {what: "container:IMAGE, run:IMAGE or package:NAME", ok: bundle, pattern: `^(container|docker|oci|run|package):\S+$`},
	"provider":    {what: "a datasource", words: Providers},
}

// ruleFor returns the rule with a name. It panics for an unknown name, which is a
// mistake in the tags.
func ruleFor(name string) rule {
	r, ok := rules[name]
	if !ok {
		panic("schema: no rule " + name)
	}
	return r
}

// hold reports whether a text follows the rule, and adds an error if not. Empty texts
// set nothing and pass.
func (r rule) hold(n *tree.Node, text, name string, problems *diag.List) bool {
	if text == "" || credential(text) || r.ok != nil && r.ok(text) || slices.Contains(r.words, text) {
		return true
	}
	p := diag.Errorf(n.Pos, "%s must be %s", name, r.what)
	if !secretName(name) {
		p.Message += ", not " + quoted(text, n, name)
	}
	if meant := spell.Closest(text, r.words); meant != "" {
		p = p.WithHint("did you mean %q?", meant)
	} else if r.words != nil {
		p = p.WithHint("one of %s", strings.TrimPrefix(strings.Join(r.words, ", "), ", "))
	}
	problems.Add(p)
	return false
}

// credential reports whether a text contains a credential, whose value only the node
// has: ${credential:NAME}.
func credential(text string) bool { return strings.Contains(text, "${credential:") }

func absolute(s string) bool    { return s[0] == '/' && !strings.ContainsRune(s, 0) }
func accountPath(s string) bool { return absolute(s) && !strings.ContainsAny(s, ":\n") }
func fileName(s string) bool    { return s != "." && s != ".." && !strings.ContainsAny(s, "/\x00\n") }

// module is a kernel module, with parameters behind it.
func module(s string) bool {
	words := strings.Fields(s)
	return len(words) > 0 && only(words[0], "-_") && words[0][0] != '-' && !strings.ContainsAny(s, "\n\x00")
}

func label(s string) bool { return len([]rune(s)) <= 36 && !strings.ContainsAny(s, "/\n\x00") }

// hostname follows hostname(7), with systemd's limit of 64 bytes.
func hostname(name string) bool {
	if len(name) > 64 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' || !only(label, "-_") {
			return false
		}
	}
	return true
}

// account is useradd's rule with upper case and dots allowed, which systemd
// calls relaxed: https://systemd.io/USER_NAMES.
func account(name string) bool {
	if len(name) > 31 || name[0] == '-' || name == "." || name == ".." {
		return false
	}
	digits := strings.Trim(name, "0123456789") == ""
	return !digits && only(name, "-_.")
}

// id matches a number for uid_t and gid_t; the largest one means none.
func id(s string) bool {
	n, err := strconv.ParseUint(s, 10, 32)
	return err == nil && n < 1<<32-1
}

func variable(name string) bool { return only(name, "_") && (name[0] < '0' || name[0] > '9') }

func assignment(s string) bool {
	name, _, ok := strings.Cut(s, "=")
	return ok && name != "" && variable(name)
}

func bundle(s string) bool {
	kind, image, _ := strings.Cut(s, ":")
	return slices.Contains([]string{"container", "docker", "oci", "run", "package"}, kind) && strings.Trim(image, "/") != "" && !strings.ContainsAny(image, " \t\r\n\x00")
}

// script reports whether a device is to be named by a program: script:///PROGRAM
// ARGUMENTS.
func script(s string) bool {
	program, ok := strings.CutPrefix(s, "script://")
	return ok && len(program) > 1 && program[0] == '/' && !strings.ContainsAny(program, "\n\x00")
}

func webURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}

func sha256(s string) bool {
	s = strings.TrimPrefix(s, "sha256:")
	return len(s) == 64 && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

// nameserver matches an address as in resolved.conf(5): ADDRESS:PORT%INTERFACE#NAME.
func nameserver(s string) bool {
	s, _, _ = strings.Cut(s, "#")
	s, _, _ = strings.Cut(s, "%")
	if _, err := netip.ParseAddrPort(s); err == nil {
		return true
	}
	_, err := netip.ParseAddr(s)
	return err == nil
}

// only reports whether a word consists of ASCII letters, digits and more.
func only(word, more string) bool {
	for _, r := range word {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && !strings.ContainsRune(more, r) {
			return false
		}
	}
	return true
}

// check refuses passwords that crypt(5) can't read, and warns about plain ones. A user
// without a valid password still gets the keys.
func (u *User) check(n *tree.Node, problems *diag.List) bool {
	p := string(u.Passwd)
	at := n.Field("passwd")
	hash := strings.HasPrefix(strings.TrimLeft(p, "!"), "$")
	switch {
	case p == "" || strings.Trim(p, "!*") == "" || credential(p):
	case strings.ContainsAny(p, "\n\x00"), hash && (strings.Count(p, "$") < 3 || strings.ContainsAny(p, ": ")):
		problems.Add(diag.Errorf(at.Pos, "passwd of user %s is not a crypt(5) hash", u.Name).WithHint("mkpasswd -m yescrypt makes a hash"))
		u.Passwd = ""
	case !hash:
		problems.Add(diag.Warnf(at.Pos, "passwd of user %s is plain text, which everybody who can read this file learns", u.Name).
			WithHint("mkpasswd -m yescrypt makes a hash"))
	}
	return true
}
