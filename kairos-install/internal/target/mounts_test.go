package target

import (
	"strings"
	"testing"
)

func TestParseMountsRefusesGarbage(t *testing.T) {
	for _, line := range []string{"", "1 2 3", "20 1 0:1 / / rw - ", "20 1 0:1 / / rw shared:1 ext4"} {
		if _, err := parseMounts(strings.NewReader(line + "\n")); err == nil {
			t.Errorf("%q was taken for a mount", line)
		}
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`a\040b`: "a b", `a\134040`: `a\040`, `a\04`: `a\04`, `\011`: "\t", `plain`: "plain"} {
		if got := unescape(in); got != want {
			t.Errorf("unescape(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n")
	f.Add("20 1 0:40 / /a\\040b rw - btrfs /dev/sda1 rw\n")
	f.Fuzz(func(t *testing.T, s string) {
		mounts, err := parseMounts(strings.NewReader(s))
		if err != nil {
			return
		}
		for _, m := range mounts {
			if m.dev == "" || m.point == "" || m.fstype == "" {
				t.Errorf("%q gave %+v", s, m)
			}
		}
	})
}
