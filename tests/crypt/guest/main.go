// Command guest is the init of the test's virtual machine: it does to the disk what the kernel command
// line names, prints what came of it in lines that begin with "guest:", and powers off.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	device = "/dev/vda"
	mapped = "/dev/mapper/data"
)

// pattern is the data of the volume, a sector of it.
var pattern = bytes.Repeat([]byte("kairos  "), 64)

func main() {
	if err := work(); err != nil {
		fmt.Println("guest: failed:", err)
	}
	fmt.Println("guest: end")
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func work() error {
	for target, kind := range map[string]string{"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs", "/run": "tmpfs", "/tmp": "tmpfs"} {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(kind, target, kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", target, err)
		}
	}
	modules, err := filepath.Glob("/modules/*")
	if err != nil {
		return err
	}
	slices.Sort(modules)
	for _, module := range modules {
		if err := load(module); err != nil {
			return fmt.Errorf("load %s: %w", module, err)
		}
	}
	for name, value := range map[string]string{
		"PATH": "/usr/bin:/usr/sbin", "DM_DISABLE_UDEV": "1", // there is no udev here
		"SYSTEMD_FORCE_MEASURE": "1", // which systemd leaves to measured kernel images
	} {
		os.Setenv(name, value)
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	words := strings.Fields(string(line))
	for _, word := range words {
		if step, ok := strings.CutPrefix(word, "guest.step="); ok {
			fmt.Println("guest: step", step)
			if err := do(step, words); err != nil {
				return fmt.Errorf("%s: %w", step, err)
			}
		}
	}
	return nil
}

func load(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	const compressed = 4 // MODULE_INIT_COMPRESSED_FILE of linux/module.h
	return unix.FinitModule(int(f.Fd()), "", compressed)
}

func do(step string, words []string) error {
	switch step {
	case "format":
		out, err := run("kairos-crypt", "format", "--quiet", "--label", "data", device)
		if err != nil {
			return err
		}
		fmt.Printf("guest: recovery %s", out)
		return nil
	case "write":
		if err := os.WriteFile(mapped, pattern, 0); err != nil {
			return err
		}
		return flush()
	case "read":
		return read()
	case "unlock":
		return timed("kairos-crypt", "unlock", device)
	case "attach":
		return timed("systemd-cryptsetup", "attach", "data", device, "-", "tpm2-device=auto,headless=1,tpm2-measure-pcr=yes")
	case "close":
		_, err := run("kairos-crypt", "close", "data")
		return err
	case "pcr15":
		value, err := os.ReadFile("/sys/class/tpm/tpm0/pcr-sha256/15")
		fmt.Printf("guest: pcr15 %s\n", bytes.TrimSpace(value))
		return err
	case "locked":
		if _, err := run("kairos-crypt", "unlock", device); err == nil {
			return errors.New("it opened")
		} else if !strings.Contains(err.Error(), "sealed by another TPM") {
			return err
		}
		return nil
	case "recover":
		at := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "guest.key=") })
		if err := os.WriteFile("/run/key", []byte(strings.TrimPrefix(words[at], "guest.key=")+"\n"), 0o600); err != nil {
			return err
		}
		_, err := run("kairos-crypt", "unlock", "--key-file", "/run/key", device)
		return err
	}
	return errors.New("unknown step")
}

// timed runs a program and prints how long it took.
func timed(argv ...string) error {
	start := time.Now()
	_, err := run(argv...)
	fmt.Printf("guest: %s %d us\n", argv[0], time.Since(start).Microseconds())
	return err
}

func run(argv ...string) ([]byte, error) {
	command := exec.Command(argv[0], argv[1:]...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", argv[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// read compares what is mapped with the pattern, and the disk beneath it.
func read() error {
	data, err := sector(mapped, 0)
	if err != nil {
		return err
	}
	if !bytes.Equal(data, pattern) {
		return fmt.Errorf("the volume holds %q", data[:16])
	}
	// LUKS2 of cryptsetup has 16 MiB in front of the data.
	data, err = sector(device, 16<<20)
	if err != nil {
		return err
	}
	if bytes.Equal(data, make([]byte, len(data))) || bytes.Contains(data, pattern[:16]) {
		return errors.New("the disk is not encrypted")
	}
	return nil
}

func sector(name string, offset int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, len(pattern))
	_, err = f.ReadAt(data, offset)
	return data, err
}

func flush() error {
	f, err := os.Open(mapped)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
