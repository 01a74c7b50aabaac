package provider

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// option is an option of K3s or k0s with all its values in order. One without a value
// is a switch that is on.
type option struct {
	name   string
	values []string
}

// switches are the options without values: a word after one is not its value.
var switches = strings.Fields(`alsologtostderr cluster-init cluster-reset debug disable-agent disable-apiserver
	disable-cloud-controller disable-controller-manager disable-default-registry-endpoint disable-etcd disable-helm-controller
	disable-kube-proxy disable-network-policy disable-scheduler docker egress-selector-mode-disabled embedded-registry enable-cloud-provider
	enable-k0s-cloud-provider enable-dynamic-config enable-metrics-scraper enable-worker enable-pprof etcd-disable-snapshots
	etcd-expose-metrics etcd-s3 etcd-s3-insecure etcd-s3-skip-ssl-verify etcd-snapshot-compress flannel-external-ip
	flannel-ipv6-masq no-taints prefer-bundled-bin protect-kernel-defaults rootless secrets-encryption selinux single
	supervisor-metrics verbose`)

// long maps short options of K3s to long ones.
var long = map[string]string{"d": "data-dir", "o": "write-kubeconfig", "s": "server", "t": "token"}

// arguments parses the items of args as Kairos' provider and systemd do: joined with
// blanks, split like a command line of a unit, without a leading name of the command.
// It returns the valid options and an error about other words.
func arguments(items []string, command string) (options []option, failed error) {
	words, failed := split(items)
	if len(words) > 0 && words[0] == command {
		words = words[1:]
	}
	for i := 0; i < len(words); i++ {
		word := words[i]
		name, value, given := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-"), "=")
		if word == "" || word[0] != '-' || !optionName.MatchString(name) {
			failed = errors.Join(failed, fmt.Errorf("%q is not an option, and is skipped", word))
			continue
		}
		if other := long[name]; other != "" && !strings.HasPrefix(word, "--") && command != "controller" && command != "worker" {
			name = other
		}
		takes := !slices.Contains(switches, name)
		if next := i + 1; !given && next < len(words) {
			follows := words[next] == "" || words[next][0] != '-' || words[next] == "-"
			if takes && follows || !takes && (words[next] == "true" || words[next] == "false") {
				i, value, given = next, words[next], true
			}
		}
		at := slices.IndexFunc(options, func(o option) bool { return o.name == name })
		if at < 0 {
			options = append(options, option{name: name})
			at = len(options) - 1
		}
		if given {
			options[at].values = append(options[at].values, value)
		}
	}
	return options, failed
}

// split splits the joined items or, where a quote is not closed, each valid item by
// itself.
func split(items []string) (list []string, failed error) {
	if list, err := words(strings.Join(items, " ")); err == nil {
		return list, nil
	}
	for _, item := range items {
		own, err := words(item)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%w: %q is skipped", err, item))
		}
		list = append(list, own...)
	}
	return list, failed
}

var optionName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

// words splits a command line as systemd.service(5) does: at blanks, with quotes around
// whole words or parts of them, C-style escapes, %% for % and $$ for $.
func words(line string) ([]string, error) {
	var list []string
	var word strings.Builder
	var quote rune
	open, escaped := false, false
	for _, r := range line {
		switch {
		case escaped:
			if other, ok := map[rune]rune{'n': '\n', 't': '\t', 's': ' ', 'r': '\r'}[r]; ok {
				r = other
			} else if !strings.ContainsRune(`\'" $%`, r) {
				word.WriteByte('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, open = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, open = r, true
		case strings.ContainsRune(" \t\n\r", r):
			if open {
				list = append(list, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteRune(r)
			open = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote %c is not closed", quote)
	}
	if open {
		list = append(list, word.String())
	}
	for i := range list {
		list[i] = strings.NewReplacer("%%", "%", "$$", "$").Replace(list[i])
	}
	return list, nil
}

// yamlOf returns options in the form of K3s' config file: several values of one option
// are a list, an option without a value is true.
func yamlOf(options []option) string {
	text := ""
	for _, o := range options {
		switch len(o.values) {
		case 0:
			text += o.name + ": true\n"
		case 1:
			text += o.name + ": " + scalar(o.values[0]) + "\n"
		default:
			text += o.name + ":\n"
			for _, value := range o.values {
				text += "- " + scalar(value) + "\n"
			}
		}
	}
	return text
}

var (
	plainText   = regexp.MustCompile(`^[A-Za-z0-9/][A-Za-z0-9./:=_-]*[A-Za-z0-9/]$|^[A-Za-z0-9]$`)
	plainNumber = regexp.MustCompile(`^(0|[1-9][0-9]{0,15})$`)
)

// scalar writes a value so that YAML reads it as the text that it is; numbers
// and switches may be what they are.
func scalar(value string) string {
	if value == "true" || value == "false" || plainNumber.MatchString(value) {
		return value
	}
	n, _ := tree.Parse("", []byte("a: "+value+"\n"))
	if plainText.MatchString(value) && n.Field("a") != nil && n.Field("a").Kind == tree.String && n.Field("a").Text == value {
		return value
	}
	return quote(value)
}

// commandLine returns options for ExecStart= of systemd.service(5). As everybody can
// read argv, it leaves out options with a credential and returns an error about them.
func commandLine(options []option) (line string, failed error) {
	for _, o := range options {
		values := o.values
		prefix := " --" + o.name
		if len(o.name) == 1 {
			prefix = " -" + o.name
		}
		if len(values) == 0 {
			line += prefix
		}
		for _, value := range values {
			if strings.Contains(value, "${credential:") {
				failed = errors.Join(failed, fmt.Errorf("--%s: everybody can read a program's arguments: give the credential by env, or by a file", o.name))
				continue
			}
			quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$", "\n", `\n`).Replace(value)
			if strings.ContainsAny(value, " \t\n'\"\\") {
				quoted = `"` + quoted + `"`
			}
			line += prefix + "=" + quoted
		}
	}
	return line, failed
}
