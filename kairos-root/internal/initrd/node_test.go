package initrd

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/logline"
	"github.com/kairos-io/toolkit/lib/mount/namespacetest"

	"github.com/kairos-io/toolkit/kairos-root/internal/blockfs"
	"github.com/kairos-io/toolkit/kairos-root/internal/bootargs"
	"github.com/kairos-io/toolkit/kairos-root/internal/device"
	"github.com/kairos-io/toolkit/kairos-root/internal/mounttest"
)

// node is a machine with one disk, vda: ESP, config, store and data.
type node struct {
	t       *testing.T
	machine mounttest.Machine
	digest  string
	args    bootargs.Args
	log     strings.Builder
	started []string // units
	unlocks string   // what kairos-crypt-unlock@ maps, "" when there is no such unit
	run     string
	sysroot string
	store   string // of the medium
}

// liveFile is where the initramfs has a medium.
func (n *node) liveFile() string { return filepath.Join(filepath.Dir(n.machine.Dev("")), "live.img") }

// newNode makes a node with the image "full" or "bare" in its store.
func newNode(t *testing.T, image string) *node {
	namespacetest.Need(t, "erofs", "overlay", "ext4")
	n := &node{t: t, machine: mounttest.NewMachine(t), run: t.TempDir(), sysroot: t.TempDir()}
	store := t.TempDir()
	n.digest = mounttest.Store(t, store, image)
	record, err := json.Marshal(deployment.Record{
		Format: 1, ID: deployment.NewID(7, n.digest), Serial: 7, ImageDigest: "sha256:" + n.digest,
		ManifestDigest: "sha256:" + strings.Repeat("a", 64), Reference: "registry.example/os:7", Version: "7.0",
	})
	if err != nil {
		t.Fatal(err)
	}
	mounttest.Write(t, filepath.Join(store, "deployments", deployment.NewID(7, n.digest)+".json"), string(record))
	n.machine.Add("vda", "1", "COS_GRUB")
	n.disk("vda", "3", "COS_STATE", store)
	n.machine.Variable("LoaderDevicePartUUID", mounttest.UUID("vda1"))
	n.machine.Variable("LoaderEntrySelected", "kairos-"+deployment.NewID(7, n.digest)+"+2-1.conf")
	n.args = bootargs.Args{
		Image: n.digest, Store: "COS_STATE", Timeout: 50 * time.Millisecond, Fsck: bootargs.FsckAuto, Repair: bootargs.RepairPreen,
	}
	t.Cleanup(n.unmount)
	return n
}

// disk makes a partition with a file system that holds a directory's content.
func (n *node) disk(diskName, number, label, content string) {
	n.t.Helper()
	n.machine.Add(diskName, number, label)
	device := mounttest.Ext4(n.t, content)
	if err := os.Symlink(device, n.machine.Dev(diskName+number)); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) initrd() *Initrd {
	return &Initrd{
		Args:    n.args,
		Finder:  device.Finder{System: n.machine.System(), Events: device.NewEvents},
		Checker: blockfs.Checker{Mode: n.args.Fsck, Repair: n.args.Repair, Run: blockfs.Run},
		Log:     logline.New(io.MultiWriter(&n.log, n.t.Output()), "kairos-root", false),
		Status:  func(string, ...any) {},
		Extend:  func(time.Duration) {},
		Run:     n.run, Sysroot: n.sysroot, BootID: "boot\n", Kmsg: filepath.Join(n.run, "kmsg"),
		Execute: n.systemctl, LiveFile: n.liveFile(), Meminfo: "/proc/meminfo",
	}
}

// systemctl plays systemd: nothing can be mapped without dm-crypt.
func (n *node) systemctl(_ context.Context, argv ...string) (string, int, error) {
	unit := argv[len(argv)-1]
	n.started = append(n.started, unit)
	if n.unlocks == "" {
		return "Failed to start " + unit + ": Unit " + unit + " not found.\n", 5, nil
	}
	label := strings.TrimSuffix(strings.TrimPrefix(unit, "kairos-crypt-unlock@"), ".service")
	mapped := n.machine.Dev("mapper/" + label)
	return "", 0, errors.Join(os.MkdirAll(filepath.Dir(mapped), 0o755), os.Symlink(n.unlocks, mapped))
}

// boot mounts everything, as the two services do, with a layout file between.
func (n *node) boot(layout string) *Report {
	n.t.Helper()
	if err := n.initrd().MountRoot(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	if layout != "" {
		mounttest.Write(n.t, filepath.Join(n.run, "cos/cos-layout.env"), layout)
	}
	if err := n.initrd().MountWritable(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	r, err := readReport(n.run)
	if err != nil {
		n.t.Fatal(err)
	}
	return &r
}

// unmount takes everything down: what a reboot does.
func (n *node) unmount() {
	n.t.Helper()
	for _, point := range n.mounts() {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			n.t.Errorf("unmount %s: %v", point, err)
		}
	}
	for _, name := range []string{"kairos", "cos", "systemd", "initramfs"} {
		if err := os.RemoveAll(filepath.Join(n.run, name)); err != nil {
			n.t.Error(err)
		}
	}
}

// mounts returns the mount points of the node, last first.
func (n *node) mounts() []string {
	var points []string
	for line := range strings.Lines(mounttest.Content(n.t, "/proc/self/mountinfo")) {
		point := strings.Fields(line)[4]
		if strings.HasPrefix(point, n.sysroot) || strings.HasPrefix(point, n.run) {
			points = append(points, point)
		}
	}
	slices.Reverse(points)
	return points
}

func (n *node) in(name string) string { return filepath.Join(n.sysroot, name) }

func (n *node) write(name, content string) {
	n.t.Helper()
	if err := os.WriteFile(n.in(name), []byte(content), 0o644); err != nil {
		n.t.Error(err)
	}
}

func (n *node) want(name, content string) {
	n.t.Helper()
	data, err := os.ReadFile(n.in(name))
	if content == "" && errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil || string(data) != content {
		n.t.Errorf("%s: %q, %v, want %q", name, data, err, content)
	}
}
