package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/tests/story"
)

// TestCrypt installs a node with encrypted partitions. It unlocks itself, also with another image and
// another kernel command line; with its TPM cleared, or its disk in another machine, it asks for the
// recovery key, says why, and opens with that.
func TestCrypt(t *testing.T) {
	long(t)
	turn(t, 500)
	n, err := world.NewNode(t.Context(), folder(t))
	must(t, err)
	guard(t, n)
	must(t, n.StartLive(t.Context()))
	_, err = n.Install(t.Context(), os.Stdout,
		"--encrypt", "COS_OEM", "--encrypt", "COS_PERSISTENT", "--save-recovery-key", "/run/recovery-key")
	must(t, err)
	key := output(t, n, "cat /run/recovery-key")
	output(t, n, "journalctl --sync; ! journalctl -b -o cat | grep -Ff /run/recovery-key >/dev/null")
	must(t, n.Machine.PowerOff(t.Context()))

	// Without help, as often as it boots, by another kernel command line too.
	must(t, n.Start(t.Context()))
	must(t, n.Ready(t.Context()))
	version(t, n, "v1")
	unlocked(t, n, "")
	expected(t, n)
	output(t, n, "echo kept > /usr/local/data && sync")
	output(t, n, "kairos-upgrade stage --karg kairos.test=changed %s", n.Ref("v2"))
	output(t, n, "kairos-crypt status --check")
	must(t, n.Reboot(t.Context()))
	version(t, n, "v2")
	output(t, n, "grep -qw kairos.test=changed /proc/cmdline")
	unlocked(t, n, "kept")

	// The TPM forgets: TPM2_Clear with the empty password of the lockout hierarchy.
	output(t, n, `printf '\x80\x02\x00\x00\x00\x1b\x00\x00\x01\x26\x40\x00\x00\x0a\x00\x00\x00\x09\x40\x00\x00\x09\x00\x00\x00\x00\x00' > /run/clear
exec 3<>/dev/tpm0
cat /run/clear >&3 # in one write
test "$(dd bs=4096 count=1 status=none <&3 | od -An -tx1 -j6 -N4 | tr -d ' ')" = 00000000`)
	if try(t, n, "kairos-crypt status --check").Status == 0 {
		t.Error("with its TPM cleared the node is said to unlock itself")
	}
	mark, next := n.Machine.Console.Mark(), n.Machine.Boots()+1
	output(t, n, "systemctl reboot")
	typeKey(t, n, mark, key)
	must(t, n.ReadyAt(t.Context(), next))
	unlocked(t, n, "kept")
	// The TPM is taught again, by the recovery key.
	must(t, n.WriteFile(t.Context(), "/run/recovery-key", key))
	for _, label := range []string{"COS_OEM", "COS_PERSISTENT"} {
		output(t, n, "kairos-crypt rotate --key-file /run/recovery-key LABEL=%s tpm2", label)
	}
	output(t, n, "kairos-crypt status --check")

	// A key that is bound to the kernel command line too: an upgrade that changes it makes a bad boot. The
	// deployment before does better.
	output(t, n, "kairos-crypt wipe-slot --yes LABEL=COS_PERSISTENT tpm2 && kairos-crypt enroll tpm2 --pcrs 12 --key-file /run/recovery-key LABEL=COS_PERSISTENT")
	output(t, n, "kairos-upgrade stage --karg kairos.test=again %s", n.Ref("v1"))
	if try(t, n, "kairos-crypt status --check").Status == 0 {
		t.Error("the key slot is said to open after the reboot")
	}
	output(t, n, "kairos-crypt status --json | grep -E '.why_not_after.: *.PCR 12 measures the kernel command line' >/dev/null")
	output(t, n, "entry=/efi/loader/entries/kairos-%s+3.conf; mv $entry ${entry%%+3.conf}+1.conf; sync", status(t, n).Staged)
	mark, next = n.Machine.Console.Mark(), n.Machine.Boots()+1
	output(t, n, "systemctl reboot")
	asked, err := n.Machine.WaitConsole(t.Context(), mark, regexp.MustCompile(`(?s)COS_PERSISTENT_CRYPT was not unlocked.*?Recovery key( or passphrase)?:`))
	must(t, err)
	if !strings.Contains(strings.Join(strings.Fields(asked), " "), "PCR 12 (kernel command line) has changed") {
		t.Errorf("the reason is not given: %s", asked)
	}
	must(t, n.ReadyAt(t.Context(), next+1))
	version(t, n, "v2")
	unlocked(t, n, "kept")
	// What is kept of a boot is kept on COS_PERSISTENT: of this one the console tells.
	if !strings.Contains(n.Machine.Console.Text(mark), "required check unlock failed: COS_PERSISTENT stayed locked") {
		t.Error("the verdict is not on the console")
	}
	must(t, n.Machine.PowerOff(t.Context()))

	// The disk alone, in a machine with another TPM and other firmware variables.
	must(t, os.RemoveAll(filepath.Join(n.Dir, "tpm")))
	must(t, os.Remove(filepath.Join(n.Dir, "vars.fd")))
	must(t, n.Start(t.Context()))
	typeKey(t, n, 0, key)
	must(t, n.Ready(t.Context()))
	version(t, n, "v2")
	unlocked(t, n, "kept")
}

