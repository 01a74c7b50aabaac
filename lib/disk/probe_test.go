package disk

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestRecognise(t *testing.T) {
	put := func(at int, magic string) []byte { b := make([]byte, ProbeSize); copy(b[at:], magic); return b }
	for name, tc := range map[string]struct {
		head []byte
		want string
	}{
		"LUKS": {[]byte("LUKS\xba\xbe\x00\x02"), LUKSVolume}, "ext4": {put(1024+56, "\x53\xef"), Ext4},
		"xfs": {put(0, "XFSB"), XFS}, "btrfs": {put(64<<10+64, "_BHRfS_M"), Btrfs},
		"a volume before what it held": {append([]byte("LUKS\xba\xbe"), put(1024+56, "\x53\xef")[6:]...), LUKSVolume},
		"half a magic number":          {put(ProbeSize-4, "_BHR"), ""}, "nothing": {make([]byte, ProbeSize), ""}, "empty": {nil, ""},
	} {
		if got := Recognise(tc.head); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// TestProbe asks of what the programs make that are installed.
func TestProbe(t *testing.T) {
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for program, want := range map[string]string{"mkfs.ext4": Ext4, "mkfs.vfat": VFAT, "": ""} {
		device := filepath.Join(t.TempDir(), "disk")
		if err := errors.Join(os.WriteFile(device, nil, 0o600), os.Truncate(device, 8<<20)); err != nil {
			t.Fatal(err)
		}
		if program != "" {
			if _, err := exec.LookPath(program); err != nil {
				t.Log(err)
				continue
			}
			if out, err := exec.Command(program, device).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", program, err, out)
			}
		}
		if got, err := Probe(device); got != want || err != nil {
			t.Errorf("%s: %q, %v", program, got, err)
		}
	}
	if _, err := Probe(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

func FuzzRecognise(f *testing.F) {
	f.Add([]byte("LUKS\xba\xbe"))
	f.Add(append(make([]byte, 1024+56), 0x53, 0xef, 1))
	f.Fuzz(func(_ *testing.T, head []byte) { Recognise(head) })
}
