package settings

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-install/internal/layout"
)

const mib = 1 << 20

func TestParse(t *testing.T) {
	for _, test := range []struct {
		name, json string
		want       Settings
	}{
		{"nothing", ``, Settings{}},
		{"null", `null`, Settings{}},
		{"what most configs have", `{"device":"auto","auto":true,"reboot":true}`, Settings{Device: "auto", Auto: true, Reboot: true}},
		{"both ends", `{"reboot":true,"poweroff":true}`, Settings{Reboot: true}},
		{"source", `{"source":"quay.io/x/y:1","system":{"uri":"oci:quay.io/other"}}`, Settings{Source: "quay.io/x/y:1"}},
		{"system.uri", `{"system":{"uri":"oci:quay.io/x/y:1"}}`, Settings{Source: "oci:quay.io/x/y:1"}},
		{"Kairos' archive", `{"source":"ocifile:/mnt/image.tar"}`, Settings{Source: "file:/mnt/image.tar"}},
		{"kernel arguments", `{"grub_options":{"extra_cmdline":"console=ttyS0,115200  quiet"}}`, Settings{Kargs: []string{"console=ttyS0,115200", "quiet"}}},
		{"partitions", `{"partitions":{"oem":{"size":128,"fs":"ext4"},"persistent":{"size":0,"fs":"btrfs"}},"extra-partitions":[{"name":"data","label":"DATA","size":100,"fs":"xfs"}]}`,
			Settings{Partitions: layout.Overrides{
				OEM: layout.Override{Size: 128 * mib, Format: "ext4"}, Persistent: layout.Override{Format: "btrfs"},
				Extra: []layout.Extra{{Name: "data", Label: "DATA", Size: 100 * mib, Format: "xfs"}},
			}}},
		{"encryption", `{"encrypted_partitions":["COS_OEM","COS_PERSISTENT"]}`, Settings{Encrypt: []string{"COS_OEM", "COS_PERSISTENT"}}},
		{"old names", `{"image":"docker:quay.io/x/y:1","system":{"uri":"oci:z"}}`, Settings{Source: "oci:z"}},
		{"image", `{"image":"docker:quay.io/x/y:1"}`, Settings{Source: "docker:quay.io/x/y:1"}},
		{"system.source", `{"system":{"source":"oci:quay.io/x/y:1","uri":"oci:old"},"recovery-system":{"source":"oci:r"}}`, Settings{Source: "oci:quay.io/x/y:1", Recovery: "oci:r"}},
		{"quotes", `{"grub_options":{"extra_cmdline":"cmd=\"x y x y z\" quiet"}}`, Settings{Kargs: []string{`cmd="x y x y z"`, "quiet"}}},
		{"the last takes the rest", `{"partitions":{"persistent":{"size":500}},"extra-partitions":[{"name":"big","size":0}]}`,
			Settings{Partitions: layout.Overrides{Persistent: layout.Override{Size: 500 * mib}, Extra: []layout.Extra{{Name: "big", Label: "big"}}}}},
		{"what is not used is said", `{"bundles":[],"tty":"x","grub_options":{"saved_entry":"x"},"system":{"size":4096},"no-format":false}`,
			Settings{Ignored: []string{"install.grub_options.saved_entry", "install.system.size", "install.tty"}}},
	} {
		got, err := Parse([]byte(test.json))
		if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", test.want) {
			t.Errorf("%s: %+v, %v\nwant %+v", test.name, got, err, test.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ json, want string }{
		{`{"device":7}`, "install.device: a number where another type is expected"},
		{`{"partitions":{"oem":{"size":"big"}}}`, "install.partitions.oem.size: a string"},
		{`["x"]`, "install: json: cannot unmarshal array"},
		{`{`, "install: unexpected end"},
		{`{"no-format":true}`, "install.no-format"},
		{`{"encrypted_partitions":["COS_PERSISTENT","COS_STATE"]}`, "COS_STATE can't be encrypted"},
		{`{"encrypted_partitions":["COS_OEM","COS_OEM"]}`, "COS_OEM is named twice"},
		{`{"encrypted_partitions":["COS_PERSISTENT"],"partitions":{"persistent":{"fs":"xfs"}}}`, "is ext4, not xfs"},
		{`{"partitions":{"state":{"fs":"xfs"}}}`, "install.partitions: partition state"},
		{`{"extra-partitions":[{"name":"a","size":1},{"name":"b","label":"a","size":1}]}`, "another partition has its label"},
		{`{"extra-partitions":[{"name":"COS_OEM","size":1}]}`, "another partition has its label"},
		{`{"extra-partitions":[{"name":"a"}]}`, "it needs a size"},
		{`{"partitions":{"persistent":{"size":5}},"extra-partitions":[{"name":"a"},{"name":"b","size":1}]}`, "only the last"},
		{`{"extra-partitions":[{"name":"a\nType=esp","size":1}]}`, "not a label"},
	} {
		if _, err := Parse([]byte(test.json)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.json, err, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"device":"auto","partitions":{"oem":{"size":64}},"extra-partitions":[{"name":"x","size":1}]}`))
	f.Add([]byte(`{"grub_options":{"extra_cmdline":"a b"},"system":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		if err := s.Partitions.Check(); err != nil {
			t.Errorf("accepted, but %v", err)
		}
	})
}
