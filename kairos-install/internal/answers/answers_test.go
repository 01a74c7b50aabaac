package answers

import (
	"net/netip"
	"strings"
	"testing"
)

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9JDjQyYwE0T0hqP7m0sQ1V7q2v5Q0qzJ5cVx0s1n2u me@there"

func TestConfig(t *testing.T) {
	a := Answers{Hostname: "node-1", User: "ops", Key: key, Admins: "sudo", Network: &Static{
		Interface: "enp1s0", Address: netip.MustParsePrefix("192.0.2.7/24"), Gateway: netip.MustParseAddr("192.0.2.1"),
		DNS: []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")},
	}}
	got, err := a.Config()
	if err != nil {
		t.Fatal(err)
	}
	const want = `#cloud-config
# Written by kairos-install --interactive.
hostname: "node-1"
stages:
  initramfs:
  - name: The user of the installation
    users:
      "ops":
        shell: /bin/bash
        groups: ["sudo"]
        ssh_authorized_keys:
        - "` + key + `"
    files:
    - path: /etc/sudoers.d/ops
      permissions: "0440"
      content: "ops ALL=(ALL) NOPASSWD: ALL\n"
  - name: The network of the installation
    files:
    - path: /etc/systemd/network/10-kairos-install.network
      permissions: "0644"
      content: "[Match]\nName=enp1s0\n\n[Network]\nAddress=192.0.2.7/24\nGateway=192.0.2.1\nDNS=192.0.2.2\nDNS=2001:db8::2\n"
`
	if string(got) != want {
		t.Errorf("config:\n%s\nwant:\n%s", got, want)
	}
	a = Answers{User: "ops", Password: "$y$j9T$x$y", Admins: "wheel"}
	if got, err := a.Config(); err != nil || strings.Contains(string(got), "sudoers") || !strings.Contains(string(got), `passwd: "$y$j9T$x$y"`) {
		t.Errorf("with a password: %s, %v", got, err)
	}
	if !(Answers{Key: key}).Empty() || a.Empty() {
		t.Error("empty")
	}
}

func TestChecks(t *testing.T) {
	for _, c := range []struct {
		check func(string) error
		text  string
		good  bool
	}{
		{CheckUser, "ops", true}, {CheckUser, "_a-1", true}, {CheckUser, "root", false}, {CheckUser, "Ops", false}, {CheckUser, "a b", false},
		{CheckUser, strings.Repeat("a", 33), false}, {CheckUser, "a\n", false}, {CheckUser, "../x", false},
		{CheckHostname, "node-1.example.org", true}, {CheckHostname, "-a", false}, {CheckHostname, "a_b", false}, {CheckHostname, "", false},
		{CheckKey, key, true}, {CheckKey, "github:octocat", true}, {CheckKey, "github:a/b", false}, {CheckKey, "ssh-ed25519", false},
		{CheckKey, strings.Replace(key, "ssh-ed25519", "ssh-rsa", 1), false}, {CheckKey, "ssh-ed25519 AAAA me", false}, {CheckKey, key + "\n" + key, false},
	} {
		if err := c.check(c.text); (err == nil) != c.good {
			t.Errorf("%q: %v", c.text, err)
		}
	}
	if got := Admins("root:x:0:\nwheel:x:10:\n"); got != "wheel" {
		t.Errorf("admins %q", got)
	}
	if all, err := ParseDNS("192.0.2.1, 192.0.2.2 ::1"); err != nil || len(all) != 3 {
		t.Errorf("%v, %v", all, err)
	}
}
