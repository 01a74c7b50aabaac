// Package mask hides secrets in text that leaves a program: configs that are
// shown, messages, output of other programs. It knows secrets by what stands
// before them (the name of a key, an option, a header) and by their own form
// (addresses with a login or a query, private keys, hashes, tokens).
package mask

import (
	"regexp"
	"slices"
	"strings"
)

// Mark stands where a secret was.
const Mark = "(secret)"

// words in a name say that all that it holds is secret.
var words = []string{
	"passwd", "password", "passphrase", "token", "secret", "private_key", "privatekey", "private-key",
	"apikey", "api_key", "api-key", "credential", "external_db", "datastore_endpoint", "datastore-endpoint", "preshared", "psk",
}

// parts of a name, between _, - and ., say that a value is secret.
var parts = []string{"pass", "pw", "pwd", "key", "auth", "authorization", "dsn", "cookie", "bearer", "jwt", "pin", "sas", "creds"}

// exceptions hold a word or part without being secret.
var exceptions = []string{
	"lock_passwd", "public_key", "public-key", "cosign-key", "host_key", "host-key", "authorized_key", "authorized-key",
	"ssh_pwauth", "ssh-key", "save-recovery-key", "primary_key", "pam_auth", "require_auth", "no-auth", "token-ttl", "server-auth",
}

// Key reports whether all beneath a key is secret, by its name.
func Key(name string) bool {
	name = strings.ToLower(name)
	if slices.Contains(exceptions, name) {
		return false
	}
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(name, w) })
}

// elsewhere ends the names of options whose values say where the secret is.
var elsewhere = []string{"-stdin", "-file", "-fd"}

// Value reports whether the text that a key has as its value is secret.
func Value(name string) bool {
	lower := strings.ToLower(strings.TrimLeft(name, "-"))
	if slices.Contains(exceptions, lower) ||
		strings.HasPrefix(name, "--") && slices.ContainsFunc(elsewhere, func(end string) bool { return strings.HasSuffix(lower, end) }) {
		return false
	}
	return Key(lower) || slices.ContainsFunc(strings.FieldsFunc(lower, func(r rune) bool { return r == '_' || r == '-' || r == '.' }),
		func(part string) bool { return slices.Contains(parts, part) })
}

// setting is a line that gives a name a value, as in most config files and
// scripts, within the content of files.
var setting = regexp.MustCompile(`(?m)^([ \t]*(?:- )?(?:export )?["']?)([A-Za-z0-9_.-]+)(["']?[ \t]*[=:][ \t]*)(\S.*)$`)

// pem is a private key.
var pem = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`)

// Forms of secrets, whatever stands before them. Group 1 stays.
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

// reference has a login before the registry of an image: user:password@host/name.
var reference = regexp.MustCompile(`(^|[\s"'/:])[A-Za-z0-9._%+-]+:[^\s/@"']+(@[A-Za-z0-9.-]+(?::[0-9]+)?/)`)

// inner is an assignment within a word or list: user=a,password=b.
var inner = regexp.MustCompile(`([A-Za-z0-9_.-]+)(=)("[^"\n]*"|'[^'\n]*'|[^\s,;&"']+)`)

// Text hides the secrets in a text of any number of lines.
func Text(s string) string {
	if !suspicious(s) {
		return s
	}
	return replace(setting, Message(s), 4)
}

// Message hides the secrets in what a program says: other than in Text, a name and
// a colon at the beginning say what it is about, and not that a value follows.
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

// suspicious reports whether a text can hold anything to hide: most can't.
func suspicious(s string) bool {
	return strings.ContainsAny(s, "=@:$?|") || strings.Contains(s, "-") || strings.Contains(s, "password") || strings.Contains(s, "<<") ||
		strings.Contains(s, "_")
}

// replace hides the group of a match whose group before it names a secret.
func replace(pattern *regexp.Regexp, s string, value int) string {
	return pattern.ReplaceAllStringFunc(s, func(found string) string {
		part := pattern.FindStringSubmatch(found)
		if !Value(part[value-2]) || part[value] == Mark || strings.HasPrefix(part[value], "|") || strings.HasPrefix(part[value], ">") || strings.HasPrefix(part[value], "${credential:") {
			return found
		}
		return strings.Join(part[1:value], "") + Mark
	})
}

// line hides the secrets in a string, word by word: the values of assignments to
// names of secrets, what stands behind an option for one, and what is secret in
// addresses.
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

// Option reports whether a word is an option whose value, a secret, is the next
// word.
func Option(word string) bool {
	return strings.HasPrefix(word, "--") && !strings.Contains(word, "=") && Value(strings.TrimRight(word, ":,;"))
}

// query is a parameter of an address.
var query = regexp.MustCompile(`([?&#;][A-Za-z0-9_.~%\[\]-]+=)[^(&#;\s"'<>)\]}]+`)

// login is the login of an address.
var login = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)([^/@\s"'?#]+)@`)

// URL hides what may be secret in the addresses of a text: the login, and the
// values of the query. The name alone stays where it is no secret, as in
// ssh://git@host.
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
