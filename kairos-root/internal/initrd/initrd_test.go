package initrd

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/mount"
	"github.com/kairos-io/toolkit/lib/mount/namespacetest"

	"github.com/kairos-io/toolkit/kairos-root/internal/device"
	"github.com/kairos-io/toolkit/kairos-root/internal/image"
	"github.com/kairos-io/toolkit/kairos-root/internal/mounttest"
)

func TestMain(m *testing.M) { namespacetest.Main(m) }

func TestBoot(t *testing.T) {
	n := newNode(t, "full")
	oem := t.TempDir()
	mounttest.Write(t, filepath.Join(oem, "90_custom.yaml"), "#cloud-config\n")
	n.disk("vda", "2", "COS_OEM", oem)
	n.disk("vda", "4", "COS_PERSISTENT", "")
	r := n.boot("")
	if len(r.Degraded) > 0 {
		t.Errorf("degraded: %v", r.Degraded)
	}
	want := deployment.Booted{
		ID: deployment.NewID(7, n.digest), Mode: deployment.Active, Store: "COS_STATE", ImageDigest: "sha256:" + n.digest,
		ManifestDigest: "sha256:" + strings.Repeat("a", 64), Reference: "registry.example/os:7", Version: "7.0",
		Device: n.machine.Dev("vda3"), Disk: "vda", ESP: mounttest.UUID("vda1"),
		Entry: "kairos-" + deployment.NewID(7, n.digest), BootID: "boot",
	}
	if got, err := deployment.ReadBooted(filepath.Join(n.run, "kairos/booted.json")); err != nil || got != want {
		t.Errorf("booted %+v, %v\nwant %+v", got, err, want)
	}
	if got := mounttest.Content(t, filepath.Join(n.run, "cos/active_mode")); got != "1" {
		t.Errorf("active_mode: %q", got)
	}
	esp := mounttest.UUID("vda1")
	check := `systemd-fsck@dev-disk-by\x2dpartuuid-` + strings.ReplaceAll(esp, "-", `\x2d`) + ".service\n"
	mount := mounttest.Content(t, filepath.Join(n.run, "systemd/system/efi.mount"))
	for _, want := range []string{"\nWhat=/dev/disk/by-partuuid/" + esp + "\n", "\nWants=" + check, "\nAfter=" + check} {
		if !strings.Contains(mount, want) || strings.Contains(mount, "@D") {
			t.Errorf("efi.mount has no %q: %q", want, mount)
		}
	}
	n.want("oem/90_custom.yaml", "#cloud-config\n")
	n.want("usr/bin/tool", mounttest.Contents["/usr/bin/tool"])
	n.want("usr/local/bin/agent", mounttest.Contents["/usr/local/bin/agent"])
	n.want("root/.bashrc", mounttest.Contents["/root/.bashrc"])
	for _, name := range []string{"new", "usr/new", "usr/bin/tool"} {
		if err := os.WriteFile(n.in(name), nil, 0o644); !errors.Is(err, unix.EROFS) {
			t.Errorf("write %s: %v", name, err)
		}
	}
	for _, name := range []string{imageDir, lowerDir} {
		if _, err := os.Stat(filepath.Join(n.run, "kairos", name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
	n.checkStore()
}

// checkStore sees that the store cannot be written through its mount, and that
// its file system could be.
func (n *node) checkStore() {
	n.t.Helper()
	store := filepath.Join(n.run, "kairos/store")
	if err := os.WriteFile(filepath.Join(store, "x"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		n.t.Errorf("write to the store: %v", err)
	}
	dir, err := os.Open(store)
	if err != nil {
		n.t.Fatal(err)
	}
	defer dir.Close()
	view, err := mount.Clone(dir)
	if err != nil {
		n.t.Fatal(err)
	}
	defer view.Close()
	if err := view.SetAttr(0); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(view.Path(), "x"), nil, 0o644); err != nil {
		n.t.Errorf("write to a writable view of the store: %v", err)
	}
}

// TestReboot sees what stays and what goes.
func TestReboot(t *testing.T) {
	n := newNode(t, "full")
	n.disk("vda", "4", "COS_PERSISTENT", "")
	n.boot("")
	id := mounttest.Content(t, n.in("etc/machine-id"))
	if !isMachineID(strings.TrimSpace(id)) || id == "old-id\n" {
		t.Errorf("machine id %q", id)
	}
	for _, name := range []string{
		"etc/drift", "etc/os-release", "var/drift", "srv/drift", // gone
		"etc/ssh/host_key", "etc/rancher/config", "var/log/journal", "var/lib/containerd/db", "root/own", "home/user", // kept
		"usr/local/own", "usr/local/bin/own", "opt/own", "usr/libexec/own",
	} {
		n.write(name, "changed")
	}
	n.write("etc/ssh/sshd_config", "edited")
	for _, gone := range []string{"root/.bashrc", "usr/local/bin/agent", "etc/systemd/system"} {
		if err := os.Remove(n.in(gone)); err != nil {
			t.Error(err)
		}
	}
	// Renaming a directory of the image works in an ephemeral path.
	if err := os.Rename(n.in("etc/systemd"), n.in("etc/systemd.old")); err == nil {
		t.Error("a mount point was renamed")
	}
	if err := os.Chmod(n.in("var/log/installed"), 0o600); err != nil {
		t.Error(err)
	}
	n.unmount()
	n.boot("")
	for _, name := range []string{"etc/drift", "var/drift", "srv/drift", "root/.bashrc", "usr/local/bin/agent"} {
		n.want(name, "")
	}
	n.want("etc/os-release", "ID=kairos-test\n")
	for _, name := range []string{
		"etc/ssh/host_key", "etc/rancher/config", "var/log/journal", "var/lib/containerd/db", "root/own", "home/user",
		"usr/local/own", "usr/local/bin/own", "opt/own", "usr/libexec/own",
	} {
		n.want(name, "changed")
	}
	n.want("etc/ssh/sshd_config", "edited")
	n.want("etc/machine-id", id)
	n.want("usr/local/etc/machine-id", id)
	n.want("opt/vendor/data", mounttest.Contents["/opt/vendor/data"])
	n.want("var/log/installed", mounttest.Contents["/var/log/installed"])
	if _, err := os.Stat(n.in("etc/systemd/system")); err == nil {
		t.Error("a removed directory came back")
	}
	n.want("usr/local/.state/etc-ssh.bind/host_key", "changed")
	n.want("usr/local/.state/var-lib-containerd.bind/db", "changed")
}

// TestNextImage sees that nothing of an old image is left in the next one.
func TestNextImage(t *testing.T) {
	n := newNode(t, "full")
	n.disk("vda", "4", "COS_PERSISTENT", "")
	n.boot("")
	n.write("etc/ssh/own", "own")
	n.write("usr/local/bin/own", "own")
	n.unmount()

	bare := newNode(t, "bare") // has no /usr/local
	bare.machine.Add("vda", "4", "COS_PERSISTENT")
	if err := os.Symlink(mustLink(t, n.machine.Dev("vda4")), bare.machine.Dev("vda4")); err != nil {
		t.Fatal(err)
	}
	r := bare.boot("")
	if want := []string{"efi", "oem", "sys", "usr/local"}; !slices.Equal(r.Added, want) {
		t.Errorf("added %v, want %v", r.Added, want)
	}
	bare.want("etc/ssh/own", "own")
	bare.want("etc/ssh/sshd_config", mounttest.Contents["/etc/ssh/sshd_config"])
	bare.want("usr/local/bin/own", "own")
	bare.want("usr/local/bin/agent", "")
}

func mustLink(t *testing.T, name string) string {
	t.Helper()
	target, err := os.Readlink(name)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestWithoutPersistent(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare  func(*node)
		mode     deployment.Mode
		degraded string
	}{
		"missing": {func(*node) {}, deployment.Active, "find COS_PERSISTENT on any disk"},
		"no file system": {func(n *node) {
			n.machine.Add("vda", "4", "COS_PERSISTENT")
			mounttest.Write(n.t, n.machine.Dev("vda4"), "nothing")
		}, deployment.Active, "not a known file system"},
		"locked": {func(n *node) {
			n.machine.Add("vda", "4", "COS_PERSISTENT")
			mounttest.Write(n.t, n.machine.Dev("vda4"), "LUKS\xba\xbe")
		}, deployment.Active, "Unit kairos-crypt-unlock@COS_PERSISTENT.service not found"},
		"recovery": {func(n *node) {
			n.machine.Add("vda", "5", "COS_RECOVERY")
			n.disk("vda", "4", "COS_PERSISTENT", "")
			_ = os.Rename(n.machine.Dev("vda3"), n.machine.Dev("vda5"))
			n.args.Store = "COS_RECOVERY"
		}, deployment.Recovery, ""},
		"live": {func(n *node) {
			n.machine.Add("vda", "5", "COS_LIVE")
			_ = os.Rename(n.machine.Dev("vda3"), n.machine.Dev("vda5"))
			n.args.Store = "COS_LIVE"
		}, deployment.Live, ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, "full")
			tc.prepare(n)
			r := n.boot("")
			if r.Booted.Mode != tc.mode || r.Persistent != "" {
				t.Errorf("mode %s, persistent %q", r.Booted.Mode, r.Persistent)
			}
			if _, err := os.Stat(filepath.Join(n.run, "cos", string(tc.mode)+"_mode")); err != nil {
				t.Error(err)
			}
			_, err := os.Stat(filepath.Join(n.run, "kairos/degraded"))
			if (err == nil) != (tc.degraded != "") || (len(r.Degraded) > 0) != (tc.degraded != "") {
				t.Errorf("degraded: %v, %v", r.Degraded, err)
			}
			if tc.degraded != "" && !strings.Contains(r.Degraded[0].Reason, tc.degraded) {
				t.Errorf("degraded: %v, want %q", r.Degraded, tc.degraded)
			}
			for _, name := range []string{"etc/x", "var/log/x", "home/x", "root/x", "opt/x", "usr/local/x", "usr/local/bin/x"} {
				n.write(name, "changed")
			}
			n.want("usr/local/bin/agent", mounttest.Contents["/usr/local/bin/agent"])
			if id := strings.TrimSpace(mounttest.Content(t, n.in("etc/machine-id"))); !isMachineID(id) {
				t.Errorf("machine id %q", id)
			}
		})
	}
}

// TestUnlocked sees that an encrypted partition is unlocked by its unit, and that
// what is mounted is what it maps.
func TestUnlocked(t *testing.T) {
	n := newNode(t, "full")
	n.machine.Add("vda", "4", "COS_PERSISTENT")
	mounttest.Write(t, n.machine.Dev("vda4"), "LUKS\xba\xbe")
	n.unlocks = mounttest.Ext4(t, "")
	r := n.boot("")
	if want := []string{"kairos-crypt-unlock@COS_PERSISTENT.service"}; !slices.Equal(n.started, want) {
		t.Errorf("started %v, want %v", n.started, want)
	}
	if want := n.machine.Dev("mapper/COS_PERSISTENT"); r.Persistent != want || len(r.Degraded) > 0 {
		t.Errorf("persistent %q, want %q; degraded %v", r.Persistent, want, r.Degraded)
	}
}

// volume makes a partition that looks like an encrypted volume.
func (n *node) volume(number, label, uuid string) {
	n.machine.Add("vda", number, label)
	header := make([]byte, 4096)
	copy(header, "LUKS\xba\xbe\x00\x02")
	copy(header[168:], uuid)
	mounttest.Write(n.t, n.machine.Dev("vda"+number), string(header))
}

// TestForeignVolume sees that nothing is mounted in the place of an encrypted
// volume that belongs to the node: no plain file system, whose commands would be
// run as root, and no other volume, which the same TPM might open.
func TestForeignVolume(t *testing.T) {
	const ours, other = "01234567-89ab-cdef-0123-456789abcdef", "11111111-2222-3333-4444-555555555555"
	evil := t.TempDir()
	mounttest.Write(t, filepath.Join(evil, "99_evil.yaml"), "#cloud-config\n")
	for name, tc := range map[string]struct {
		prepare func(*node)
		foreign string
		opens   int
	}{
		"ours":      {func(n *node) { n.volume("2", "COS_OEM", ours); n.volume("4", "COS_PERSISTENT", other) }, "", 2},
		"plain":     {func(n *node) { n.disk("vda", "2", "COS_OEM", evil); n.disk("vda", "4", "COS_PERSISTENT", evil) }, "COS_OEM COS_PERSISTENT", 0},
		"exchanged": {func(n *node) { n.volume("2", "COS_OEM", other); n.volume("4", "COS_PERSISTENT", ours) }, "COS_OEM COS_PERSISTENT", 0},
		"no UUID":   {func(n *node) { n.volume("2", "COS_OEM", ""); n.volume("4", "COS_PERSISTENT", other) }, "COS_OEM", 1},
		"UUID copied": {func(n *node) {
			n.args.Volumes["COS_OEM"] += ":0123456789abcdef0123456789abcdef"
			n.volume("2", "COS_OEM", ours)
			n.volume("4", "COS_PERSISTENT", other)
		}, "COS_OEM", 1},
		"OEM is off": {func(n *node) { n.volume("4", "COS_PERSISTENT", other) }, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, "full")
			n.args.Volumes = deployment.Volumes{"COS_OEM": ours, "COS_PERSISTENT": other}
			tc.prepare(n)
			n.unlocks = mounttest.Ext4(t, "")
			mounttest.Write(t, filepath.Join(n.run, "kmsg"), "")
			r := n.boot("")
			n.want("oem/99_evil.yaml", "")
			if len(n.started) != tc.opens || r.Booted.Foreign != tc.foreign {
				t.Errorf("unlocked %v, foreign %q", n.started, r.Booted.Foreign)
			}
			if want := tc.opens < 2; (len(r.Degraded) > 0) != want {
				t.Errorf("degraded: %v", r.Degraded)
			}
			booted, err := deployment.ReadBooted(filepath.Join(n.run, "kairos/booted.json"))
			if err != nil || booted.Foreign != tc.foreign {
				t.Errorf("booted.json: %+v, %v", booted, err)
			}
			if said := mounttest.Content(t, filepath.Join(n.run, "kmsg")); strings.Count(said, "<2>kairos-root: COS_") != len(strings.Fields(tc.foreign)) {
				t.Errorf("on the console: %q", said)
			}
		})
	}
}

