package boot

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
)

// program is a PE file with sections of some names.
func program(sections ...string) string {
	b := make([]byte, 128+24+len(sections)*40)
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[60:], 128)
	copy(b[128:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(b[134:], uint16(len(sections)))
	for i, name := range sections {
		copy(b[152+i*40:], name)
	}
	return string(b)
}

// The choice of a kernel is said where there was one.
func TestFindNotes(t *testing.T) {
	for _, test := range []struct{ paths, note string }{
		{"boot/vmlinuz-6.1 boot/initrd-6.1", ""},
		{"boot/vmlinuz-6.1 boot/initrd-6.1 boot/vmlinuz-6.2 boot/initrd-6.2", "2 kernels: /boot/vmlinuz-6.2 boots, not /boot/vmlinuz-6.1"},
		{"boot/vmlinuz-6.1 boot/initrd-6.1 boot/vmlinuz-6.2", "has no initrd: /boot/vmlinuz-6.2; 6.1 boots instead"},
		{"boot/vmlinuz-6.2 boot/initrd-6.2 boot/vmlinuz-6.1", ""},
		{"usr/lib/modules/6.1/vmlinuz usr/lib/modules/6.1/initramfs.img usr/lib/modules/6.12/vmlinuz", "no initrd: /usr/lib/modules/6.12/vmlinuz"},
		// One in another place counts as well.
		{"usr/lib/modules/6.12/vmlinuz boot/vmlinuz-6.1 boot/initrd-6.1", "no initrd: /usr/lib/modules/6.12/vmlinuz"},
		// What is kept is older than what took its place.
		{"boot/vmlinuz boot/initrd boot/vmlinuz.old boot/initrd.old", "2 kernels: /boot/vmlinuz boots, not /boot/vmlinuz.old"},
		{"boot/vmlinuz boot/initrd boot/vmlinuz.old boot/initrd.old usr/lib/modules/6.1/modules.dep", "2 kernels: /boot/vmlinuz boots, not /boot/vmlinuz.old"},
		{"boot/vmlinuz-6.1 boot/initrd-6.1 boot/vmlinuz-6.1.old boot/initrd-6.1.old", "2 kernels: /boot/vmlinuz-6.1 boots, not /boot/vmlinuz-6.1.old"},
		{"boot/vmlinuz-6.2.old boot/initrd-6.2.old boot/vmlinuz-6.1 boot/initrd-6.1", "2 kernels: /boot/vmlinuz-6.2.old boots, not /boot/vmlinuz-6.1"},
		{"boot/vmlinuz-6.9.0-rc3 boot/initrd-6.9.0-rc3 boot/vmlinuz-6.9.0 boot/initrd-6.9.0", "2 kernels: /boot/vmlinuz-6.9.0 boots, not /boot/vmlinuz-6.9.0-rc3"},
		{"boot/vmlinuz-6.9.0-rc10 boot/initrd-6.9.0-rc10 boot/vmlinuz-6.9.0-rc9 boot/initrd-6.9.0-rc9", "2 kernels: /boot/vmlinuz-6.9.0-rc10 boots"},
		// Leavings of packages are no kernels.
		{"boot/vmlinuz-6.1 boot/initrd-6.1 boot/vmlinuz-6.1.dpkg-tmp boot/vmlinuz-6.1.sig boot/vmlinuz-6.1~ boot/vmlinuz-6.1.rpmsave", ""},
	} {
		k, err := Find(grow(t, strings.Fields(test.paths)...), inline)
		notes := strings.Join(k.Notes, "\n")
		if err != nil || (notes == "") != (test.note == "") || !strings.Contains(notes, test.note) {
			t.Errorf("%s: %q, %v", test.paths, notes, err)
		}
	}
}

// A link to the kernel that boots is no other one, and a program that is no UKI is
// named where nothing else boots.
func TestFindLinks(t *testing.T) {
	k, err := Find(grow(t, "boot/vmlinuz-6.2", "boot/initrd-6.2", "boot/vmlinuz -> vmlinuz-6.2", "boot/initrd -> initrd-6.2",
		"boot/vmlinuz-6.1", "boot/initrd-6.1", "boot/vmlinuz.old -> vmlinuz-6.1", "boot/initrd.old -> initrd-6.1"), inline)
	if err != nil || k.Release != "6.2" || len(k.Notes) != 1 || strings.Contains(k.Notes[0], "6.2,") || !strings.Contains(k.Notes[0], "/boot/vmlinuz-6.1") {
		t.Errorf("%+v, %v", k, err)
	}
	_, err = Find(grow(t, "boot/EFI/Linux/tool.efi = "+program(".text", ".linux")), inline)
	if err == nil || !strings.Contains(err.Error(), "/boot/EFI/Linux/tool.efi") {
		t.Error(err)
	}
}

// A header that lies is that of no PE file, and is not believed.
func TestSectionsOfLies(t *testing.T) {
	whole := program(".linux", ".osrel")
	for n := range len(whole) {
		sections(strings.NewReader(whole[:n]))
	}
	far := []byte(whole)
	binary.LittleEndian.PutUint32(far[60:], 0xfffffff0)
	if _, ok := sections(strings.NewReader(string(far))); ok {
		t.Error("a header beyond the end")
	}
}

// The loader on the ESP decides how a UKI is published, not the one through
// which this machine was booted.
func TestUKIKeyOfTheInstalledLoader(t *testing.T) {
	info := func(version string) string {
		return "MZ" + strings.Repeat("\x00", 100) + "#### LoaderInfo: systemd-boot " + version + " ####"
	}
	for _, test := range []struct {
		name  string
		files map[string]string
		runs  bool // the running one knows the key
		want  bool
	}{
		{"none, and it is known", nil, true, true},
		{"none, and it is not", nil, false, false},
		{"a new one", map[string]string{"EFI/systemd/systemd-bootx64.efi": info("259.1")}, false, true},
		{"the first one", map[string]string{"EFI/systemd/systemd-bootaa64.efi": info("258~rc1")}, false, true},
		{"an old one", map[string]string{"EFI/systemd/systemd-bootx64.efi": info("257.9-1~deb13u1")}, true, false},
		{"the fallback path alone", map[string]string{"EFI/BOOT/BOOTX64.EFI": info("255.4")}, true, false},
		{"systemd's path comes first", map[string]string{"EFI/systemd/systemd-bootx64.efi": info("259"), "EFI/BOOT/BOOTX64.EFI": info("255")}, false, true},
		{"the one before doesn't count", map[string]string{"EFI/systemd/systemd-bootx64.previous.efi": info("255")}, true, true},
		{"another boot loader", map[string]string{"EFI/BOOT/BOOTX64.EFI": "MZ shim"}, true, true},
	} {
		dir := t.TempDir()
		for name, content := range test.files {
			name = filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		v, err := view.Writable(dir)
		if err != nil {
			t.Fatal(err)
		}
		if have := NewSystemdBoot(v, test.runs).uki; have != test.want {
			t.Errorf("%s: %t", test.name, have)
		}
		v.Close()
	}
}
