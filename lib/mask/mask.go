// Package mask hides secrets in text that leaves a program: configs, messages, output
// of other programs. It recognizes secrets by the text before them (the name of a key,
// an option, a header) and by their form (URLs with credentials or a query, private
// keys, hashes, tokens).
package mask

import (
	"regexp"
	"slices"
	"strings"
)

// Mark replaces a secret.
const Mark = "(secret)"

// words are parts of a name that make everything beneath it secret.
var words = []string{
	"passwd", "password", "passphrase", "token", "secret", "private_key", "privatekey", "private-key",
	"apikey", "api_key", "api-key", "credential", "external_db", "datastore_endpoint", "datastore-endpoint", "preshared", "psk",
}

// parts are parts of a name, between _, - and ., that make its value secret.
var parts = []string{"pass", "pw", "pwd", "key", "auth", "authorization", "dsn", "cookie", "bearer", "jwt", "pin", "sas", "creds"}

// exceptions are names that contain one of words or parts without being secret.
var exceptions = []string{
	"lock_passwd", "public_key", "public-key", "cosign-key", "host_key", "host-key", "authorized_key", "authorized-key",
	"ssh_pwauth", "ssh-key", "save-recovery-key", "primary_key", "pam_auth", "require_auth", "no-auth", "token-ttl", "server-auth",
}

// Key reports whether everything beneath a key is secret, by its name.
func Key(name string) bool {
	name = strings.ToLower(name)
	if slices.Contains(exceptions, name) {
		return false
	}
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(name, w) })
}

// elsewhere are endings of the names of options whose values say where a secret is.
var elsewhere = []string{"-stdin", "-file", "-fd"}

// Value reports whether the text that is the value of a key is secret.
func Value(name string) bool {
	lower := strings.ToLower(strings.TrimLeft(name, "-"))
	if slices.Contains(exceptions, lower) ||
		strings.HasPrefix(name, "--") && slices.ContainsFunc(elsewhere, func(end string) bool { return strings.HasSuffix(lower, end) }) {
		return false
	}
	return Key(lower) || slices.ContainsFunc(strings.FieldsFunc(lower, func(r rune) bool { return r == '_' || r == '-' || r == '.' }),
		func(part string) bool { return slices.Contains(parts, part) })
}

// setting matches a line that assigns a value to a name, as in most configuration files
// and scripts.
var setting = regexp.MustCompile(`(?m)^([ \t]*(?:- )?(?:export )?["']?)([A-Za-z0-9_.-]+)(["']?[ \t]*[=:][ \t]*)(\S.*)$`)

// pem matches a private key in PEM.
var pem = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`)

// forms match secrets by their form, whatever stands before them. Group 1 is kept.
var forms = []*regexp.Regexp{
	// Headers of HTTP, to the end of the line or of the quotes.
	regexp.MustCompile(`(?i)\b((?:proxy-)?authorization[ \t]*:[ \t]*|(?:set-)?cookie[ \t]*:[ \t]*|x-[a-z-]*(?:token|key|auth|secret)[a-z-]*[ \t]*:[ \t]*)[^"'\n]+`),
	regexp.MustCompile(`(?i)\b((?:bearer|basic) )[A-Za-z0-9+/=._~-]{6,}`),
	// What a program gets by a pipe to read a password from.
	regexp.MustCompile(`\b((?:echo|printf)[ \t]+)[^|\n]+(\|[ \t]*(?:sudo )?(?:passwd|chpasswd|smbpasswd|cryptsetup|mkpasswd|[^|\n]*--?(?:password|passphrase|token)?-?(?:stdin|fd)\b))`),
	regexp.MustCompile(`((?:passwd|chpasswd|stdin)\b[^\n]*<<<?[ \t]*)[^\n]+`),
	// netrc(5).
	regexp.MustCompile(`(\blogin[ \t\n]+\S+[ \t\n]+(?:account[ \t\n]+\S+[ \t\n]+)?password[ \t\n]+)\S+`),
	regexp.MustCompile(`(\b(?:machine[ \t\n]+\S+|default)[ \t\n]+password[ \t\n]+)\S+`),
	// Options of programs: sshpass, mysql and their like, and name:password.
	regexp.MustCompile(`(\b(?:sshpass|mysql\w*|mariadb\w*|ldap\w+|smbclient)\b[^|;&\n]*?[ \t]-[pw][ \t]?)[^\s-][^\s]*`),
	regexp.MustCompile(`([ \t](?:-u|-U|--user|--proxy-user)[ =]?["']?[^\s:"'/]+:)[^\s"']+`),
	// Hashes of passwords, and tokens that say what they are.
	regexp.MustCompile(`()\$(?:1|2[abxy]?|5|6|7|y|gy)\$[A-Za-z0-9./$=,]+`),
	regexp.MustCompile(`()\bK1[01][A-Za-z0-9]+::\S+`),
	regexp.MustCompile(`()\b(?:gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|xox[abpr]-[\w-]{10,}|AKIA[A-Z0-9]{16}|hv[sb]\.[\w-]{16,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|AGE-SECRET-KEY-\w+)`),
}

