package stage

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/facts"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/template"
)

// TestKinds are values as people write them.
func TestKinds(t *testing.T) {
	b64 := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	n := newNode(t, map[string]string{"1.yaml": `#cloud-config
ntp: {enabled: false, servers: [ntp.example.com]}
stages:
  boot:
  - modules: ["nbd max_part=8 nbds_max=2", loop, "nbd max_part=9"]
    systemctl: {overrides: [{service: a, content: ""}, {service: b, name: x}, {service: c, content: "[Unit]"}]}
    files:
    - {path: /etc/b64, encoding: b64, content: ` + b64("id {{ .MachineID }}\n") + `}
    - {path: /etc/others, encoding: b64, content: ` + b64("{{ range .Items }}") + `}
    - {path: /etc/nofact, encoding: b64, content: ` + b64("{{ .Values.product.nope }}") + `}
    - {path: /etc/binary, encoding: b64, content: ` + b64("\xff{{ .MachineID }}") + `}
    - {path: /etc/facts, content: "{{ .UUID }} {{ .ProtectedID }} {{ .Values.Random }}"}
`})
	n.Run(t.Context(), NewPlan(source.Collect(n.Root), "boot", Fill{Templates: template.New(facts.Sample)}))
	for name, want := range map[string]string{
		"etc/modprobe.d/kairos-config.conf":                   nativeHeader + "options nbd max_part=9\n",
		"etc/modules-load.d/kairos-config.conf":               nativeHeader + "nbd\nloop\n",
		"etc/systemd/system/a.service.d/override-kairos.conf": "",
		"etc/systemd/system/b.service.d/x.conf":               "",
		"etc/systemd/system/c.service.d/override-kairos.conf": "[Unit]\n",
		"etc/b64":    "id 0123456789abcdef0123456789abcdef\n",
		"etc/others": "{{ range .Items }}",
		"etc/binary": "\xff{{ .MachineID }}",
		"etc/facts":  facts.Sample().UUID + " " + facts.Sample().ProtectedID + " " + facts.Sample().Random,
	} {
		if got := n.read(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"etc/systemd/timesyncd.conf.d/60-kairos-config.conf", "etc/nofact"} {
		if got := n.read(name); !strings.Contains(got, "no such file") {
			t.Errorf("%s: %q", name, got)
		}
	}
}
