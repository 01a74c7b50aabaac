// Package answers makes a cloud-config of what somebody has answered at the console:
// who may log in, and the network.
package answers

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"text/template"
)

// Answers are what the config is made of.
type Answers struct {
	Hostname string // "" leaves that of the image
	User     string // "" adds nobody
	Password string // its hash, "" for none
	Key      string // SSH public key, or github:NAME, gitlab:NAME; "" for none
	Admins   string // the group whose members become root by their password
	Network  *Static
}

// Static is a network without DHCP.
type Static struct {
	Interface string
	Address   netip.Prefix
	Gateway   netip.Addr // invalid for none
	DNS       []netip.Addr
}

var (
	userName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$`)
	keyName  = regexp.MustCompile(`^(github|gitlab):[A-Za-z0-9_.-]+$`)
)

// CheckUser refuses a name that useradd(8) would refuse, and root.
func CheckUser(name string) error {
	if !userName.MatchString(name) || name == "root" {
		return errors.New("want lower-case letters, digits, - and _, 32 at most, and not root")
	}
	return nil
}

// CheckHostname refuses what is no name of a host.
func CheckHostname(name string) error {
	if !hostName.MatchString(name) {
		return errors.New("want letters, digits, - and dots, 64 at most")
	}
	return nil
}

// CheckKey refuses what is no SSH public key and no name of somebody who has some.
func CheckKey(key string) error {
	if keyName.MatchString(key) {
		return nil
	}
	fields := strings.Fields(key)
	if len(fields) < 2 || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("want a line as in id_ed25519.pub: ssh-ed25519 AAAA… NAME, or github:NAME")
	}
	blob, err := base64.StdEncoding.DecodeString(fields[1])
	// The blob begins with the length and the name of the key's kind (RFC 4253, 6.6).
	if n := len(fields[0]); err != nil || len(blob) < 4+n || string(blob[4:4+n]) != fields[0] {
		return fmt.Errorf("%.30s… is no SSH public key: it was cut off or changed", key)
	}
	return nil
}

// ParseDNS reads addresses with spaces or commas between them.
func ParseDNS(text string) (all []netip.Addr, err error) {
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' }) {
		a, err := netip.ParseAddr(word)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// Empty reports whether there is nothing to write.
func (a Answers) Empty() bool { return a.Hostname == "" && a.User == "" && a.Network == nil }

// Becomes reports how the user becomes root: by password where there is one.
func (a Answers) sudo() bool { return a.User != "" && a.Password == "" }

var document = template.Must(template.New("").Funcs(template.FuncMap{
	"quote": quote,
}).Parse(`#cloud-config
# Written by kairos-install --interactive.
{{with .Hostname}}hostname: {{quote .}}
{{end}}{{if or .User .Network}}stages:
  initramfs:
{{end}}{{if .User}}  - name: The user of the installation
    users:
      {{quote .User}}:
        shell: /bin/bash
{{with .Password}}        passwd: {{quote .}}
{{end}}{{with .Admins}}        groups: [{{quote .}}]
{{end}}{{with .Key}}        ssh_authorized_keys:
        - {{quote .}}
{{end}}{{if .Sudo}}    files:
    - path: /etc/sudoers.d/{{.User}}
      permissions: "0440"
      content: {{quote .Sudo}}
{{end}}{{end}}{{with .Network}}  - name: The network of the installation
    files:
    - path: /etc/systemd/network/10-kairos-install.network
      permissions: "0644"
      content: {{quote .Unit}}
{{end}}`))

// quote writes a text as a string of JSON, which YAML reads as it is.
func quote(text string) (string, error) {
	quoted, err := json.Marshal(text)
	return string(quoted), err
}

// Unit is the file of systemd.network(5).
func (s Static) Unit() string {
	lines := []string{"[Match]", "Name=" + s.Interface, "", "[Network]", "Address=" + s.Address.String()}
	if s.Gateway.IsValid() {
		lines = append(lines, "Gateway="+s.Gateway.String())
	}
	for _, d := range s.DNS {
		lines = append(lines, "DNS="+d.String())
	}
	return strings.Join(lines, "\n") + "\n"
}

// Config returns the cloud-config. Each answer has been checked.
func (a Answers) Config() ([]byte, error) {
	sudo := ""
	if a.sudo() {
		sudo = a.User + " ALL=(ALL) NOPASSWD: ALL\n"
	}
	var text strings.Builder
	err := document.Execute(&text, struct {
		Answers
		Sudo string
	}{a, sudo})
	return []byte(text.String()), err
}

// Admins returns the group of a group(5) file whose members administrate, "" for
// none.
func Admins(file string) string {
	var groups []string
	for line := range strings.Lines(file) {
		name, _, _ := strings.Cut(line, ":")
		groups = append(groups, name)
	}
	for _, name := range []string{"sudo", "wheel", "admin"} {
		if slices.Contains(groups, name) {
			return name
		}
	}
	return ""
}
