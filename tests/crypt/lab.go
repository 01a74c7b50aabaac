// Package crypt has machines in which kairos-crypt is held against systemd-cryptsetup, where that matters
// most: on a disk that is really mapped, with a TPM that the kernel talks to, over boots and between
// machines. Such a machine has only a kernel, an initrd made here, and what the two programs need.
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

	"github.com/kairos-io/toolkit/tests/images"
	"github.com/kairos-io/toolkit/tests/vm"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// Lab is what the machines are made of. They have one disk, and a TPM each.
type Lab struct {
	kernel, initrd string
	disk           string
	kvm            bool
}

// programs are what the guest runs, beside kairos-crypt.
var programs = []string{"/usr/sbin/cryptsetup", "/usr/bin/systemd-cryptsetup", "/usr/sbin/wipefs", "/usr/bin/systemd-ask-password"}

// opened are libraries that they open when they need them.
var opened = []string{"libcryptsetup.so.12", "libtss2-esys.so.0", "libtss2-rc.so.0", "libtss2-mu.so.0", "libtss2-tcti-device.so.0", "libcrypto.so.3"}

// NewLab makes a lab in a directory. The toolkit has been built.
func NewLab(ctx context.Context, dir string) (*Lab, error) {
	set, err := images.Build(ctx, func(string) {})
	if err != nil {
		return nil, err
	}
	l := &Lab{
		kernel: filepath.Join(set.Base, "usr/lib/modules", set.Kernel, "vmlinuz"),
		initrd: filepath.Join(dir, "initrd"), disk: filepath.Join(dir, "disk"),
	}
	root := filepath.Join(dir, "root")
	if err := l.collect(ctx, root); err != nil {
		return nil, err
	}
	if _, err := workspace.RunTool(ctx, "sh", "-c", `cd "$1" && find . | cpio --quiet -o -H newc > "$2"`, "sh", root, l.initrd); err != nil {
		return nil, err
	}
	if err := os.WriteFile(l.disk, nil, 0o600); err != nil {
		return nil, err
	}
	l.kvm = vm.ProbeKVM(ctx, l.kernel, filepath.Join(workspace.Top(), "build/bin/kairos-root")) == nil
	return l, os.Truncate(l.disk, 64<<20)
}

// collect puts together what the initrd holds.
func (l *Lab) collect(ctx context.Context, root string) error {
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/lib/x86_64-linux-gnu", "lib64", "modules", "etc", "run", "tmp", "proc", "sys", "dev"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Symlink("usr/lib", filepath.Join(root, "lib")); err != nil {
		return err
	}
	libraries := make([]string, 0, len(opened))
	for _, name := range opened {
		libraries = append(libraries, "/usr/lib/x86_64-linux-gnu/"+name)
	}
	out, err := workspace.RunTool(ctx, "ldd", append(slices.Clone(programs), libraries...)...)
	if err != nil {
		return err
	}
	for _, match := range regexp.MustCompile(`(?m)(?:=> |^\s+)(/\S+) \(0x`).FindAllStringSubmatch(out, -1) {
		libraries = append(libraries, match[1])
	}
	for _, name := range append(libraries, programs...) {
		if err := copyFile(workspace.Cache("tools", name), filepath.Join(root, name), 0o755); err != nil {
			return err
		}
	}
	if err := copyFile(filepath.Join(workspace.Top(), "build/bin/kairos-crypt"), filepath.Join(root, "usr/bin/kairos-crypt"), 0o755); err != nil {
		return err
	}
	files, err := modules(filepath.Dir(l.kernel), "virtio_blk", "dm-crypt", "xts")
	if err != nil {
		return err
	}
	for i, module := range files {
		if err := copyFile(module, filepath.Join(root, fmt.Sprintf("modules/%02d-%s", i, filepath.Base(module))), 0o644); err != nil {
			return err
		}
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(root, "init"), "./guest")
	build.Dir = filepath.Join(workspace.Top(), "tests/crypt")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	_, err = workspace.Run(build)
	return err
}

// modules returns the files of kernel modules and of what they depend on, in the order of loading. What
// is built in has none.
func modules(dir string, names ...string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
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
	return files, nil
}

// Boot starts a machine with the TPM whose state is in a directory, has it take steps, and returns what it
// printed.
func (l *Lab) Boot(ctx context.Context, state string, steps ...string) (string, error) {
	sockets, err := os.MkdirTemp("", "crypt") // short: a socket's path has 107 bytes at most
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(sockets)
	if err := vm.CreateTPM(state); err != nil {
		return "", err
	}
	if _, err := workspace.RunTool(ctx, "swtpm", "socket", "--tpm2", "--daemon", "--terminate",
		"--tpmstate", "dir="+state, "--ctrl", "type=unixio,path="+filepath.Join(sockets, "tpm")); err != nil {
		return "", err
	}
	line := "console=ttyS0 quiet panic=-1"
	for _, step := range steps {
		if key, ok := strings.CutPrefix(step, "key="); ok {
			line += " guest.key=" + key
			continue
		}
		line += " guest.step=" + step
	}
	args := append(vm.Processor(l.kvm), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35", "-smp", "2", "-m", "1024", "-serial", "stdio",
		"-kernel", l.kernel, "-initrd", l.initrd, "-append", line,
		"-chardev", "socket,id=tpm,path="+filepath.Join(sockets, "tpm"), "-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm",
		"-device", "virtio-rng-pci", "-drive", "if=none,id=disk,format=raw,file="+l.disk, "-device", "virtio-blk-pci,drive=disk")
	out, err := vm.RunToEnd(ctx, workspace.Tool(ctx, "qemu-system-x86_64", args...))
	if err != nil || strings.Contains(out, "guest: failed") || !strings.Contains(out, "guest: end") {
		return out, fmt.Errorf("%v: error %v, console: %s", steps, err, out[max(0, len(out)-4000):])
	}
	return out, nil
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
