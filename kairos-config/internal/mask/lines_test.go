package mask

import (
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	const text = `#cloud-config
users:
- name: a
  passwd: hunter2
  shell: /bin/sh
- {name: b, passwd: hunter2, shell: x}
p2p:
  network_token: |
    hunter2
    hunter2

    hunter2
  role: x
k3s: {env: {K3S_TOKEN: hunter2}}
"password" : hunter2
token: [
  hunter2 ]
runcmd:
- tool --token hunter2 URL=https://u:hunter2@h/
- lock_passwd: true
  private_key: >-
    hunter2
: broken [
`
	lines := Lines(text)
	if got := strings.Join(lines, "\n"); strings.Contains(got, "hunter2") {
		t.Error(got)
	}
	for _, keep := range []string{"  passwd: (secret)", "  shell: /bin/sh", "- {name: b, passwd: (secret)", "  network_token: |", "  role: x", "- lock_passwd: true", ": broken ["} {
		found := false
		for _, l := range lines {
			found = found || l == keep
		}
		if !found {
			t.Errorf("no line %q in\n%s", keep, strings.Join(lines, "\n"))
		}
	}
}
