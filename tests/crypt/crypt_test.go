// Package crypt holds kairos-crypt against systemd-cryptsetup where it matters most: on a disk that is
// really mapped, with a TPM that the firmware's kernel talks to, over boots and between machines. The
// virtual machine has only a kernel, an initrd made here, and what the two programs need.
//
// What it can't prove: units and prompts, which need the whole system.
package crypt

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/tests/workspace"
)

func TestVolume(t *testing.T) {
	// Not a part of "make test" before it has been seen to pass.
	if os.Getenv("KAIROS_CRYPT_VM") != "1" {
		t.Skip("starts virtual machines: set KAIROS_CRYPT_VM=1")
	}
	l := newLab(t)
	here, elsewhere := t.TempDir(), t.TempDir()

	first := l.boot(here, "format", "unlock", "pcr15", "write", "read", "close")
	recovery := only(t, first, `guest: recovery (\S+)`)

	// Over a boot systemd opens the volume with our key slot, and finds the data. What it has measured
	// is what we have.
	second := l.boot(here, "attach", "pcr15", "read", "close", "unlock", "read", "close", "attach", "close", "unlock")
	if ours, its := only(t, first, `guest: pcr15 (\S+)`), only(t, second, `guest: pcr15 (\S+)`); ours != its || strings.Trim(ours, "0") == "" {
		t.Errorf("PCR 15: ours %s, systemd's %s", ours, its)
	}
	for _, line := range regexp.MustCompile(`guest: (?:kairos-crypt|systemd-cryptsetup) \d+ ms`).FindAllString(second, -1) {
		t.Log(line)
	}

	// In another machine the disk stays closed, but for the recovery key.
	l.boot(elsewhere, "locked", "recover", "read", "close", "key="+recovery)
}

// lab is what the machines are made of.
type lab struct {
	t              *testing.T
	kernel, initrd string
	disk           string
}

// programs are what the guest runs, beside kairos-crypt.
var programs = []string{"/usr/sbin/cryptsetup", "/usr/bin/systemd-cryptsetup", "/usr/sbin/wipefs", "/usr/bin/systemd-ask-password"}

// opened are libraries that they open when they need them.
var opened = []string{"libcryptsetup.so.12", "libtss2-esys.so.0", "libtss2-rc.so.0", "libtss2-mu.so.0", "libtss2-tcti-device.so.0", "libcrypto.so.3"}

func newLab(t *testing.T) *lab {
	t.Helper()
	kernels, _ := filepath.Glob(workspace.Cache("images/base-*/tree/usr/lib/modules/*/vmlinuz"))
	if len(kernels) == 0 {
		t.Skip("needs a kernel: run the end-to-end tests once, which make the images")
	}
	ours := filepath.Join(workspace.Top(), "build/bin/kairos-crypt")
	if _, err := os.Stat(ours); err != nil {
		t.Skip("needs kairos-crypt: run make build")
	}
	l := &lab{t: t, kernel: kernels[0], initrd: filepath.Join(t.TempDir(), "initrd"), disk: filepath.Join(t.TempDir(), "disk")}
	must(t, os.WriteFile(l.disk, nil, 0o600))
	must(t, os.Truncate(l.disk, 64<<20))

	root := filepath.Join(t.TempDir(), "root")
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/lib/x86_64-linux-gnu", "lib64", "modules", "etc", "run", "tmp", "proc", "sys", "dev"} {
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	must(t, os.Symlink("usr/lib", filepath.Join(root, "lib")))
	libraries := make([]string, 0, len(opened))
	for _, name := range opened {
		libraries = append(libraries, "/usr/lib/x86_64-linux-gnu/"+name)
	}
	out, err := workspace.RunTool(t.Context(), "ldd", append(slices.Clone(programs), libraries...)...)
	must(t, err)
	for _, match := range regexp.MustCompile(`(?m)(?:=> |^\s+)(/\S+) \(0x`).FindAllStringSubmatch(out, -1) {
		libraries = append(libraries, match[1])
	}
	for _, name := range append(libraries, programs...) {
		must(t, copyFile(workspace.Cache("tools", name), filepath.Join(root, name), 0o755))
	}
	must(t, copyFile(ours, filepath.Join(root, "usr/bin/kairos-crypt"), 0o755))
	for i, module := range modules(t, filepath.Dir(l.kernel), "virtio_blk", "dm-crypt", "xts") {
		must(t, copyFile(module, filepath.Join(root, fmt.Sprintf("modules/%02d-%s", i, filepath.Base(module))), 0o644))
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(root, "init"), "./guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	_, err = workspace.Run(build)
	must(t, err)
	_, err = workspace.RunTool(t.Context(), "sh", "-c", `cd "$1" && find . | cpio --quiet -o -H newc > "$2"`, "sh", root, l.initrd)
	must(t, err)
	return l
}

// modules returns the files of kernel modules and of what they depend on, in the order of loading. What
// is built in has none.
func modules(t *testing.T, dir string, names ...string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	must(t, err)
	var files []string
	for _, name := range names {
		match := regexp.MustCompile(`(?m)^(\S*/` + name + `\.ko\.xz):(.*)$`).FindStringSubmatch(string(text))
		if match == nil {
			continue
		}
		needed := strings.Fields(match[2])
		slices.Reverse(needed)
		for _, file := range append(needed, match[1]) {
			if file = filepath.Join(dir, file); !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
	}
	return files
}

// limit is how long a boot may take, on a machine without KVM that does other work beside.
const limit = 8 * time.Minute

// boot starts a machine with the TPM whose state is in a directory, has it take steps, and returns what
// it printed.
func (l *lab) boot(state string, steps ...string) string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), limit)
	defer cancel()
	sockets, err := os.MkdirTemp("", "crypt") // short: a socket's path has 107 bytes at most
	must(l.t, err)
	defer os.RemoveAll(sockets)
	_, err = workspace.RunTool(ctx, "swtpm", "socket", "--tpm2", "--daemon", "--terminate",
		"--tpmstate", "dir="+state, "--ctrl", "type=unixio,path="+filepath.Join(sockets, "tpm"))
	must(l.t, err)
	line := "console=ttyS0 quiet panic=-1"
	for _, step := range steps {
		if key, ok := strings.CutPrefix(step, "key="); ok {
			line += " guest.key=" + key
			continue
		}
		line += " guest.step=" + step
	}
	accelerator := "tcg"
	if os.Getenv("KAIROS_KVM") == "1" {
		accelerator = "kvm"
	}
	out, err := workspace.RunTool(ctx, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35", "-accel", accelerator, "-cpu", "max,la57=off", "-m", "1024", "-serial", "stdio",
		"-kernel", l.kernel, "-initrd", l.initrd, "-append", line,
		"-chardev", "socket,id=tpm,path="+filepath.Join(sockets, "tpm"), "-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm",
		"-device", "virtio-rng-pci", "-drive", "if=none,id=disk,format=raw,file="+l.disk, "-device", "virtio-blk-pci,drive=disk")
	if err != nil || strings.Contains(out, "guest: failed") || !strings.Contains(out, "guest: end") {
		l.t.Fatalf("%v: error %v, console: %s", steps, err, out[max(0, len(out)-4000):])
	}
	return out
}

// only returns what the first group of an expression is, wherever it matches first.
func only(t *testing.T, text, expression string) string {
	t.Helper()
	match := regexp.MustCompile(expression).FindStringSubmatch(text)
	if match == nil {
		t.Fatalf("no %s in: %s", expression, text)
	}
	return match[1]
}

func copyFile(from, to string, mode os.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, mode)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
