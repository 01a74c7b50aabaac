// Package facts reads the facts about a machine for templates: Kairos' .Values, in the
// form of its sysinfo, from sysfs, procfs and /etc. It asks neither other programs nor
// the network.
package facts

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"path"
	"runtime"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/lib/osrelease"
)

// Facts are the facts for templates.
type Facts struct {
	Values    map[string]any
	MachineID string
	Random    string // 32 hex digits, different at each reading
	UUID      string // of version 4, different at each reading
	// ProtectedID is a digest of the machine id that doesn't disclose it.
	ProtectedID string
}

// maxFile bounds each file that is read, in bytes.
const maxFile = 1 << 20

// machine is where facts are read.
type machine struct{ root *rootfs.Root }

// Read reads the facts of the machine beneath a root. Unknown facts are empty or left
// out.
func Read(root *rootfs.Root) Facts {
	m := machine{root}
	id := m.text("/etc/machine-id")
	once := random()
	return Facts{MachineID: id, Random: once, UUID: uuid(), ProtectedID: protected(id), Values: map[string]any{
		"Random": once, "ProtectedID": protected(id),
		"node": map[string]any{
			"hostname": m.hostname(), "machineid": id, "hypervisor": m.hypervisor(), "timezone": m.timezone(),
		},
		"os":      m.os(),
		"kernel":  map[string]any{"release": m.text("/proc/sys/kernel/osrelease"), "version": m.text("/proc/sys/kernel/version"), "architecture": machineName()},
		"product": m.dmi("product", "name", "family", "vendor:sys_vendor", "version", "serial", "uuid", "sku"),
		"board":   m.dmi("board", "name", "vendor", "version", "serial", "assettag:board_asset_tag"),
		"chassis": m.chassis(),
		"bios":    m.dmi("bios", "vendor", "version", "date"),
		"cpu":     m.cpu(),
		"memory":  map[string]any{"size": m.memory()},
		"storage": m.storage(),
		"network": m.network(),
	}}
}

// protected returns a digest of the machine id: HMAC-SHA256 with the id as its key, as
// in Kairos.
func protected(id string) string {
	sum := hmac.New(sha256.New, []byte(id))
	sum.Write([]byte("kairos"))
	return hex.EncodeToString(sum.Sum(nil))
}

// text returns the content of a small file without surrounding white space.
func (m machine) text(name string) string {
	data, err := m.root.ReadFile(name, maxFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(data), ""))
}

func (m machine) number(name string) uint64 {
	n, _ := strconv.ParseUint(m.text(name), 10, 64)
	return n
}

func (m machine) hostname() string {
	if name := m.text("/proc/sys/kernel/hostname"); name != "" && name != "(none)" && name != "localhost" {
		return name
	}
	if name := m.text("/etc/hostname"); name != "" {
		return name
	}
	return "localhost"
}

// hypervisor returns the hypervisor that the firmware names.
func (m machine) hypervisor() string {
	if t := m.text("/sys/hypervisor/type"); t != "" {
		return t
	}
	firmware := m.text("/sys/class/dmi/id/sys_vendor") + " " + m.text("/sys/class/dmi/id/product_name")
	for name, mark := range map[string]string{
		"kvm": "QEMU", "vmware": "VMware", "virtualbox": "VirtualBox", "hyperv": "Microsoft Corporation Virtual", "bhyve": "BHYVE",
	} {
		if strings.Contains(firmware, mark) {
			return name
		}
	}
	return ""
}

func (m machine) timezone() string {
	if zone := m.text("/etc/timezone"); zone != "" {
		return zone
	}
	target, err := m.root.Readlink("/etc/localtime")
	if err != nil {
		return "UTC"
	}
	_, zone, _ := strings.Cut(target, "zoneinfo/")
	return zone
}

func (m machine) os() map[string]any {
	release := m.osRelease()
	return map[string]any{
		"name": release["PRETTY_NAME"], "vendor": release["ID"], "version": release["VERSION_ID"],
		"release": release["VERSION"], "architecture": runtime.GOARCH,
	}
}

// osRelease reads os-release(5).
func (m machine) osRelease() map[string]string {
	for _, file := range osrelease.Files {
		if text := m.text(file); text != "" {
			return osrelease.Parse([]byte(text))
		}
	}
	return nil
}

// dmi reads fields of /sys/class/dmi/id: PREFIX_FIELD, or FIELD:FILE.
func (m machine) dmi(prefix string, fields ...string) map[string]any {
	values := map[string]any{}
	for _, field := range fields {
		key, file, other := strings.Cut(field, ":")
		if !other {
			file = prefix + "_" + field
		}
		if text := m.text(path.Join("/sys/class/dmi/id", file)); text != "" {
			values[key] = text
		}
	}
	return values
}

func (m machine) chassis() map[string]any {
	values := m.dmi("chassis", "vendor", "version", "serial", "assettag:chassis_asset_tag")
	if kind := m.number("/sys/class/dmi/id/chassis_type"); kind > 0 {
		values["type"] = kind
	}
	return values
}

// memory returns the memory in MiB.
func (m machine) memory() uint64 {
	for line := range strings.Lines(m.text("/proc/meminfo")) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "MemTotal:" {
			kib, _ := strconv.ParseUint(fields[1], 10, 64)
			return kib / 1024
		}
	}
	return 0
}
