package eltorito

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

var when = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const mib = 1 << 20

func file(t *testing.T, im Image) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "cd")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(im.Size); err != nil {
		t.Fatal(err)
	}
	if err := Write(f, im); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestWrite(t *testing.T) {
	both := Image{Volume: "KAIROS_LIVE", Size: 64 * mib, Time: when, BIOS: 40*mib + mib/2, EFI: mib}
	name := file(t, both)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	const golden = "64ebf1f1c6484b62cf9bd0f17b8da2412f5094a5c36047ca2075682e0fad6736"
	if have := fmt.Sprintf("%x", sha256.Sum256(data)); have != golden {
		t.Errorf("the volume is another than it was: %s", have)
	}
	if !bytes.Equal(data[:16*Block], make([]byte, 16*Block)) || !bytes.Equal(data[End:], make([]byte, len(data)-End)) || End > mib {
		t.Error("something is written outside of the volume's blocks")
	}
	if _, err := exec.LookPath("xorriso"); err != nil {
		t.Skip("xorriso is missing")
	}
	for _, test := range []struct {
		image Image
		want  string
	}{
		{both, `(?s)El Torito catalog  : 19 .*img :   1  BIOS  y   none  0x0000  0x00      4       20736\n.*img :   2  UEFI  y   none  0x0000  0x00      0         512\n`},
		{Image{Volume: "KAIROS_LIVE", Size: 64 * mib, Time: when, EFI: mib}, `(?s)img :   1  UEFI  y   none  0x0000  0x00      0         512\n`},
		{Image{Volume: "KAIROS_LIVE", Size: 64 * mib, Time: when, BIOS: 2 * mib}, `(?s)img :   1  BIOS  y   none  0x0000  0x00      4        1024\n`},
	} {
		out, err := exec.Command("xorriso", "-indev", file(t, test.image), "-report_el_torito", "plain", "-toc").CombinedOutput()
		if err != nil || !regexp.MustCompile(test.want).Match(out) || !bytes.Contains(out, []byte("KAIROS_LIVE")) {
			t.Errorf("xorriso: %v\n%s\nwant %s", err, out, test.want)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "cd"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, im := range []Image{
		{Volume: "live", Size: mib, EFI: Block},
		{Volume: "LIVE", Size: mib},
		{Volume: "LIVE", Size: mib, EFI: 512},
		{Volume: "LIVE", Size: mib, EFI: mib},
		{Volume: "LIVE", Size: mib, EFI: -Block},
	} {
		if err := Write(f, im); err == nil {
			t.Errorf("%+v: no error", im)
		}
	}
}

func TestGRUB(t *testing.T) {
	le := binary.LittleEndian
	boot, mbr := make([]byte, 512), make([]byte, 512)
	for i := range boot {
		boot[i] = 0xc0
	}
	boot[510], boot[511] = 0x55, 0xaa
	copy(mbr[440:], "disk")
	mbr[446], mbr[510] = 0x80, 0x55
	if err := MBR(mbr, boot, 43*mib); err != nil {
		t.Fatal(err)
	}
	if le.Uint64(mbr[0x5c:]) != 43*mib/512 || mbr[0x64] != 0xff || mbr[0] != 0xc0 || mbr[439] != 0xc0 || string(mbr[440:444]) != "disk" || mbr[446] != 0x80 {
		t.Errorf("boot sector: % x", mbr)
	}
	core := make([]byte, 40000)
	le.PutUint16(core[0x1f4+8:], 78)
	if err := Core(core, 43*mib, mib/2); err != nil || le.Uint64(core[0x1f4:]) != 43*mib/512+1 || le.Uint16(core[0x1f4+8:]) != 78 {
		t.Errorf("core.img: %v, % x", err, core[0x1f4:512])
	}
	cd := make([]byte, 40001)
	le.PutUint32(cd[64:], 7)
	cd[40000] = 9
	if err := CD(cd, 43*mib+mib/2, mib/2); err != nil {
		t.Fatal(err)
	}
	at := uint32((43*mib + mib/2) / Block)
	want := 7 + 9 + uint32(at*4+5)
	if le.Uint64(cd[2548:]) != uint64(at*4+5) || le.Uint32(cd[8:]) != 16 || le.Uint32(cd[12:]) != at || le.Uint32(cd[16:]) != 40001 || le.Uint32(cd[20:]) != want {
		t.Errorf("El Torito image: % x, sum %d", cd[8:64], want)
	}
	for name, err := range map[string]error{
		"boot.img without signature":   MBR(mbr, make([]byte, 512), mib),
		"short boot.img":               MBR(mbr, boot[:511], mib),
		"core.img between two sectors": MBR(mbr, boot, mib+1),
		"too long core.img":            Core(core, mib, 39999),
		"core.img without a rest":      Core(make([]byte, 40000), mib, mib),
		"short core.img":               Core(core[:600], mib, mib),
		"short El Torito image":        CD(cd[:2000], mib, mib),
		"El Torito image off a block":  CD(cd, mib+512, mib),
		"too long El Torito image":     CD(cd, mib, 40000),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Programs come from images that others made.
func FuzzGRUB(f *testing.F) {
	f.Add(make([]byte, 512), int64(mib))
	f.Add(make([]byte, 3000), int64(mib))
	f.Fuzz(func(t *testing.T, program []byte, at int64) {
		mbr := make([]byte, 512)
		copy(mbr[440:], "disk and table")
		before := bytes.Clone(mbr[440:])
		if MBR(mbr, program, at) == nil && !bytes.Equal(mbr[440:], before) {
			t.Error("the partition table was changed")
		}
		length := len(program)
		for _, patch := range []func([]byte, int64, int64) error{Core, CD} {
			p := bytes.Clone(program)
			if patch(p, at, mib/2) == nil && (len(p) != length || length > mib/2) {
				t.Error("a program that has no room was accepted")
			}
		}
	})
}
