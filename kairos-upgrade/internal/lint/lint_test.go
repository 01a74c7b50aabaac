package lint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// cpio makes an archive of files, as mkinitramfs does.
func cpio(files ...string) []byte {
	var b bytes.Buffer
	for _, name := range append(files, "TRAILER!!!") {
		content := "content of " + name
		if name == "TRAILER!!!" {
			content = ""
		}
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			1, 0o100755, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
		b.Write(make([]byte, pad(int64(b.Len()))))
		b.WriteString(content)
		b.Write(make([]byte, pad(int64(b.Len()))))
	}
	return b.Bytes()
}

func compressed(t testing.TB, how string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch how {
	case "":
		return data
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zstd":
		w, err = zstd.NewWriter(&b)
	case "xz":
		w, err = xz.NewWriter(&b)
	}
	if err == nil {
		_, err = w.Write(data)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func names(data []byte) ([]string, error) {
	var found []string
	err := initrdNames(bytes.NewReader(data), func(name string) { found = append(found, name) })
	return found, err
}

func TestInitrdNames(t *testing.T) {
	want := []string{"early/microcode", "usr/bin/kairos-root", "usr/lib/x"}
	for _, how := range []string{"", "gzip", "zstd", "xz"} {
		// As dracut makes it: microcode first, not compressed, filled up to a block.
		early := cpio("early/microcode")
		early = append(early, make([]byte, 512-len(early)%512)...)
		data := append(early, compressed(t, how, cpio("usr/bin/kairos-root", "./usr/lib/x"))...)
		if got, err := names(data); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", how, got, err)
		}
		if _, err := names(data[:len(data)-len(data)/8]); err == nil {
			t.Errorf("%q: a truncated initrd is whole", how)
		}
	}
	if _, err := names([]byte("\x02\x21\x4c\x18lz4 data")); !errors.Is(err, errCompression) {
		t.Errorf("lz4: %v", err)
	}
}

// The real cpio is the judge of the archives that the tests make.
func TestCpioOfOthers(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("no cpio here")
	}
	dir := t.TempDir()
	for _, name := range []string{"a", "bc", "def", "ghij"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat(name, 7)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pack := exec.Command("cpio", "--quiet", "-o", "-H", "newc")
	pack.Dir, pack.Stdin = dir, strings.NewReader("a\nbc\ndef\nghij\n")
	data, err := pack.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := names(data); err != nil || !slices.Equal(got, []string{"a", "bc", "def", "ghij"}) {
		t.Errorf("%v, %v", got, err)
	}
	list := exec.Command("cpio", "--quiet", "-t")
	list.Stdin = bytes.NewReader(cpio("x", "usr/yy", "zzz"))
	if out, err := list.Output(); err != nil || string(out) != "x\nusr/yy\nzzz\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// whole has all files of an image without findings, by path. The initrd is large
// enough to be kept.
func whole() map[string]string {
	initrd := []string{"usr/bin/kairos-root", "usr/bin/kairos-config", "usr/lib/modules/6.1/erofs.ko.xz", "usr/lib/modules/6.1/overlay.ko"}
	for i := range 4000 {
		initrd = append(initrd, fmt.Sprintf("usr/share/filling/%d", i))
	}
	program := strings.Repeat("\x7fELF", 100)
	return map[string]string{
		"usr/lib/modules/6.1/vmlinuz":                                           "MZ" + strings.Repeat("kernel ", 1000),
		"usr/lib/modules/6.1/initramfs.img":                                     string(cpio(initrd...)),
		"usr/lib/modules/6.1/modules.builtin":                                   "kernel/fs/ext4/ext4.ko\n" + strings.Repeat("kernel/fs/x/x.ko\n", 10),
		"usr/lib/systemd/systemd":                                               program,
		"usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-257.so":             program,
		"usr/bin/kairos-upgrade":                                                program,
		"usr/bin/kairos-boot-assess":                                            program,
		"usr/bin/kairos-config":                                                 program,
		"usr/sbin/e2fsck":                                                       program,
		"usr/sbin/fsck.fat":                                                     program,
		"usr/lib/systemd/system/kairos-boot-assess.service":                     "[Unit]\n",
		"etc/systemd/system/multi-user.target.wants/kairos-boot-assess.service": "[Unit]\n",
		"usr/lib/kairos/checks/required.d/10-app":                               "#!/bin/sh\n",
	}
}

// check writes files into a directory, reads it as an image and lints it.
func check(t *testing.T, files map[string]string, prepare func(dir string) error) []Finding {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if prepare != nil {
		if err := prepare(dir); err != nil {
			t.Fatal(err)
		}
	}
	keep := NewKeep(t.TempDir())
	defer keep.Close()
	root, err := tree.FromDir(context.Background(), dir, keep.Sink(context.Background()))
	if err != nil {
		t.Fatal(err)
	}
	return Check(Image{Root: root, Open: keep.Open})
}

func TestWholeImage(t *testing.T) {
	if found := check(t, whole(), nil); len(found) > 0 {
		t.Errorf("%+v", found)
	}
}

func TestFindings(t *testing.T) {
	const initrd = "usr/lib/modules/6.1/initramfs.img"
	without := func(name string) func(map[string]string) {
		return func(files map[string]string) { delete(files, name) }
	}
	with := func(name, content string) func(map[string]string) {
		return func(files map[string]string) { files[name] = content }
	}
	filled := func(names ...string) string {
		for i := range 4000 {
			names = append(names, fmt.Sprintf("usr/share/filling/%d", i))
		}
		return string(cpio(names...))
	}
	for name, c := range map[string]struct {
		change  func(map[string]string)
		prepare func(string) error
		code    string
		level   report.Severity
		words   string
	}{
		"no kernel":               {without("usr/lib/modules/6.1/vmlinuz"), nil, "no_kernel", Error, "no bootable kernel"},
		"no initrd":               {without(initrd), nil, "no_kernel", Error, "no initrd for /usr/lib/modules/6.1/vmlinuz"},
		"initrd of others":        {with(initrd, filled("usr/bin/kairos-config", "erofs.ko", "overlay.ko")), nil, "initrd_without_kairos_root", Error, "the root would not be mounted"},
		"initrd without config":   {with(initrd, filled("usr/bin/kairos-root", "erofs.ko", "overlay.ko")), nil, "initrd_without_kairos_config", Warning, "do not run"},
		"initrd without erofs":    {with(initrd, filled("usr/bin/kairos-root", "usr/bin/kairos-config", "overlay.ko")), nil, "initrd_without_module", Error, "no module erofs"},
		"initrd cut off":          {with(initrd, whole()[initrd][:300<<10]), nil, "initrd_damaged", Error, "cannot be read"},
		"initrd compressed oddly": {with(initrd, "\x02\x21\x4c\x18"+strings.Repeat("lz4!", 100000)), nil, "initrd_unread", Warning, "compressed in an unknown format"},
		"UKI that is none":        {with("boot/EFI/Linux/x.efi", "MZ"+strings.Repeat("none", 100000)), nil, "", Error, ""},
		"no systemd":              {without("usr/lib/systemd/systemd"), nil, "no_systemd", Error, "no systemd"},
		"old systemd":             {with("usr/lib/systemd/libsystemd-shared-247.so", "\x7fELF"), nil, "old_systemd", Error, "systemd 247 is too old"},
		"no toolkit":              {without("usr/bin/kairos-upgrade"), nil, "no_program", Warning, "cannot be upgraded"},
		"check without x": {nil, func(dir string) error {
			return os.Chmod(filepath.Join(dir, "usr/lib/kairos/checks/required.d/10-app"), 0o644)
		}, "check_not_executable", Warning, "cannot be executed"},
		"presets":    {without("etc/systemd/system/multi-user.target.wants/kairos-boot-assess.service"), nil, "presets_not_applied", Warning, "no boot is found good"},
		"hidden":     {with("run/agent/socket", ""), nil, "hidden", Warning, "hidden on a node"},
		"machine id": {with("etc/machine-id", strings.Repeat("a", 32)+"\n"), nil, "machine_id", Warning, "has a machine id"},
		"host key":   {with("etc/ssh/ssh_host_rsa_key", "key"), nil, "secret", Warning, "which all nodes share"},
	} {
		t.Run(name, func(t *testing.T) {
			files := maps.Clone(whole())
			if c.change != nil {
				c.change(files)
			}
			found := check(t, files, c.prepare)
			if c.code == "" { // not taken for a kernel, or said to be damaged: never silent about the initrd
				if len(found) > 0 && Boots(found) {
					t.Errorf("%+v", found)
				}
				return
			}
			if len(found) != 1 || found[0].Code != c.code || found[0].Level != c.level || !strings.Contains(found[0].Message, c.words) || found[0].Hint == "" {
				t.Errorf("%+v, want one %s %s about %q", found, c.level, c.code, c.words)
			}
			if Boots(found) != (c.level == Warning) {
				t.Error("boots:", Boots(found))
			}
		})
	}
}

func FuzzInitrd(f *testing.F) {
	f.Add(cpio("usr/bin/kairos-root"))
	for _, how := range []string{"gzip", "zstd", "xz"} {
		f.Add(compressed(f, how, cpio("a", "b/c")))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		count := 0
		_ = initrdNames(bytes.NewReader(data), func(name string) {
			if count++; len(name) > maxName {
				t.Errorf("a name of %d bytes", len(name))
			}
		})
	})
}
