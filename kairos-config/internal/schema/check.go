package schema

import (
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
)

// Encodings that a file's content may have.
var Encodings = []string{"", "b64", "base64", "gz", "gzip", "gz+b64", "gz+base64", "gzip+b64", "gzip+base64"}

// check finds what is wrong with a step beyond the types of its values.
func (s *Step) check(problems *diag.List) {
	for _, d := range s.Directories {
		checkPath(d.Path, d.Pos, "directory", problems)
	}
	for _, f := range s.Files {
		checkPath(f.Path, f.Pos, "file", problems)
		if !slices.Contains(Encodings, f.Encoding) {
			problems.Errorf(f.Pos, "file %s: unknown encoding %q", f.Path, f.Encoding)
			problems.Hint("base64, gzip or gzip+base64")
		}
		checkTemplate(f.Content, f.Pos, problems)
	}
	for _, c := range s.Commands {
		checkTemplate(c.Script, c.Pos, problems)
	}
	checkTemplate(s.If, s.Pos, problems)
	s.checkNames(problems)
	if s.EnvironmentFile != "" {
		checkPath(s.EnvironmentFile, s.Pos, "environment_file", problems)
	}
	for _, e := range s.Environment {
		if !validVariable(e.Key) {
			problems.Errorf(e.Pos, "%q can't be the name of a variable", e.Key)
		}
	}
}

func (s *Step) checkNames(problems *diag.List) {
	if s.Hostname != "" && !validHostname(s.Hostname) {
		problems.Errorf(s.Pos, "%q is no host name: letters, digits, dashes and dots, 64 at most", s.Hostname)
		if strings.Contains(s.Hostname, "{{") {
			problems.Hint("templates are not supported yet")
		}
	}
	for _, u := range s.Users {
		if !validAccount(u.Name) {
			problems.Errorf(u.Pos, "%q can't be the name of a user", u.Name)
		}
		if u.Homedir != "" {
			checkPath(u.Homedir, u.Pos, "home directory", problems)
		}
		for _, value := range []string{u.GECOS, u.Homedir, u.Shell} {
			if strings.ContainsAny(value, ":\n\x00") {
				problems.Errorf(u.Pos, "user %s: %q may hold neither colon nor line break", u.Name, value)
			}
		}
		checkPassword(u, problems)
	}
	for _, g := range s.Groups {
		if !validAccount(g.Name) {
			problems.Errorf(g.Pos, "%q can't be the name of a group", g.Name)
		}
	}
}

// checkPassword accepts crypt(5) hashes and what locks an account.
func checkPassword(u User, problems *diag.List) {
	p := string(u.Passwd)
	switch {
	case p == "" || p == "!" || p == "*" || p == "!!" || p == "!*":
	case strings.HasPrefix(strings.TrimPrefix(p, "!"), "$") && strings.Count(p, "$") >= 3 && !strings.ContainsAny(p, ":\n\x00 "):
	default:
		problems.Errorf(u.Pos, "passwd of user %s is not a crypt(5) hash; plain passwords are not supported yet", u.Name)
		problems.Hint("mkpasswd -m yescrypt makes a hash")
	}
}

func checkPath(path string, pos diag.Pos, what string, problems *diag.List) {
	switch {
	case path == "":
		problems.Errorf(pos, "a %s without path", what)
	case path[0] != '/':
		problems.Errorf(pos, "%s %q must be an absolute path", what, path)
	case strings.ContainsRune(path, 0):
		problems.Errorf(pos, "%s path holds a NUL byte", what)
	}
}

// checkTemplate tells of the facts that Kairos would put into a text.
func checkTemplate(text string, pos diag.Pos, problems *diag.List) {
	if strings.Contains(text, "{{") && (strings.Contains(text, ".Values") || strings.Contains(text, ".MachineID") || strings.Contains(text, ".Random")) {
		problems.Warnf(pos, "templates are not supported yet: {{ }} stays as it is")
	}
}

// validHostname follows hostname(7), with systemd's limit of 64 bytes.
func validHostname(name string) bool {
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

// validAccount is useradd's rule with upper case and dots allowed, which
// systemd calls relaxed: https://systemd.io/USER_NAMES.
func validAccount(name string) bool {
	if name == "" || len(name) > 31 || name[0] == '-' || name == "." || name == ".." {
		return false
	}
	digits := strings.Trim(name, "0123456789") == ""
	return !digits && only(name, "-_.")
}

func validVariable(name string) bool {
	return name != "" && only(name, "_") && (name[0] < '0' || name[0] > '9')
}

// only reports whether a word is made of ASCII letters, digits and more.
func only(word, more string) bool {
	for _, r := range word {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && !strings.ContainsRune(more, r) {
			return false
		}
	}
	return true
}
