// Package boot makes what firmware starts from a medium: systemd-boot under UEFI,
// GRUB under BIOS, of the image's own boot code, for the same boot entry.
package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/kernelargs"
	"github.com/kairos-io/toolkit/lib/run"
)

// Paths of boot code in an image.
const (
	grubDir    = "usr/lib/grub/i386-pc"
	systemdDir = "usr/lib/systemd/boot/efi"
)

// ErrNone says that a tree lacks boot code.
var ErrNone = errors.New("no boot code")

// Code is a tree with boot code.
type Code struct{ Dir string }

// EFI returns the path of systemd-boot for an architecture (as GOARCH has it), and
// where firmware looks for it on the ESP.
func (c Code) EFI(architecture string) (from, to string, err error) {
	short := map[string]string{"amd64": "x64", "arm64": "aa64", "386": "ia32", "riscv64": "riscv64"}[architecture]
	if short == "" {
		return "", "", fmt.Errorf("%w: UEFI on %s", ErrNone, architecture)
	}
	from = filepath.Join(c.Dir, systemdDir, "systemd-boot"+short+".efi")
	if _, err := os.Stat(from + ".signed"); err == nil {
		from += ".signed"
	}
	if _, err := os.Stat(from); err != nil {
		return "", "", fmt.Errorf("%w for UEFI: /%s/systemd-boot%s.efi is missing", ErrNone, systemdDir, short)
	}
	return from, "EFI/BOOT/BOOT" + strings.ToUpper(short) + ".EFI", nil
}

// HasBIOS returns nil if the tree has GRUB for the BIOS.
func (c Code) HasBIOS(architecture string) error {
	if architecture != "amd64" && architecture != "386" {
		return fmt.Errorf("%w: %s has no BIOS", ErrNone, architecture)
	}
	for _, name := range []string{"boot.img", "kernel.img", "fat.mod"} {
		if _, err := os.Stat(filepath.Join(c.Dir, grubDir, name)); err != nil {
			return fmt.Errorf("%w for BIOS: /%s/%s is missing", ErrNone, grubDir, name)
		}
	}
	return nil
}

// GrubConfig is where GRUB finds what to boot, on the ESP.
const GrubConfig = "loader/grub/grub.cfg"

// modules are those that GRUB needs to find the ESP and to start a kernel.
var modules = []string{"biosdisk", "part_gpt", "fat", "normal", "configfile", "linux", "search", "search_fs_uuid", "echo", "serial", "terminal", "minicmd", "test"}

// Programs are what GRUB is started as.
type Programs struct {
	Boot []byte // boot sector of a disk
	Core []byte // what it loads
	CD   []byte // both for a CD
}

// GRUB makes the programs in a directory for work, for the ESP with a volume
// identifier.
func (c Code) GRUB(ctx context.Context, r run.Runner, work string, volume uint32) (p Programs, err error) {
	early := filepath.Join(work, "early.cfg")
	text := fmt.Sprintf("search --no-floppy --fs-uuid --set=root %04X-%04X\nset prefix=($root)/loader/grub\nconfigfile ($root)/%s\n", volume>>16, volume&0xffff, GrubConfig)
	if err := os.WriteFile(early, []byte(text), 0o600); err != nil {
		return p, err
	}
	if p.Boot, err = os.ReadFile(filepath.Join(c.Dir, grubDir, "boot.img")); err != nil {
		return p, err
	}
	make := func(format string, options, more []string) ([]byte, error) {
		out := filepath.Join(work, format+".img")
		argv := []string{"grub-mkimage", "-d", filepath.Join(c.Dir, grubDir), "-O", format, "-o", out}
		argv = append(append(append(argv, options...), modules...), more...)
		if _, err := r.Output(ctx, argv...); err != nil {
			return nil, fmt.Errorf("make GRUB for BIOS: %w", err)
		}
		return os.ReadFile(out)
	}
	// On a disk its own partition, on whatever disk the BIOS has started: a second
	// medium of the same image does no harm.
	if p.Core, err = make("i386-pc", []string{"-p", "(,gpt1)/loader/grub"}, nil); err != nil {
		return p, err
	}
	p.CD, err = make("i386-pc-eltorito", []string{"-p", "/loader/grub", "-c", early}, []string{"iso9660"})
	return p, err
}

// Config returns GRUB's configuration: the boot entry.
func Config(e bls.Entry) []byte {
	var b strings.Builder
	b.WriteString("set default=0\nset timeout=0\n")
	for word := range kernelargs.Words(e.Options) {
		// Kernel and person look at the same console.
		if port, ok := strings.CutPrefix(word, "console=ttyS0"); ok && (port == "" || port[0] == ',') {
			b.WriteString("if serial --unit=0 --speed=115200; then terminal_output --append serial; terminal_input --append serial; fi\n")
			break
		}
	}
	fmt.Fprintf(&b, "menuentry %s {\n\tlinux %s", quote(e.Title), quote(e.Linux))
	for word := range kernelargs.Words(e.Options) {
		b.WriteString(" " + quote(word))
	}
	b.WriteString("\n")
	if len(e.Initrd) > 0 {
		b.WriteString("\tinitrd")
		for _, file := range e.Initrd {
			b.WriteString(" " + quote(file))
		}
		b.WriteString("\n")
	}
	b.WriteString("}\n")
	return []byte(b.String())
}

// quote writes a word so that GRUB's parser takes it as it is.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
