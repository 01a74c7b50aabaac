package compare

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/facts"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/stage"
	"github.com/kairos-io/toolkit/kairos-config/internal/template"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

func collection(configs ...string) *source.Collection {
	c := &source.Collection{}
	for i, text := range configs {
		c.Add(fmt.Sprintf("/oem/%d.yaml", i), []byte(text))
	}
	return c
}

const before = `#cloud-config
hostname: a
install: {device: auto, reboot: true}
k3s: {env: {TOKEN: hunter2}}
stages:
  boot:
  - name: s
    files: [{path: /etc/same, content: x}, {path: /etc/gone, content: x}, {path: /etc/other, content: hunter2}]
    users: {alice: {passwd: hunter2}}
`

const after = `#cloud-config
hostname: b
install: {device: auto}
k3s: {env: {TOKEN: hunter3}}
stages:
  boot:
  - name: s
    files: [{path: /etc/same, content: x}, {path: /etc/other, content: hunter3}, {path: /etc/new, content: x, permissions: 0600}]
    directories: [{path: /srv/d}]
    users: {alice: {passwd: hunter3}}
`

func TestCollections(t *testing.T) {
	r := Collections(collection(before), collection(after), stage.Fill{})
	var files []string
	for _, c := range r.Files {
		files = append(files, fmt.Sprintf("%s %t %t", c.Key, c.Before != "", c.After != ""))
	}
	want := "/etc/gone true false|/etc/hostname true true|/etc/new false true|/etc/other true true|/srv/d false true|user alice true true"
	if got := strings.Join(files, "|"); got != want {
		t.Errorf("files:\ngot  %s\nwant %s", got, want)
	}
	values := map[string]Change{}
	for _, c := range r.Values {
		values[c.Key] = c
	}
	if c := values["hostname"]; c.Before != "a" || c.After != "b" || c.Origin != "/oem/0.yaml:2" {
		t.Errorf("got %+v", c)
	}
	if c := values["install.reboot"]; c.Before != "true" || c.After != "" || c.Origin != "/oem/0.yaml:3" {
		t.Errorf("got %+v", c)
	}
	if c, told := values["k3s.env.TOKEN"]; !told || c.Before != c.After {
		t.Errorf("a secret that changed: %+v, %t", c, told)
	}
	if _, told := values["install.device"]; told {
		t.Error("what is the same is told")
	}
	if again := Collections(collection(after), collection(after), stage.Fill{}); !again.None() {
		t.Errorf("no difference: %+v", again)
	}
}

func TestSecretsOfFiles(t *testing.T) {
	r := Collections(collection("#cloud-config\n"), collection("#cloud-config\nstages: {boot: [{users: {alice: {passwd: hunter2}}}]}\nk3s: {token: hunter2}\n"), stage.Fill{})
	if text := fmt.Sprintf("%+v", r); strings.Contains(text, "hunter2") || r.None() {
		t.Errorf("got %s", text)
	}
}

// differ returns what a change of configs leaves otherwise on the node.
func differ(before, after []string, fill stage.Fill) string {
	var keys []string
	for _, c := range Collections(collection(before...), collection(after...), fill).Files {
		keys = append(keys, c.Key)
	}
	return strings.Join(keys, "|")
}