// reference matches credentials before the registry of an image:
// user:password@host/name.
var reference = regexp.MustCompile(`(^|[\s"'/:])[A-Za-z0-9._%+-]+:[^\s/@"']+(@[A-Za-z0-9.-]+(?::[0-9]+)?/)`)

// inner matches an assignment within a word or list: user=a,password=b.
var inner = regexp.MustCompile(`([A-Za-z0-9_.-]+)(=)("[^"\n]*"|'[^'\n]*'|[^\s,;&"']+)`)

// Text hides the secrets in a text of several lines.
func Text(s string) string {
	if !suspicious(s) {
		return s
	}
	return replace(setting, Message(s), 4)
}

// Message hides the secrets in a message. Unlike in Text, a name and a colon at the
// beginning is the subject of the message, not a key with its value.
func Message(s string) string {
	if !suspicious(s) {
		return s
	}
	if strings.Contains(s, "PRIVATE KEY") {
		s = pem.ReplaceAllLiteralString(s, Mark)
	}
	for _, f := range forms {
		if !f.MatchString(s) {
			continue
		}
		with := "${1}" + Mark
		if f.NumSubexp() > 1 {
			with += " ${2}"
		}
		s = f.ReplaceAllString(s, with)
	}
	s = reference.ReplaceAllString(s, "${1}"+Mark+"${2}")
	s = line(s)
	return replace(inner, s, 3)
}

// suspicious reports whether a text can contain a secret, which is rare.
func suspicious(s string) bool {
	return strings.ContainsAny(s, "=@:$?|") || strings.Contains(s, "-") || strings.Contains(s, "password") || strings.Contains(s, "<<") ||
		strings.Contains(s, "_")
}

// replace hides one group of a match if the group before it is the name of a secret.
func replace(pattern *regexp.Regexp, s string, value int) string {
	return pattern.ReplaceAllStringFunc(s, func(found string) string {
		part := pattern.FindStringSubmatch(found)
		if !Value(part[value-2]) || part[value] == Mark || strings.HasPrefix(part[value], "|") || strings.HasPrefix(part[value], ">") || strings.HasPrefix(part[value], "${credential:") {
			return found
		}
		return strings.Join(part[1:value], "") + Mark
	})
}

// line hides the secrets in a line, word by word: values that are assigned to names of
// secrets, values of options for secrets, and secrets in URLs.
func line(s string) string {
	if !strings.ContainsAny(s, "=@?") && !strings.Contains(s, "--") {
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
		case after && word != "" && word != Mark:
			out.WriteString(Mark)
			after = false
		case assigned && value != "" && Value(name) && !strings.Contains(name, "://") && !strings.HasPrefix(value, "${credential:"):
			out.WriteString(name + "=" + Mark)
		default:
			out.WriteString(URL(word))
			after = Option(word)
		}
		if end < len(s) {
			out.WriteByte(s[end])
			end++
		}
		s = s[end:]
	}
	return out.String()
}

// Option reports whether a word is an option whose value is the next word and secret.
func Option(word string) bool {
	return strings.HasPrefix(word, "--") && !strings.Contains(word, "=") && Value(strings.TrimRight(word, ":,;"))
}

// query matches a parameter in the query of a URL.
var query = regexp.MustCompile(`([?&#;][A-Za-z0-9_.~%\[\]-]+=)[^(&#;\s"'<>)\]}]+`)

// login matches the credentials in a URL.
var login = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)([^/@\s"'?#]+)@`)

// URL hides the possible secrets in the URLs of a text: credentials, and the values of
// the query. It keeps a user name without password, as in ssh://git@host.
func URL(s string) string {
	if !strings.Contains(s, "://") {
		return s
	}
	s = login.ReplaceAllStringFunc(s, func(found string) string {
		part := login.FindStringSubmatch(found)
		if (strings.HasPrefix(part[1], "ssh") || strings.HasPrefix(part[1], "git+ssh") || strings.HasPrefix(part[1], "sftp")) && !strings.Contains(part[2], ":") {
			return found
		}
		return part[1] + Mark + "@"
	})
	return query.ReplaceAllStringFunc(s, func(found string) string {
		if strings.HasPrefix(found, "#sha256=") {
			return found
		}
		return query.FindStringSubmatch(found)[1] + Mark
	})
}
