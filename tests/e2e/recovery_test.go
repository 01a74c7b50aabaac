package e2e

import (
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/tests/story"
)

// The paths of systemd-boot on the ESP, and in the image.
const (
	carriedLoader  = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
	mainLoader     = "/efi/EFI/systemd/systemd-bootx64.efi"
	previousLoader = "/efi/EFI/systemd/systemd-bootx64.previous.efi"
	fallbackLoader = "/efi/EFI/BOOT/BOOTX64.EFI"
)

// TestLoaderUpgrade boots through an older systemd-boot than the deployment carries: the one of the
// deployment with another version in it. It is replaced after the boot, kept beside, and on the fallback
// path replaced only after a boot through the new one.
func TestLoaderUpgrade(t *testing.T) {
	long(t)
	n := booted(t)
	output(t, n, `systemctl start kairos-upgrade-loader.service # what is installed is what is carried
cmp %[1]s %[2]s && cmp %[1]s %[3]s
LC_ALL=C sed -b 's/systemd-boot 257/systemd-boot 157/g; s/2\x005\x007\x00\.\x00/1\x005\x007\x00.\x00/g' %[1]s > /run/older.efi
! cmp -s %[1]s /run/older.efi
mount -o remount,rw /efi
cp /run/older.efi %[2]s && cp /run/older.efi %[3]s && sync
cp /run/older.efi /usr/local/older.efi`, carriedLoader, mainLoader, fallbackLoader)
	must(t, n.Reboot(t.Context()))

	// Starting the unit waits for the one of the boot, and then has nothing to do.
	upgraded := func() string {
		t.Helper()
		return output(t, n, "systemctl start kairos-upgrade-loader.service && kairos-upgrade status --json")
	}
	state := upgraded()
	for _, want := range []string{`"running":"157.`, `"image":"EFI/systemd/systemd-bootx64.efi"`, `"previous":"157.`, `"fallback":"157.`, `"action":"none"`} {
		if !strings.Contains(state, want) {
			t.Errorf("after the first boot the status has no %s:\n%s", want, state)
		}
	}
	output(t, n, "cmp %s %s && cmp %s /usr/local/older.efi && cmp %s /usr/local/older.efi",
		carriedLoader, mainLoader, previousLoader, fallbackLoader)
	output(t, n, "journalctl -b MESSAGE_ID=29132436653f4e19a07dd364e808279a | grep 'write systemd-boot 257.*systemd-bootx64.efi' > /dev/null")

	must(t, n.Reboot(t.Context()))
	state = upgraded()
	if !strings.Contains(state, `"running":"257.`) || strings.Contains(state, `"fallback":"157.`) {
		t.Errorf("after the second boot the status is\n%s", state)
	}
	output(t, n, "cmp %s %s && cmp %[1]s %s && cmp %s /usr/local/older.efi", carriedLoader, mainLoader, fallbackLoader, previousLoader)
	verified(t, n)
}

// TestLoaderOnTrial carries a newer systemd-boot in a deployment that is on trial: it is not installed.
func TestLoaderOnTrial(t *testing.T) {
	n := booted(t)
	output(t, n, `cd /efi/loader/entries && mount -o remount,rw /efi
entry=$(ls kairos-[0-9]*.conf) && mv $entry ${entry%%.conf}+2-1.conf && sync
LC_ALL=C sed -b 's/systemd-boot 257/systemd-boot 157/g' %s > %s && sync`, carriedLoader, mainLoader)
	fails(t, n, 3, "kairos-upgrade loader", "nothing to do: the running deployment has not been found good yet")
	output(t, n, "grep -aq 'systemd-boot 157' %s", mainLoader)
}

// TestRecoveryRenewed renews the recovery system, destroys both deployments with dd, beneath the file
// system, and lets the recovery system repair the node by itself.
func TestRecoveryRenewed(t *testing.T) {
	long(t)
	n := booted(t)
	before := output(t, n, "grep -o 'kairos.image=.*' /efi/loader/entries/kairos-recovery.conf")
	// v3 is bad for a node, and recovery is not judged.
	output(t, n, "kairos-upgrade stage --recovery %s", world.Ref("v3"))
	if after := output(t, n, "grep -o 'kairos.image=.*' /efi/loader/entries/kairos-recovery.conf"); after == before {
		t.Fatalf("the recovery system's entry is still %s", before)
	}
	output(t, n, "kairos-upgrade verify --recovery && kairos-upgrade stage %s", world.Ref("v2"))

	output(t, n, `cat > /oem/91_repair.yaml <<'END'
#cloud-config
name: recovery repairs the node
stages:
  boot:
  - files:
    - path: /etc/kairos/upgrade.conf
      permissions: 0644
      content: |
        [Recovery]
        Repair=yes
END
kairos-config validate /oem/91_repair.yaml`)
	// Both have used up their tries.
	output(t, n, `mount -o remount,rw /efi && cd /efi/loader/entries
for entry in kairos-[0-9]*.conf; do base=${entry%%.conf}; mv $entry ${base%%+*}+0-3.conf; done
sync; test "$(ls kairos-[0-9]*+0-3.conf | wc -l)" = 2`)
	next, mark := n.Machine.Boots()+1, n.Machine.Console.Mark()
	destroyImages(t, n)
	// One boot of the recovery system, and one of what it has deployed.
	must(t, n.ReadyAt(t.Context(), next+1))

	now, err := n.Booted(t.Context())
	must(t, err)
	if now.Mode != deployment.Active || now.Store != "COS_STATE" {
		t.Fatalf("booted is %+v, want what the recovery system has deployed", now)
	}
	version(t, n, "v2")
	if console := n.Machine.Console.Text(mark); !strings.Contains(console, "its damage is repaired") {
		t.Errorf("the console says nothing of the repair")
	}
	output(t, n, `grep -q '"count":1,"deployment":"'$(sed 's/.*"id":"\([^"]*\)".*/\1/' /run/kairos/booted.json) /efi/kairos/repairs.json`)
	verified(t, n)

	// Chosen by hand, the recovery system touches nothing.
	next = n.Machine.Boots() + 1
	output(t, n, "bootctl set-oneshot kairos-recovery.conf && systemctl reboot")
	must(t, n.ReadyAt(t.Context(), next))
	output(t, n, "test -e /run/cos/recovery_mode")
	fails(t, n, 3, "kairos-upgrade recover", "chosen by hand")
}

// destroyImages writes zeros over all images of the store, where they lie on the partition, and resets the
// machine: what runs goes on with what it has in memory for as long as that takes, and no longer.
func destroyImages(t *testing.T, n *story.Node) {
	t.Helper()
	output(t, n, `store=/run/kairos/store
device=$(findmnt -no SOURCE --target $store | sed 's/\[.*//')
extents=$(filefrag -b4096 -v $store/images/* |
  sed -n 's/^ *[0-9]*: *[0-9]*\.\. *[0-9]*: *\([0-9]*\)\.\. *[0-9]*: *\([0-9]*\):.*/\1 \2/p')
test "$(wc -l <<< "$extents")" -ge 2
dd if=/dev/zero of=/dev/null bs=4096 count=1 status=none; sync # in memory from now on
( while read block count; do
    dd if=/dev/zero of=$device bs=4096 seek=$block count=$count conv=notrunc status=none
  done <<< "$extents"
  sync
  echo b > /proc/sysrq-trigger ) > /dev/null 2>&1 &`)
}
