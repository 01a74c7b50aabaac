package initrd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"

	"github.com/kairos-io/toolkit/kairos-root/internal/mounttest"
)

// liveNode is a machine without disks that boots a medium.
func liveNode(t *testing.T) *node {
	n := newNode(t, "full")
	n.store = t.TempDir()
	mounttest.Store(t, n.store, "full")
	n.machine = mounttest.NewMachine(t)
	n.args.Store = "COS_LIVE"
	return n
}

// otherStore returns a store with another image.
func (n *node) otherStore() string {
	dir := n.t.TempDir()
	mounttest.Store(n.t, dir, "bare")
	return dir
}

// configs returns a directory with the config of a medium.
func (n *node) configs(text string) string {
	dir := n.t.TempDir()
	mounttest.Write(n.t, filepath.Join(dir, "node.yaml"), text)
	return dir
}

// stick adds a disk with a medium's partitions.
func (n *node) stick(name, store, text string) {
	n.machine.Add(name, "1", "LIVE_ESP")
	n.disk(name, "4", "COS_LIVE", store)
	if text != "" {
		n.disk(name, "3", "COS_SEED", n.configs(text))
	}
}

// file makes a medium as one file: configs and store, with a partition table.
func (n *node) file(file, store, text string) {
	n.t.Helper()
	const at, size = 2 << 20, 32 << 20
	mounttest.Write(n.t, file, "")
	if err := os.Truncate(file, at+2*size+(1<<20)); err != nil {
		n.t.Fatal(err)
	}
	for i, content := range []string{n.configs(text), store} {
		part := filepath.Join(n.t.TempDir(), "part")
		run(n.t, "/usr/sbin/mkfs.ext4", "-q", "-F", "-d", content, part, "32M")
		run(n.t, "dd", "if="+part, "of="+file, "conv=notrunc,sparse", "bs=1M", fmt.Sprint("seek=", (at+i*size)>>20), "status=none")
	}
	mounttest.WriteGPT(n.t, file,
		mounttest.GPTPart{Label: "COS_SEED", UUID: mounttest.UUID("seed"), Start: at, Size: size},
		mounttest.GPTPart{Label: "COS_LIVE", UUID: mounttest.UUID("file"), Start: at + size, Size: size})
}

func run(t *testing.T, argv ...string) {
	t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		t.Skip(err)
	}
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

// seed returns the config that was taken from a medium, "" for none.
func (n *node) seed() string {
	text, _ := os.ReadFile(filepath.Join(n.run, seedDir, "node.yaml"))
	return string(text)
}

