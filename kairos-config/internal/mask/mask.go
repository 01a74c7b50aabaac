// Package mask hides the secrets of a config from what is shown.
package mask

import (
	"regexp"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// Mark stands where a secret was.
const Mark = "(secret)"

// words in the name of a key say that its value is a secret.
var words = []string{
	"passwd", "password", "passphrase", "token", "secret", "private_key", "privatekey", "private-key",
	"apikey", "api_key", "api-key", "credential", "external_db", "datastore_endpoint", "preshared", "psk",
}

// exceptions hold a word without being secret.
var exceptions = []string{"lock_passwd"}

// Tree returns a config without its secrets: the values of keys that are
// named for one, and the right sides of NAME=secret and --name=secret in
// strings. Origins stay.
func Tree(n *tree.Node) *tree.Node {
	masked := *n
	switch n.Kind {
	case tree.Map:
		masked.Fields = make([]tree.Field, len(n.Fields))
		for i, f := range n.Fields {
			if Secret(f.Key) {
				f.Value = hide(f.Value)
			} else {
				f.Value = Tree(f.Value)
			}
			masked.Fields[i] = f
		}
	case tree.List:
		masked.Items = make([]*tree.Node, len(n.Items))
		for i, item := range n.Items {
			masked.Items[i] = Tree(item)
		}
	case tree.String:
		masked.Text = Text(n.Text)
	}
	return &masked
}

// Secret reports whether a key is named for a secret.
func Secret(key string) bool {
	key = strings.ToLower(key)
	for _, e := range exceptions {
		if key == e {
			return false
		}
	}
	for _, w := range words {
		if strings.Contains(key, w) {
			return true
		}
	}
	return false
}

// hide hides all of a value but its shape, and that it is empty.
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

// setting is a line that gives a name a value, as in most config files and
// scripts, within the content of files.
var setting = regexp.MustCompile(`(?m)^([ \t]*(?:- )?(?:export )?["']?)([A-Za-z0-9_.-]+)(["']?[ \t]*[=:][ \t]*)(\S.*)$`)

// pem is a private key.
var pem = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`)

// Text hides the secrets in a string of any number of lines.
func Text(s string) string {
	if strings.Contains(s, "PRIVATE KEY") {
		s = pem.ReplaceAllLiteralString(s, Mark)
	}
	s = line(s)
	if !strings.ContainsAny(s, "=:") {
		return s
	}
	return setting.ReplaceAllStringFunc(s, func(found string) string {
		part := setting.FindStringSubmatch(found)
		if !Secret(part[2]) || strings.HasPrefix(part[4], "|") || strings.HasPrefix(part[4], ">") {
			return found
		}
		return part[1] + part[2] + part[3] + Mark
	})
}

// line hides the secrets in a string: the values of assignments to names of
// secrets, word by word, and passwords in URLs.
func line(s string) string {
	if !strings.ContainsAny(s, "=@") && !strings.Contains(s, "--") {
		return s
	}
	var out strings.Builder
	after := false // the word before was an option for a secret: --token VALUE
	for len(s) > 0 {
		end := strings.IndexAny(s, " \t\n")
		if end < 0 {
			end = len(s)
		}
		word := s[:end]
		switch name, value, assigned := strings.Cut(word, "="); {
		case after && word != "":
			out.WriteString(Mark)
			after = false
		case assigned && value != "" && Secret(name):
			out.WriteString(name + "=" + Mark)
		default:
			out.WriteString(url(word))
			after = strings.HasPrefix(word, "--") && !assigned && Secret(word)
		}
		if end < len(s) {
			out.WriteByte(s[end])
			end++
		}
		s = s[end:]
	}
	return out.String()
}

// url hides the password of scheme://user:password@host.
func url(word string) string {
	scheme, rest, ok := strings.Cut(word, "://")
	if !ok {
		return word
	}
	authority, _, _ := strings.Cut(rest, "/")
	at := strings.LastIndexByte(authority, '@')
	if at < 0 {
		return word
	}
	user, _, ok := strings.Cut(authority[:at], ":")
	if !ok {
		return word
	}
	return scheme + "://" + user + ":" + Mark + rest[at:]
}