// TestLastWriterCounts: what differs is what the steps leave in the order in
// which they run, not what stands in the configs.
func TestLastWriterCounts(t *testing.T) {
	const head = "#cloud-config\n"
	step := func(stage, step string) string { return "stages: {" + stage + ": [{" + step + "}]}\n" }
	file := func(content string) string { return "files: [{path: /etc/f, content: " + content + "}]" }
	for name, c := range map[string]struct {
		before, after []string
		want          string
	}{
		"cloud-init comes first in its file": {
			[]string{head + "write_files: [{path: /etc/f, content: a}]\n" + step("boot", file("last"))},
			[]string{head + "write_files: [{path: /etc/f, content: b}]\n" + step("boot", file("last"))}, ""},
		"a step of the same file comes behind cloud-init": {
			[]string{head + "write_files: [{path: /etc/f, content: a}]\n" + step("boot", file("b"))},
			[]string{head + "write_files: [{path: /etc/f, content: a}]\n" + step("boot", file("c"))}, "/etc/f"},
		"after: turns two steps around": {
			[]string{"stages: {boot: [{name: x, " + file("a") + "}, {name: y, " + file("b") + "}]}"},
			[]string{"stages: {boot: [{name: x, after: [y], " + file("a") + "}, {name: y, " + file("b") + "}]}"}, "/etc/f"},
		"after: hides a change": {
			[]string{"stages: {boot: [{name: x, after: [y], " + file("a") + "}, {name: y, " + file("b") + "}]}"},
			[]string{"stages: {boot: [{name: x, after: [y], " + file("a") + "}, {name: y, " + file("c") + "}]}"}, ""},
		"a file comes behind a download": {
			[]string{step("boot", "downloads: [{path: /etc/f, url: 'https://a.example'}], "+file("a"))},
			[]string{step("boot", "downloads: [{path: /etc/f, url: 'https://b.example'}], "+file("a"))}, ""},
		"a file without a header": {
			[]string{step("boot", "sysctl: {net.ipv4.ip_forward: 0}")},
			[]string{step("boot", "sysctl: {net/ipv4/ip_forward: 1}")}, "sysctl net/ipv4/ip_forward"},
		"commands": {[]string{step("boot", "commands: [a]")}, []string{step("boot", "commands: [b]")}, "commands of steps without a name in /oem/0.yaml"},
		"the order of commands": {
			[]string{"stages: {boot: [{name: x, commands: [a]}, {name: y, commands: [b]}]}"},
			[]string{"stages: {boot: [{name: y, commands: [b]}, {name: x, commands: [a]}]}"}, "order of commands"},
		"a new step before others": {
			[]string{"stages: {boot: [{commands: [a]}]}"},
			[]string{"stages: {boot: [{files: [{path: /new}]}, {commands: [a]}]}"}, "/new"},
		"the last host name at the top counts": {
			[]string{head + "hostname: a\n", head + "hostname: z\n"}, []string{head + "hostname: b\n", head + "hostname: z\n"}, ""},
		"an earlier host name comes back": {
			[]string{head + "hostname: a\n", head + "hostname: z\n"}, []string{head + "hostname: a\n", head + "groups: []\n"}, "/etc/hostname"},
		"a step that can't run leaves nothing": {
			[]string{step("boot", file("a"))}, []string{step("boot", file("a")+", modules: {}")}, "/etc/f"},
		"a mode that a later step leaves open": {
			[]string{step("fs", "files: [{path: /etc/f, content: a, permissions: 0600}]"), step("boot", file("b"))},
			[]string{step("fs", "files: [{path: /etc/f, content: a, permissions: 0644}]"), step("boot", file("b"))}, "/etc/f"},
		"a condition":  {[]string{step("boot", file("a"))}, []string{step("boot", "if: 'false', "+file("a"))}, "/etc/f"},
		"a credential": {[]string{step("boot", file("'${credential:a}'"))}, []string{step("boot", file("'${credential:b}'"))}, "/etc/f"},
		"a template that comes out otherwise each time": {
			[]string{step("boot", file("'{{ randAlpha 20 }}'"))}, []string{step("boot", file("'{{ randAlpha 20 }}'"))}, ""},
		"ssh keys": {
			[]string{step("boot", "authorized_keys: {root: [ssh-ed25519 AAAA a]}")},
			[]string{step("boot", "authorized_keys: {root: [ssh-ed25519 AAAA b]}")}, "ssh keys of root"},
		"a failure that counts": {
			[]string{step("boot", "name: s, "+file("a"))}, []string{step("boot", "name: s, assess: required, "+file("a"))}, "step s"},
	} {
		if got := differ(c.before, c.after, stage.Fill{Templates: template.New(func() facts.Facts { return facts.Facts{} })}); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
		if got := differ(c.after, c.after, stage.Fill{}); got != "" {
			t.Errorf("%s: no difference: got %q", name, got)
		}
	}
}

// TestProvidersCount: what others make of a block differs with it.
func TestProvidersCount(t *testing.T) {
	provide := func(name string, merged *tree.Node) ([]source.Document, diag.List) {
		if block := merged.Field("k0s"); name == "boot" && block != nil {
			n, _ := tree.Parse("provider", []byte("stages: {boot: [{files: [{path: /etc/k0s, content: '"+block.Text+"'}]}]}"))
			return []source.Document{{Source: "provider", Root: n}}, nil
		}
		return nil, nil
	}
	const head = "#cloud-config\n"
	if got := differ([]string{head + "k0s: a\n"}, []string{head + "k0s: b\n"}, stage.Fill{Provide: provide}); got != "/etc/k0s" {
		t.Errorf("got %q", got)
	}
}
