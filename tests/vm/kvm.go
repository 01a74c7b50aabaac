package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/kairos-io/toolkit/tests/workspace"
)

// ProbeKVM tells whether machines can run on the processor itself: nil if a kernel has really booted so,
// and run a program. On some hosts /dev/kvm is there, and no ordinary kernel comes up. KAIROS_KVM=0 in the
// environment forbids KVM.
//
// The program must be linked statically, and end well when it is called with --version.
func ProbeKVM(ctx context.Context, kernel, program string) error {
	if os.Getenv("KAIROS_KVM") == "0" {
		return errors.New("KAIROS_KVM=0 forbids KVM")
	}
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	device.Close()
	if err := Boots(ctx, true, kernel, program); err != nil {
		return fmt.Errorf("KVM runs no ordinary kernel: %w", err)
	}
	return nil
}

// ended is what a kernel says when its first program has ended with exit status 0.
const ended = "Attempted to kill init! exitcode=0x00000000"

// Boots boots a kernel that runs a program and nothing else, by KVM or emulated, and returns nil when the
// program has ended well.
func Boots(ctx context.Context, kvm bool, kernel, program string) error {
	dir, err := os.MkdirTemp("/tmp", "kairos-probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	initrd := filepath.Join(dir, "initrd")
	_, err = workspace.RunTool(ctx, "sh", "-ec", `mkdir "$1/root"; cp "$2" "$1/root/init"; cd "$1/root"; echo init | cpio --quiet -o -H newc > "$3"`,
		"sh", dir, program, initrd)
	if err != nil {
		return err
	}
	args := append(Processor(kvm),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35", "-smp", "2", "-m", "512", "-serial", "stdio",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 -- --version")
	console, err := untilStill(ctx, workspace.Tool(ctx, "qemu-system-x86_64", args...), probePatience)
	if strings.Contains(console, ended) {
		return nil
	}
	return fmt.Errorf("its kernel didn't come up: %v, console: %s", err, console[max(0, len(console)-1000):])
}

// probePatience is what a kernel has to say something.
var probePatience = patience{sample: time.Second, idle: time.Minute, spin: 2 * time.Minute}

// Processor returns the arguments of QEMU that choose how programs are run.
func Processor(kvm bool) []string {
	if kvm {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", emulatedCPU}
}

// emulatedCPU is what QEMU can emulate, but for page tables of five levels, which
// it is slow at.
const emulatedCPU = "max,la57=off"

// RunToEnd runs a machine that has nothing but a console, on its standard output, and returns what it said. The
// machine is ended when it shows no activity any more.
func RunToEnd(ctx context.Context, qemu *exec.Cmd) (string, error) {
	return untilStill(ctx, qemu, machinePatience)
}

func untilStill(ctx context.Context, qemu *exec.Cmd, p patience) (string, error) {
	watched, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	out := counted{stopped: func() { giveUp(errInternal) }}
	qemu.Stdout, qemu.Stderr = &out, &out
	qemu.WaitDelay = time.Second // whoever else has its output open is not waited for
	ended, err := workspace.Start(qemu)
	if err != nil {
		return "", err
	}
	go patrol(watched, giveUp, p, func() activity {
		a := activity{Signs: out.pieces()}
		a.CPU, a.Wanting = processors(qemu.Process.Pid)
		return a
	})
	select {
	case err = <-ended:
	case <-watched.Done():
		err = context.Cause(watched)
		qemu.Process.Kill()
		<-ended
	}
	return out.String(), err
}

// QEMU says internalError, and the machine's registers, when the host's kernel cannot go on with a machine. The
// machine stands still from then on.
const internalError = "KVM internal error"

var errInternal = errors.New(internalError)

// counted keeps what is written to it, and counts the pieces. It calls stopped when QEMU says internalError.
type counted struct {
	mu      sync.Mutex
	text    bytes.Buffer
	n       int64
	stopped func()
}

func (c *counted) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	n, err := c.text.Write(p)
	if bytes.Contains(c.text.Bytes()[max(0, c.text.Len()-n-len(internalError)):], []byte(internalError)) {
		c.stopped()
	}
	return n, err
}

func (c *counted) pieces() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (c *counted) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}
