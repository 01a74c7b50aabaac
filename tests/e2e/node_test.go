package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/tests/medium"
	"github.com/kairos-io/toolkit/tests/vm"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// TestConfig looks for what the config of the installation asked for, and logs in by ssh.
func TestConfig(t *testing.T) {
	turn(t, 12)
	port, err := vm.FreePort()
	must(t, err)
	n := booted(t, port)
	if entry := output(t, n, "getent passwd kairos"); !strings.HasSuffix(entry, "/bin/bash") {
		t.Errorf("the user of the config is %q", entry)
	}
	output(t, n, "id -nG kairos | grep -w sudo >/dev/null")
	output(t, n, "grep -q ssh-ed25519 ~kairos/.ssh/authorized_keys")
	output(t, n, "test \"$(stat -c %%a /etc/sudoers.d/kairos)\" = 440 && su kairos -c 'sudo -n true'")
	output(t, n, "grep -q booted /run/node-was-here")
	output(t, n, "test -e /run/cos/active_mode")
	output(t, n, "test -s /oem/90_custom.yaml")

	login, err := n.Login(t.Context())
	must(t, err)
	out, err := workspace.RunTool(t.Context(), login[0], append(login[1:], "sudo -n id -un; hostname")...)
	must(t, err)
	if out != "root\nnode-1\n" {
		t.Errorf("by ssh: %s", out)
	}
}

// TestSecondDisk adds a disk with the same labels on every partition, found before the node's own, with
// a config of its own: nothing changes.
func TestSecondDisk(t *testing.T) {
	long(t)
	turn(t, 70)
	config, impostor := t.TempDir(), filepath.Join(t.TempDir(), "impostor.raw")
	must(t, os.WriteFile(filepath.Join(config, "99_impostor.yaml"), []byte("#cloud-config\nhostname: impostor\n"), 0o644))
	must(t, medium.Write(t.Context(), impostor,
		medium.Partition{Kind: "esp", Label: "COS_GRUB", Format: "vfat", Size: 64 << 20},
		medium.Partition{Kind: "linux-generic", Label: "COS_OEM", Format: "ext4", From: config, Size: 64 << 20},
		medium.Partition{Kind: "linux-generic", Label: "COS_RECOVERY", Format: "ext4", Size: 64 << 20},
		medium.Partition{Kind: "linux-generic", Label: "COS_STATE", Format: "ext4", Size: 64 << 20},
		medium.Partition{Kind: "linux-generic", Label: "COS_PERSISTENT", Format: "ext4", Size: 64 << 20},
	))
	n, err := world.FromInstalled(t.Context(), folder(t))
	must(t, err)
	guard(t, n)
	must(t, n.StartBehind(t.Context(), vm.Disk{Name: "impostor", Path: impostor, Format: "raw"}))
	must(t, n.Ready(t.Context()))
	after, err := n.Booted(t.Context())
	must(t, err)
	if own := output(t, n, "basename $(readlink -f /dev/disk/by-id/virtio-system)"); after.Disk != own {
		t.Errorf("the node runs from %s, its disk is %s", after.Disk, own)
	}
	if after.Mode != deployment.Active || after.Store != "COS_STATE" {
		t.Errorf("booted is %+v", after)
	}
	if name := output(t, n, "hostname"); name != "node-1" {
		t.Errorf("the host is called %q: the config of the other disk was taken", name)
	}
	foreign := output(t, n, "findmnt -nro SOURCE,TARGET | grep \"^$(readlink -f /dev/disk/by-id/virtio-impostor)\" || true")
	if foreign != "" {
		t.Errorf("partitions of the other disk are mounted:\n%s", foreign)
	}
	// The ESP is mounted on demand: it must be this disk's too.
	output(t, n, "ls /efi/loader/entries/ | grep ^kairos- >/dev/null")
	verified(t, n)
}

// TestRecovery boots the recovery system and stages v2 from there.
func TestRecovery(t *testing.T) {
	turn(t, 145)
	n := booted(t)
	next := n.Machine.Boots() + 1
	output(t, n, "bootctl set-oneshot kairos-recovery.conf && systemctl reboot")
	must(t, n.ReadyAt(t.Context(), next))
	booted, err := n.Booted(t.Context())
	must(t, err)
	if booted.Mode != deployment.Recovery || booted.Store != "COS_RECOVERY" {
		t.Fatalf("booted is %+v, want the recovery system", booted)
	}
	output(t, n, "test -e /run/cos/recovery_mode")
	output(t, n, "script -qec 'agetty --show-issue' /dev/null </dev/null | grep 'RECOVERY SYSTEM' >/dev/null")
	output(t, n, "kairos-upgrade stage %s", n.Ref("v2"))
	must(t, n.Reboot(t.Context()))
	version(t, n, "v2")
	booted, err = n.Booted(t.Context())
	must(t, err)
	if booted.Mode != deployment.Active || booted.Store != "COS_STATE" {
		t.Errorf("booted is %+v, want the system that recovery has staged", booted)
	}
}