// TestLiveMedium boots from each place where a medium may be.
func TestLiveMedium(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(*node)
		disk    string
		seed    string // "" for none
		doubt   string // why
	}{
		"the booted disk": {func(n *node) {
			n.stick("sda", n.store, "other")
			n.stick("sdb", n.store, "ours")
			n.machine.Variable("LoaderDevicePartUUID", mounttest.UUID("sdb1"))
		}, "sdb", "ours", ""},
		"the booted disk, without configs": {func(n *node) {
			n.stick("sda", n.store, "other")
			n.stick("sdb", n.store, "")
			n.machine.Variable("LoaderDevicePartUUID", mounttest.UUID("sdb1"))
		}, "sdb", "", ""},
		"memory before a stick": {func(n *node) {
			n.stick("pmem0", n.store, "ours")
			n.stick("sda", n.store, "other")
		}, "pmem0", "ours", ""},
		"a CD": {func(n *node) {
			n.machine.Drive("sr0")
			n.file(n.machine.Dev("sr0"), n.store, "ours")
		}, "sr0", "ours", ""},
		"the second drive": {func(n *node) {
			n.machine.Drive("sr0")
			mounttest.Write(n.t, n.machine.Dev("sr0"), "a film")
			n.machine.Drive("sr1")
			n.file(n.machine.Dev("sr1"), n.store, "ours")
		}, "sr1", "ours", ""},
		"a CD, as the boot loader says": {func(n *node) {
			n.machine.Drive("sr0")
			n.file(n.machine.Dev("sr0"), n.store, "ours")
			n.stick("sda", n.store, "other")
			n.machine.Variable("LoaderDevicePartUUID", mounttest.UUID("file"))
		}, "sr0", "ours", ""},
		"the initramfs": {func(n *node) {
			n.file(n.liveFile(), n.store, "ours")
			n.stick("sda", n.store, "other")
		}, "", "ours", ""},
		"the stick with the image": {func(n *node) {
			n.stick("sda", n.otherStore(), "other")
			n.stick("sdb", n.store, "ours")
		}, "sdb", "ours", ""},
		"a CD of another image": {func(n *node) {
			n.machine.Drive("sr0")
			n.file(n.machine.Dev("sr0"), n.otherStore(), "other")
			n.stick("sdb", n.store, "ours")
		}, "sdb", "ours", ""},
		"nobody tells which": {func(n *node) {
			n.machine.Drive("sr0")
			n.file(n.machine.Dev("sr0"), n.store, "one")
			n.stick("sda", n.store, "two")
		}, "sr0", "", "does not tell which of them was booted"},
		"twice the same identifiers": {func(n *node) {
			n.stick("sda", n.store, "one")
			n.stick("sdb", n.store, "two")
			n.machine.Alike("sdb1", "sda1")
			n.machine.Variable("LoaderDevicePartUUID", mounttest.UUID("sda1"))
		}, "sda", "", "does not tell which of them was booted"},
		"the booted one never comes": {func(n *node) {
			n.stick("sda", n.store, "other")
			n.machine.Variable("LoaderDevicePartUUID", mounttest.UUID("sdx1"))
		}, "sda", "", "not the medium that the boot loader came from"},
	} {
		t.Run(name, func(t *testing.T) {
			n := liveNode(t)
			tc.prepare(n)
			r := n.boot("")
			if r.Booted.Mode != deployment.Live || r.Booted.Disk != tc.disk {
				t.Errorf("booted %+v", r.Booted)
			}
			if got := n.seed(); got != tc.seed {
				t.Errorf("configs %q, want %q", got, tc.seed)
			}
			if tc.doubt == "" && len(r.Degraded) > 0 || tc.doubt != "" && (len(r.Degraded) != 1 || !strings.Contains(r.Degraded[0].Reason, tc.doubt)) {
				t.Errorf("degraded %+v, want %q", r.Degraded, tc.doubt)
			}
			n.want("usr/bin/tool", mounttest.Contents["/usr/bin/tool"])
			var st unix.Statfs_t
			const want = unix.ST_RDONLY | unix.ST_NODEV | unix.ST_NOSUID | unix.ST_NOEXEC
			for _, at := range []string{"kairos/store", seedDir} {
				if at == seedDir && tc.seed == "" {
					continue
				}
				if err := unix.Statfs(filepath.Join(n.run, at), &st); err != nil || st.Flags&want != want {
					t.Errorf("%s: flags %#x, %v", at, st.Flags, err)
				}
			}
		})
	}
}

// TestNoLiveMedium sees that no other image is booted, and that the message says
// what there is.
func TestNoLiveMedium(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(*node)
		want    []string
	}{
		"nothing": {func(*node) {}, []string{"find COS_LIVE with the image", "there are no partitions", "kairos.timeout="}},
		"other images": {func(n *node) {
			n.stick("sda", n.otherStore(), "other")
			n.machine.Drive("sr0")
			n.file(n.machine.Dev("sr0"), n.otherStore(), "other")
			n.machine.Drive("sr1")
			mounttest.Write(n.t, n.machine.Dev("sr1"), "a film")
		}, []string{"sda4: image ", "is not in the store", "sr0: image ", "sr1: no GUID partition table"}},
		"the booted one is another": {func(n *node) {
			n.stick("sda", n.otherStore(), "other")
			n.stick("sdb", n.store, "")
			n.machine.Variable("LoaderDevicePartUUID", mounttest.UUID("sda1"))
		}, []string{"sda4: image ", "is not in the store"}},
		"too little memory": {func(n *node) {
			n.file(n.liveFile(), n.store, "ours")
			if err := os.Truncate(n.liveFile(), 30<<20); err != nil {
				n.t.Fatal(err)
			}
		}, []string{"live.img: cut off after 30 of 66 MiB", "MiB of memory are missing"}},
		"a partition beyond the CD": {func(n *node) {
			n.machine.Drive("sr0")
			n.file(n.machine.Dev("sr0"), n.store, "ours")
			if err := os.Truncate(n.machine.Dev("sr0"), 60<<20); err != nil {
				n.t.Fatal(err)
			}
		}, []string{"sr0: cut off after 60 of 66 MiB"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := liveNode(t)
			tc.prepare(n)
			err := n.initrd().MountRoot(t.Context())
			said := fmt.Sprint(err, "\n", exit.HintOf(err))
			for _, want := range tc.want {
				if err == nil || !strings.Contains(said, want) {
					t.Errorf("said %s\nwant %q", said, want)
				}
			}
			if left := n.mounts(); len(left) > 0 {
				t.Errorf("left mounted: %v", left)
			}
		})
	}
}