// coming is a device whose driver is loaded while it is waited for.
type coming struct {
	t      *testing.T
	node   string
	waited *int
}

func (c coming) Wait(time.Time) error {
	*c.waited++
	mounttest.Write(c.t, c.node, "")
	return nil
}

func (coming) Close() error { return nil }

// TestAwaitTPM sees that a TPM is waited for where the firmware has one, and
// nowhere else.
func TestAwaitTPM(t *testing.T) {
	for _, firmware := range []bool{false, true} {
		n := newNode(t, "full")
		if firmware {
			mounttest.Write(t, filepath.Join(n.machine.System().Sys, "firmware/acpi/tables/TPM2"), "TPM2")
		}
		i, waited := n.initrd(), 0
		i.Finder.Events = func() (device.Events, error) { return coming{t, n.machine.Dev("tpmrm0"), &waited}, nil }
		i.awaitTPM(t.Context())
		i.awaitTPM(t.Context()) // it is there now
		if want := map[bool]int{true: 1}[firmware]; waited != want {
			t.Errorf("firmware has a TPM: %v, waited %d times, want %d", firmware, waited, want)
		}
	}
}

// TestDamaged sees that a file system that says it has errors is checked, and
// that one with errors that e2fsck leaves is not written to.
func TestDamaged(t *testing.T) {
	n := newNode(t, "full")
	n.disk("vda", "4", "COS_PERSISTENT", "")
	device := mustLink(t, n.machine.Dev("vda4"))
	debugfs := exec.Command("/usr/sbin/debugfs", "-w", "-R", "ssv state 3", device)
	if out, err := debugfs.CombinedOutput(); err != nil {
		t.Skipf("debugfs: %v\n%s", err, out)
	}
	i := n.initrd()
	checks := 0
	i.Checker.Run = func(context.Context, ...string) (string, int, error) { checks++; return "bad\n", 4, nil }
	if err := i.MountRoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := i.MountWritable(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := readReport(n.run)
	if err != nil || checks != 1 || r.Persistent != "" || len(r.Degraded) != 1 {
		t.Errorf("%d checks, report %+v, %v", checks, r, err)
	}
	n.unmount()
	if r := n.boot(""); r.Persistent == "" || len(r.Degraded) != 0 {
		t.Errorf("after the repair: %+v", r)
	}
}

// TestDamagedState sees that a path whose state cannot be used becomes an
// ephemeral one, and all others stay what they are.
func TestDamagedState(t *testing.T) {
	n := newNode(t, "full")
	content := t.TempDir()
	for _, name := range []string{"home", "var-log", "etc-ssh"} {
		mounttest.Write(t, filepath.Join(content, ".state", name+".bind"), "a file")
	}
	n.disk("vda", "4", "COS_PERSISTENT", content)
	r := n.boot("")
	if len(r.Degraded) != 3 || !strings.Contains(r.Degraded[1].Reason, "is not a directory") {
		t.Errorf("degraded: %v", r.Degraded)
	}
	for _, name := range []string{"home/x", "var/log/x", "etc/ssh/x", "root/x"} {
		n.write(name, "written")
	}
	n.unmount()
	n.boot("")
	for _, name := range []string{"home/x", "var/log/x", "etc/ssh/x"} {
		n.want(name, "")
	}
	n.want("root/x", "written")
}

// TestAttributes looks at what may be done on the mounts.
func TestAttributes(t *testing.T) {
	n := newNode(t, "full")
	n.disk("vda", "2", "COS_OEM", "")
	n.disk("vda", "4", "COS_PERSISTENT", "")
	n.boot("")
	const all = unix.ST_RDONLY | unix.ST_NODEV | unix.ST_NOSUID | unix.ST_NOEXEC
	for name, want := range map[string]int64{
		".": unix.ST_RDONLY, "etc": unix.ST_NODEV, "var": 0, "var/log": 0, "home": unix.ST_NODEV, "etc/ssh": unix.ST_NODEV,
		"usr/local": unix.ST_NODEV, "usr/local/bin": unix.ST_NODEV, "oem": unix.ST_NODEV | unix.ST_NOSUID,
	} {
		var st unix.Statfs_t
		if err := unix.Statfs(n.in(name), &st); err != nil || st.Flags&all != want {
			t.Errorf("%s: flags %#x, %v, want %#x", name, st.Flags&all, err, want)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(*node)
		want    string
	}{
		"no store":  {func(n *node) { n.args.Store = "COS_RECOVERY" }, "find COS_RECOVERY on any disk"},
		"no image":  {func(n *node) { n.args.Image = strings.Repeat("0", 64) }, "is not in the store"},
		"no verity": {func(n *node) { n.args.Verity = true }, "fs-verity"},
		"two stores": {func(n *node) {
			n.machine.Add("vdb", "1", "COS_RECOVERY")
			n.machine.Add("vdc", "1", "COS_RECOVERY")
			n.args.Store = "COS_RECOVERY"
		}, "vdc1"},
		"wrong image": {func(n *node) { n.args.Image = n.otherImage() }, image.ErrDigest.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, "full")
			tc.prepare(n)
			err := n.initrd().MountRoot(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			if exit.HintOf(err) == "" && name != "two stores" {
				t.Error("no hint")
			}
			if left := n.mounts(); len(left) > 0 {
				t.Errorf("left mounted: %v", left)
			}
		})
	}
}

// otherImage puts a copy of the image into the store under another name.
func (n *node) otherImage() string {
	at := n.t.TempDir()
	device := mustLink(n.t, n.machine.Dev("vda3"))
	if err := unix.Mount(device, at, "ext4", 0, ""); err != nil {
		n.t.Fatal(err)
	}
	defer mount.Detach(at)
	other := strings.Repeat("1", 64)
	mounttest.Write(n.t, filepath.Join(at, "images", other), mounttest.Content(n.t, filepath.Join(at, "images", n.digest)))
	return other
}

// TestLayout sees that a node's config extends the layout, and that what is
// wrong in it takes nothing away.
func TestLayout(t *testing.T) {
	n := newNode(t, "full")
	n.disk("vda", "4", "COS_PERSISTENT", "")
	n.disk("vdb", "1", "DATA", "")
	r := n.boot("CUSTOM_BIND_MOUNTS=\"/var/lib/docker relative\"\nVOLUMES=LABEL=DATA:/srv/data\nOVERLAY=tmpfs:1m\nVOLUME=x\nCUSTOM_EPHEMERAL_MOUNTS=/srv/scratch\n")
	if len(r.Degraded) != 1 || !strings.Contains(r.Degraded[0].Reason, `path "relative"`) || !strings.Contains(r.Degraded[0].Reason, "VOLUME: unknown") {
		t.Errorf("degraded: %v", r.Degraded)
	}
	n.write("var/lib/docker/x", "kept")
	n.write("srv/data/x", "kept")
	n.write("srv/scratch/x", "gone at the next boot")
	if mounted, err := mount.IsMountPoint(n.in("srv/scratch")); !mounted {
		t.Errorf("/srv/scratch is not mounted: %v", err)
	}
	if err := os.WriteFile(n.in("etc/big"), make([]byte, 2<<20), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("2 MiB in an overlay of 1 MiB: %v", err)
	}
	n.unmount()
	n.boot("CUSTOM_BIND_MOUNTS=/var/lib/docker\nVOLUMES=LABEL=DATA:/srv/data\n")
	n.want("var/lib/docker/x", "kept")
	n.want("srv/data/x", "kept")
	if _, err := os.Stat(n.in("srv/scratch")); err == nil {
		t.Error("/srv/scratch is still there")
	}
}

// TestMissingVolumes sees that many missing volumes are waited for once.
func TestMissingVolumes(t *testing.T) {
	n := newNode(t, "full")
	n.disk("vda", "4", "COS_PERSISTENT", "")
	n.args.Timeout = 2 * time.Second // for each it would be 16 s
	start := time.Now()
	r := n.boot("VOLUMES='LABEL=A:/srv/a LABEL=B:/srv/b LABEL=C:/srv/c LABEL=D:/srv/d LABEL=E:/srv/e LABEL=F:/srv/f LABEL=G:/srv/g LABEL=H:/srv/h'")
	if len(r.Degraded) != 8 || time.Since(start) > 8*n.args.Timeout {
		t.Errorf("%d degraded after %v", len(r.Degraded), time.Since(start))
	}
	if r.Persistent == "" {
		t.Error("COS_PERSISTENT is not mounted")
	}
}

// TestOverlayDepth sees that an overlay still fits on an ephemeral path, as
// systemd-confext and container runtimes make them.
func TestOverlayDepth(t *testing.T) {
	n := newNode(t, "full")
	n.boot("")
	for _, dir := range []string{"etc", "var/lib"} {
		o := image.Overlay{Lower: []string{n.in("usr/lib"), n.in(dir)}}
		tree, err := o.Create(mount.ReadOnly)
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		tree.Close()
	}
}

func TestTwice(t *testing.T) {
	n := newNode(t, "full")
	if err := n.initrd().MountWritable(t.Context()); err == nil || !strings.Contains(err.Error(), "comes first") {
		t.Errorf("writable before root: %v", err)
	}
	n.boot("")
	before := n.mounts()
	if err := n.initrd().MountRoot(t.Context()); err == nil || !strings.Contains(err.Error(), "mounted already") {
		t.Errorf("root again: %v", err)
	}
	if err := n.initrd().MountWritable(t.Context()); err == nil || !strings.Contains(err.Error(), "mounted already") {
		t.Errorf("writable again: %v", err)
	}
	if !slices.Equal(before, n.mounts()) {
		t.Error("the second call changed the mounts")
	}
}
