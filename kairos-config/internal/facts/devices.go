package facts

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// random returns 32 hex digits.
func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// uuid returns a random UUID: RFC 9562, version 4.
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// machineName is the output of uname -m.
func machineName() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Machine[:])
}

// cpu reads /proc/cpuinfo, whose keys are those of x86; on other machines only the
// number of threads is known.
func (m machine) cpu() map[string]any {
	values := map[string]any{}
	sockets, cores := map[string]bool{}, map[string]bool{}
	threads, socket := 0, "0"
	for line := range strings.Lines(m.text("/proc/cpuinfo")) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "processor":
			threads++
		case "vendor_id":
			values["vendor"] = value
		case "model name":
			values["model"] = value
		case "cpu MHz":
			mhz, _ := strconv.ParseFloat(value, 64)
			values["speed"] = uint64(mhz)
		case "cache size":
			kib, _ := strconv.ParseUint(strings.TrimSuffix(value, " KB"), 10, 64)
			values["cache"] = kib
		case "physical id":
			socket = value
			sockets[value] = true
		case "core id":
			cores[socket+"/"+value] = true
		}
	}
	values["threads"] = threads
	values["cpus"] = max(1, len(sockets))
	values["cores"] = max(len(cores), min(threads, 1))
	return values
}

// names lists a directory of sysfs; nothing when it isn't there.
func (m machine) names(dir string) []string {
	entries, err := m.root.ReadDir(dir)
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	slices.Sort(list)
	return list
}

// storage lists the disks: block devices with drivers, sizes in GB.
func (m machine) storage() []any {
	list := []any{}
	const class = "/sys/class/block"
	for _, name := range m.names(class) {
		dir := path.Join(class, name)
		if m.root.Exists(path.Join(dir, "partition")) || !m.root.Exists(path.Join(dir, "device")) {
			continue
		}
		disk := map[string]any{"name": name, "size": m.number(path.Join(dir, "size")) * 512 / 1e9}
		for _, field := range []string{"vendor", "model", "serial"} {
			if text := m.text(path.Join(dir, "device", field)); text != "" {
				disk[field] = text
			}
		}
		list = append(list, disk)
	}
	return list
}

// network lists the interfaces with drivers.
func (m machine) network() []any {
	list := []any{}
	const class = "/sys/class/net"
	for _, name := range m.names(class) {
		dir := path.Join(class, name)
		if !m.root.Exists(path.Join(dir, "device")) {
			continue
		}
		link := map[string]any{"name": name, "macaddress": m.text(path.Join(dir, "address"))}
		if speed := m.number(path.Join(dir, "speed")); speed > 0 && speed < 1<<31 {
			link["speed"] = speed
		}
		if target, err := m.root.Readlink(path.Join(dir, "device/driver")); err == nil {
			link["driver"] = path.Base(target)
		}
		list = append(list, link)
	}
	return list
}

// Sample returns sample facts, with a value for each, to validate templates away from
// the node.
func Sample() Facts {
	return Facts{
		MachineID: "0123456789abcdef0123456789abcdef", Random: "fedcba9876543210fedcba9876543210",
		UUID: "01234567-89ab-4def-8123-456789abcdef", ProtectedID: protected("0123456789abcdef0123456789abcdef"),
		Values: map[string]any{
			"Random": "fedcba9876543210fedcba9876543210", "ProtectedID": protected("0123456789abcdef0123456789abcdef"),
			"node":    map[string]any{"hostname": "node", "machineid": "0123456789abcdef0123456789abcdef", "hypervisor": "kvm", "timezone": "UTC"},
			"os":      map[string]any{"name": "Debian GNU/Linux 13 (trixie)", "vendor": "debian", "version": "13", "release": "13 (trixie)", "architecture": "amd64"},
			"kernel":  map[string]any{"release": "6.12.0-amd64", "version": "#1 SMP", "architecture": "x86_64"},
			"product": map[string]any{"name": "Sample", "family": "Sample", "vendor": "Sample", "version": "1", "serial": "S1", "uuid": "01234567-89ab-cdef-0123-456789abcdef", "sku": "S"},
			"board":   map[string]any{"name": "Sample", "vendor": "Sample", "version": "1", "serial": "S1", "assettag": "A1"},
			"chassis": map[string]any{"type": uint64(1), "vendor": "Sample", "version": "1", "serial": "S1", "assettag": "A1"},
			"bios":    map[string]any{"vendor": "Sample", "version": "1", "date": "01/01/2025"},
			"cpu":     map[string]any{"vendor": "GenuineIntel", "model": "Sample", "speed": uint64(2000), "cache": uint64(4096), "cpus": 1, "cores": 2, "threads": 4},
			"memory":  map[string]any{"size": uint64(4096), "type": "DDR4", "speed": uint64(2400)},
			"storage": []any{map[string]any{"name": "sda", "size": uint64(100), "vendor": "Sample", "model": "Sample", "serial": "S1"}},
			"network": []any{map[string]any{"name": "eth0", "macaddress": "52:54:00:12:34:56", "speed": uint64(1000), "driver": "virtio_net"}},
		},
	}
}