// expected checks that the boot entry names the encrypted volumes, that nobody edits it in the boot menu,
// and that an ordinary user uses the system and does not enter its store.
func expected(t *testing.T, n *story.Node) {
	t.Helper()
	for _, label := range []string{"COS_OEM", "COS_PERSISTENT"} {
		output(t, n, "grep -q %s:$(cryptsetup luksUUID /dev/disk/by-partlabel/%s) /proc/cmdline", label, label)
	}
	output(t, n, "grep -qx 'editor no' /efi/loader/loader.conf")
	output(t, n, "test $(stat -c %%a /run/kairos/store/.) = 700")
	output(t, n, "! setpriv --reuid=65534 --regid=65534 --clear-groups ls /run/kairos/store")
	output(t, n, "setpriv --reuid=65534 --regid=65534 --clear-groups cat /usr/bin/bash /etc/os-release > /dev/null")
}

// TestExchangedVolume puts a plain file system where the node's encrypted config was, with a command in it:
// it is not run, and the node says so.
func TestExchangedVolume(t *testing.T) {
	long(t)
	turn(t, 200)
	n, err := world.NewNode(t.Context(), folder(t))
	must(t, err)
	guard(t, n)
	must(t, n.StartLive(t.Context()))
	_, err = n.Install(t.Context(), os.Stdout,
		"--encrypt", "COS_OEM", "--encrypt", "COS_PERSISTENT", "--save-recovery-key", "/run/recovery-key")
	must(t, err)
	must(t, n.Machine.PowerOff(t.Context()))
	must(t, n.Start(t.Context()))
	must(t, n.Ready(t.Context()))
	unlocked(t, n, "")
	expected(t, n)

	output(t, n, `mkdir /run/evil
cat > /run/evil/99_evil.yaml << 'END'
#cloud-config
stages:
  rootfs:
    - commands: [touch /run/evil-rootfs]
  boot:
    - commands: [touch /run/evil-boot]
END
truncate -s $(blockdev --getsize64 /dev/disk/by-partlabel/COS_OEM) /run/evil.img
mkfs.ext4 -q -F -L COS_OEM -d /run/evil /run/evil.img
dd if=/run/evil.img of=/dev/disk/by-partlabel/COS_OEM bs=1M conv=fsync status=none`)
	mark := n.Machine.Console.Mark()
	must(t, n.Reboot(t.Context()))
	version(t, n, "v1")
	output(t, n, "! ls /run/evil-rootfs /run/evil-boot /oem/99_evil.yaml 2>/dev/null")
	output(t, n, `grep -q '"foreign": *"COS_OEM"' /run/kairos/booted.json`)
	output(t, n, "grep -q 'not the encrypted volume that belongs to this node' /run/kairos/degraded")
	if try(t, n, "kairos-crypt status --check").Status != 1 {
		t.Error("kairos-crypt is content")
	}
	output(t, n, "kairos-crypt status | grep '^COS_OEM: NOT WHAT BELONGS TO THIS NODE' >/dev/null")
	if !strings.Contains(n.Machine.Console.Text(mark), "COS_OEM is not used") {
		t.Error("the console does not say so")
	}
}

// unlocked checks that the node's config and data are on encrypted volumes, and are there.
func unlocked(t *testing.T, n *story.Node, data string) {
	t.Helper()
	for mount, mapped := range map[string]string{"/oem": "COS_OEM", "/run/kairos/persistent": "COS_PERSISTENT"} {
		if source := output(t, n, "findmnt -nro SOURCE %s | tail -1", mount); source != "/dev/mapper/"+mapped {
			t.Errorf("%s is on %s", mount, source)
		}
		output(t, n, "lsblk -nro FSTYPE $(readlink -f /dev/disk/by-partlabel/%s) | sed -n 1p | grep -x crypto_LUKS >/dev/null", mapped)
	}
	if name := output(t, n, "hostname"); name != "node-1" {
		t.Errorf("the host is called %q: its config is not there", name)
	}
	if is := output(t, n, "cat /usr/local/data 2>/dev/null || true"); is != data {
		t.Errorf("the data is %q, want %q", is, data)
	}
}

// typeKey types the recovery key for one volume after the other, where the console asks for it with the
// reason why.
func typeKey(t *testing.T, n *story.Node, mark int, key string) {
	t.Helper()
	for _, volume := range []string{"COS_OEM_CRYPT", "COS_PERSISTENT_CRYPT"} {
		asked, err := n.Machine.WaitConsole(t.Context(), mark, regexp.MustCompile(`(?s)`+volume+` was not unlocked.*?Recovery key( or passphrase)?:`))
		must(t, err)
		if text := strings.Join(strings.Fields(asked), " "); !strings.Contains(text, "sealed by another TPM, or this one has been cleared") {
			t.Errorf("the reason is not given: %s", text)
		}
		must(t, n.Machine.Type(key+"\n"))
	}
}
