package facts

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
)

// machineFiles are those of a small machine, as Linux shows them.
var machineFiles = map[string]string{
	"etc/machine-id": "0123456789abcdef0123456789abcdef\n", "etc/hostname": "from-file\n",
	"usr/lib/os-release":            "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nID=debian\nVERSION_ID=\"13\"\nVERSION='13 (trixie)'\n# x\n",
	"proc/sys/kernel/hostname":      "(none)\n",
	"proc/sys/kernel/osrelease":     "6.12.1\n",
	"proc/meminfo":                  "MemTotal:        2048000 kB\nMemFree: 1 kB\n",
	"proc/cpuinfo":                  "processor\t: 0\nvendor_id\t: X\nmodel name\t: Fast\ncpu MHz\t\t: 2000.5\ncache size\t: 512 KB\nphysical id\t: 0\ncore id\t: 0\n\nprocessor\t: 1\nphysical id\t: 0\ncore id\t: 0\n",
	"sys/class/dmi/id/sys_vendor":   "QEMU\n",
	"sys/class/dmi/id/product_uuid": "AB-CD\n",
	"sys/class/dmi/id/chassis_type": "1\n",
	"sys/class/block/vda/size":      "2000000\n", "sys/class/block/vda/device/vendor": "0x1af4\n",
	"sys/class/block/vda1/partition": "1\n", "sys/class/block/loop0/size": "1\n",
	"sys/class/net/eth0/address": "52:54:00:00:00:01\n", "sys/class/net/eth0/device/x": "", "sys/class/net/eth0/speed": "-1\n",
	"sys/class/net/lo/address": "00:00:00:00:00:00\n",
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	for name, content := range machineFiles {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/usr/share/zoneinfo/Europe/Berlin", filepath.Join(dir, "etc/localtime")); err != nil {
		t.Fatal(err)
	}
	root, err := rootfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	f := Read(root)
	if f.MachineID != "0123456789abcdef0123456789abcdef" || len(f.Random) != 32 || f.Random == Read(root).Random {
		t.Errorf("got %+v", f)
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(f.UUID) || len(f.ProtectedID) != 64 || f.ProtectedID != Read(root).ProtectedID {
		t.Errorf("got %q, %q", f.UUID, f.ProtectedID)
	}
	delete(f.Values["os"].(map[string]any), "architecture")
	delete(f.Values["kernel"].(map[string]any), "architecture")
	want := map[string]any{
		"node":    map[string]any{"hostname": "from-file", "machineid": f.MachineID, "hypervisor": "kvm", "timezone": "Europe/Berlin"},
		"os":      map[string]any{"name": "Debian GNU/Linux 13 (trixie)", "vendor": "debian", "version": "13", "release": "13 (trixie)"},
		"kernel":  map[string]any{"release": "6.12.1", "version": ""},
		"product": map[string]any{"vendor": "QEMU", "uuid": "AB-CD"}, "board": map[string]any{}, "bios": map[string]any{},
		"chassis": map[string]any{"type": uint64(1)},
		"cpu":     map[string]any{"vendor": "X", "model": "Fast", "speed": uint64(2000), "cache": uint64(512), "cpus": 1, "cores": 1, "threads": 2},
		"memory":  map[string]any{"size": uint64(2000)},
		"storage": []any{map[string]any{"name": "vda", "size": uint64(1), "vendor": "0x1af4"}},
		"network": []any{map[string]any{"name": "eth0", "macaddress": "52:54:00:00:00:01"}},
		"Random":  f.Random, "ProtectedID": f.ProtectedID,
	}
	for key, value := range want {
		if !reflect.DeepEqual(f.Values[key], value) {
			t.Errorf("%s: got  %v\nwant %v", key, f.Values[key], value)
		}
	}
	if len(f.Values) != len(want) {
		t.Errorf("got %v", f.Values)
	}
}

// TestSample: what Read may return, the sample has.
func TestSample(t *testing.T) {
	root, err := rootfs.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	sample := Sample().Values
	for key, value := range Read(root).Values {
		m, ok := value.(map[string]any)
		if !ok {
			continue
		}
		for inner := range m {
			if _, ok := sample[key].(map[string]any)[inner]; !ok {
				t.Errorf("the sample has no %s.%s", key, inner)
			}
		}
	}
}
