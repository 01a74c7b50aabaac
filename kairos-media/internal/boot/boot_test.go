package boot

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/bls"
)

func tree(t *testing.T, names ...string) Code {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return Code{Dir: dir}
}

func TestCode(t *testing.T) {
	c := tree(t, "usr/lib/systemd/boot/efi/systemd-bootx64.efi", "usr/lib/systemd/boot/efi/systemd-bootaa64.efi",
		"usr/lib/systemd/boot/efi/systemd-bootaa64.efi.signed", "usr/lib/grub/i386-pc/boot.img", "usr/lib/grub/i386-pc/kernel.img")
	for architecture, want := range map[string][2]string{
		"amd64": {"systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"}, "arm64": {"systemd-bootaa64.efi.signed", "EFI/BOOT/BOOTAA64.EFI"},
	} {
		from, to, err := c.EFI(architecture)
		if err != nil || filepath.Base(from) != want[0] || to != want[1] {
			t.Errorf("%s: %s, %s, %v", architecture, from, to, err)
		}
	}
	for _, architecture := range []string{"386", "riscv64", "s390x"} {
		if _, _, err := c.EFI(architecture); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", architecture, err)
		}
	}
	if err := c.HasBIOS("amd64"); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "fat.mod is missing") {
		t.Errorf("GRUB without a module: %v", err)
	}
	if err := tree(t, "usr/lib/grub/i386-pc/boot.img", "usr/lib/grub/i386-pc/kernel.img", "usr/lib/grub/i386-pc/fat.mod").HasBIOS("amd64"); err != nil {
		t.Error(err)
	}
	if err := c.HasBIOS("arm64"); !errors.Is(err, ErrNone) {
		t.Errorf("BIOS on arm64: %v", err)
	}
}

// Kernel arguments of an image reach GRUB's parser, which must take them as they are.
func TestConfig(t *testing.T) {
	e := bls.Entry{
		Title: "It's $HOME; {x}", Linux: "/kairos/linux-1", Initrd: []string{"/kairos/initrd-1", "/kairos/more"},
		Options: `quiet "a=b c" x='y' $z ;reboot } { | & # console=ttyS0,115200`,
	}
	have := string(Config(e))
	for _, want := range []string{
		`menuentry 'It'\''s $HOME; {x}' {` + "\n",
		"\t" + `linux '/kairos/linux-1' 'quiet' 'a=b c' 'x='\''y'\''' '$z' ';reboot' '}' '{' '|' '&' '#' 'console=ttyS0,115200'` + "\n",
		"\tinitrd '/kairos/initrd-1' '/kairos/more'\n}\n",
		"serial --unit=0",
	} {
		if !strings.Contains(have, want) {
			t.Errorf("%s\nhas no %s", have, want)
		}
	}
	e.Options = "console=ttyS01 quiet"
	if strings.Contains(string(Config(e)), "serial") {
		t.Error("a serial port that is not asked for")
	}
	if _, err := exec.LookPath("grub-script-check"); err != nil {
		t.Skip("grub-script-check is missing: package grub-common")
	}
	file := filepath.Join(t.TempDir(), "grub.cfg")
	if err := os.WriteFile(file, []byte(have), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("grub-script-check", file).CombinedOutput(); err != nil {
		t.Errorf("grub-script-check: %v\n%s", err, out)
	}
}
