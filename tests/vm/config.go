// Package vm runs virtual machines under QEMU: UEFI firmware, a TPM, disks, a serial console that is
// read as it comes, and a way to run commands in the guest as root.
//
// Nothing here waits by the clock. What happens to a machine arrives as events from QEMU (reset,
// power-off), from the agent in the guest and from the console. A wait ends with its context, or when the
// machine shows no activity any more: see watchdog.
package vm

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/tests/agent"
)

// Config describes a machine. Its folder keeps what outlives one run: firmware variables, the TPM's
// state, the console's log.
type Config struct {
	Dir    string // made if absent
	Memory int    // MiB; 2048 when 0
	Disks  []Disk
	SSH    int    // port on the host's loopback that leads to the guest's port 22; none when 0
	KVM    bool   // run on the processor itself: see ProbeKVM
	Resume string // file of Machine.Save to go on from, instead of booting
	Detach bool   // the machine may outlive this process: see Machine.Detach
	// Observe, if set, is told of each event as it happens. It must not block.
	Observe func(Event)
}

// Disk is a disk of a machine, in the order in which the firmware tries to boot from them.
type Disk struct {
	Name   string // the serial number that the guest sees, and the key of its statistics
	Path   string
	Format string // "raw" or "qcow2"
	// CD makes it a CD in a drive: blocks of 2048 bytes, no partitions in Linux, read-only.
	CD bool
	// Log, if set, is a file that records each write and flush as it is completed, in the format of
	// Linux' dm-log-writes; it begins anew with each start.
	Log string
}

const (
	firmwareCode = "/usr/share/OVMF/OVMF_CODE_4M.fd" // in the tools root
	firmwareVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// channels are the sockets between QEMU and this process, by name. QEMU gets them as descriptors of
// listening sockets, so that connecting needs no waiting.
type channels struct {
	dir       string // short: a socket's path has room for 107 bytes
	listeners []*os.File
}

func (c *Config) console() string { return filepath.Join(c.Dir, "console.log") }
func (c *Config) vars() string    { return filepath.Join(c.Dir, "vars.fd") }

// arguments returns the command line of QEMU. The listening sockets are its descriptors 3, 4 and 5.
func (c *Config) arguments(sockets channels) []string {
	args := append(Processor(c.KVM),
		"-nodefaults", "-no-user-config", "-display", "none", "-name", filepath.Base(c.Dir),
		"-machine", "q35,sata=off,i8042=off", // each device is looked at twice in a boot
		"-smp", strconv.Itoa(cpus(c.KVM)), "-m", strconv.Itoa(orDefault(c.Memory, 2048)),
		"-boot", "menu=off,strict=on",
		"-no-shutdown", // a powered-off machine stays until its statistics are read
		"-drive", "if=pflash,format=raw,readonly=on,file="+firmwareCode,
		"-drive", "if=pflash,format=raw,file="+c.vars(),

		"-chardev", "socket,id=qmp,fd=3,server=on,wait=off",
		"-mon", "chardev=qmp,mode=control",
		"-chardev", "socket,id=console,fd=4,server=on,wait=off,logappend=on,logfile="+c.console(),
		"-serial", "chardev:console",
		"-chardev", "socket,id=agent,fd=5,server=on,wait=off",
		"-device", "virtio-serial-pci",
		"-device", "virtserialport,chardev=agent,name="+agent.Port,

		"-chardev", "socket,id=tpm,path="+filepath.Join(sockets.dir, "tpm"),
		"-tpmdev", "emulator,id=tpm,chardev=tpm",
		"-device", "tpm-crb,tpmdev=tpm",

		"-device", "virtio-rng-pci",
		"-device", "i6300esb", // a watchdog: it resets the machine
		"-netdev", "user,id=net"+c.forward(),
		"-device", "virtio-net-pci,netdev=net,romfile=",
	)
	if c.Resume != "" {
		args = append(args, "-incoming", "defer")
	}
	for i, disk := range c.Disks {
		if disk.CD {
			args = append(args,
				"-device", "virtio-scsi-pci,id=scsi-"+disk.Name,
				"-drive", fmt.Sprintf("if=none,id=drive-%s,readonly=on,%s", disk.Name, disk.source()),
				"-device", fmt.Sprintf("scsi-cd,id=%s,drive=drive-%[1]s,bus=scsi-%[1]s.0,bootindex=%d", disk.Name, i+1),
			)
			continue
		}
		args = append(args,
			"-drive", fmt.Sprintf("if=none,id=drive-%s,discard=unmap,%s", disk.Name, disk.source()),
			"-device", fmt.Sprintf("virtio-blk-pci,id=%s,drive=drive-%[1]s,serial=%[1]s,write-zeroes=off,bootindex=%d%s", disk.Name, i+1, disk.requests()),
		)
	}
	return args
}

// Hardware names what a machine is made of: a state that was saved of one can only be taken up by one that
// is made of the same.
func Hardware(kvm bool) string {
	c := Config{KVM: kvm}
	sum := sha256.Sum256([]byte(strings.Join(c.arguments(channels{}), " ")))
	return hex.EncodeToString(sum[:4])
}

// source names what the disk is kept in. A log shall have what the guest asked for: zeros are not made
// holes there.
func (d Disk) source() string {
	if d.Log == "" {
		return fmt.Sprintf("detect-zeroes=unmap,format=%s,file=%s", d.Format, d.Path)
	}
	return fmt.Sprintf("driver=blklogwrites,file.driver=%s,file.file.driver=file,file.file.filename=%s,log.driver=file,log.filename=%s", d.Format, d.Path, d.Log)
}

// requests keeps the requests of a guest apart where they are logged. A request that is made of several may
// have as many parts as a system call takes, and the log adds two.
func (d Disk) requests() string {
	if d.Log == "" {
		return ""
	}
	return ",request-merging=off"
}

func (c *Config) forward() string {
	if c.SSH == 0 {
		return ""
	}
	return fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:22", c.SSH)
}

// FreePort returns a port of the loopback that nobody listens on, for Config.SSH.
func FreePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// cpus is how many processors a machine has. An emulated one has no other to agree with, which is faster, and
// several machines run beside each other. On a busy host two lose interrupts of each other: with QEMU 10.0.13 the
// first one's timer never came again, and the guest stood still ("rcu_preempt kthread timer wakeup didn't happen").
func cpus(kvm bool) int {
	if kvm {
		return 2
	}
	return 1
}

func orDefault(value, fallback int) int {
	if value == 0 {
		return fallback
	}
	return value
}
