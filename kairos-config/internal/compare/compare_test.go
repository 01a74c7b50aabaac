package compare

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/source"
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
	r := Collections(collection(before), collection(after))
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
	if again := Collections(collection(after), collection(after)); !again.None() {
		t.Errorf("no difference: %+v", again)
	}
}

func TestSecretsOfFiles(t *testing.T) {
	r := Collections(collection("#cloud-config\n"), collection("#cloud-config\nstages: {boot: [{users: {alice: {passwd: hunter2}}}]}\nk3s: {token: hunter2}\n"))
	if text := fmt.Sprintf("%+v", r); strings.Contains(text, "hunter2") || r.None() {
		t.Errorf("got %s", text)
	}
}
