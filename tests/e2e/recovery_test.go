package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/tests/story"
	"github.com/kairos-io/toolkit/tests/workspace"
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
	turn(t, 150)
	n := booted(t)
	output(t, n, `systemctl start kairos-upgrade-loader.service # what is installed is what is carried
cmp %[1]s %[2]s && cmp %[1]s %[3]s`, carriedLoader, mainLoader, fallbackLoader)
	output(t, n, "%s", story.OlderLoader)
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
	output(t, n, "cmp %s %s && cmp %[1]s %[3]s && cmp %[4]s /usr/local/older.efi", carriedLoader, mainLoader, fallbackLoader, previousLoader)
	verified(t, n)
}

// TestUnstableLoader lets a node count and bless through systemd-boot of Debian unstable, whose entry ids
// have no counters.
func TestUnstableLoader(t *testing.T) {
	long(t)
	turn(t, 100)
	n := booted(t)
	newerLoader(t, n)
	output(t, n, "kairos-upgrade stage --quiet %s", n.Ref("v2"))
	must(t, n.Reboot(t.Context()))
	version(t, n, "v2")
	state := output(t, n, "kairos-upgrade status --json && kairos-boot-assess status --json")
	for _, want := range []string{`"running":"26`, `"fallback":"257`, `"outcome":"good"`} {
		if !strings.Contains(state, want) {
			t.Errorf("the status has no %s:\n%s", want, state)
		}
	}
	output(t, n, "systemctl is-active systemd-bless-boot.service && ls /efi/loader/entries && ! ls /efi/loader/entries | grep +")
	output(t, n, "test $(kairos-boot-assess history --json | grep -c '\"tries_left\":2') -ge 1")
}

// newerLoader upgrades a node's boot loader to that of Debian unstable.
func newerLoader(t *testing.T, n *story.Node) {
	t.Helper()
	file := workspace.Cache("systemd-sid/usr/lib/systemd/boot/efi/systemd-bootx64.efi")
	if _, err := os.Stat(file); err != nil {
		t.Fatalf("%v\nhint: tests/setup --systemd", err)
	}
	result, err := n.Replace(t.Context(), file, carriedLoader)
	must(t, err)
	if result.Status != 0 {
		t.Fatal(result.Output())
	}
	output(t, n, "kairos-upgrade loader --quiet && cmp %s %s && ! cmp -s %[1]s %[3]s && umount %[1]s", carriedLoader, mainLoader, fallbackLoader)
}

// TestLoaderOnTrial carries a newer systemd-boot in a deployment that is on trial: it is not installed.
func TestLoaderOnTrial(t *testing.T) {
	turn(t, 9)
	n := booted(t)
	output(t, n, `cd /efi/loader/entries && mount -o remount,rw /efi
entry=$(ls kairos-[0-9]*.conf) && mv $entry ${entry%%.conf}+2-1.conf && sync
LC_ALL=C sed -b 's/systemd-boot 257/systemd-boot 157/g' %s > %s && sync`, carriedLoader, mainLoader)
	fails(t, n, 3, "kairos-upgrade loader", "nothing to do: the running deployment has not been found good yet")
	output(t, n, "grep -aq 'systemd-boot 157' %s", mainLoader)
}

// TestRecoveryRenewed renews the recovery system, destroys both deployments with dd, beneath the file
// system, and lets the recovery system repair the node by itself. In the end the node is reset from there.
func TestRecoveryRenewed(t *testing.T) {
	long(t)
	turn(t, 400)
	n := booted(t)
	before := output(t, n, "grep -o 'kairos.image=.*' /efi/loader/entries/kairos-recovery.conf")
	// v3 is bad for a node, and recovery is not judged.
	output(t, n, "kairos-upgrade stage --recovery %s", n.Ref("v3"))
	if after := output(t, n, "grep -o 'kairos.image=.*' /efi/loader/entries/kairos-recovery.conf"); after == before {
		t.Fatalf("the recovery system's entry is still %s", before)
	}
	output(t, n, "kairos-upgrade verify --recovery && kairos-upgrade stage %s", n.Ref("v2"))

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
	if console := n.Machine.Console.Text(mark); !strings.Contains(console, "it is repaired") {
		t.Errorf("the console says nothing of the repair")
	}
	output(t, n, `grep -qE '"count": ?1\b' /efi/kairos/repairs.json && grep -q '"%s"' /efi/kairos/repairs.json`, now.ID)
	verified(t, n)

	// Chosen by hand, the recovery system touches nothing.
	next = n.Machine.Boots() + 1
	output(t, n, "bootctl set-oneshot kairos-recovery.conf && systemctl reboot")
	must(t, n.ReadyAt(t.Context(), next))
	output(t, n, "test -e /run/cos/recovery_mode")
	fails(t, n, 3, "kairos-upgrade recover", "the recovery system was chosen by hand")

	// A node is reset from there, too, and gets another image than the recovery's own.
	next = n.Machine.Boots() + 1
	output(t, n, "kairos-reset --yes --image %s && systemctl reboot", n.Ref("v1"))
	must(t, n.ReadyAt(t.Context(), next+1))
	version(t, n, "v1")
	if entries := output(t, n, "ls /efi/loader/entries | wc -l"); entries != "2" {
		t.Errorf("%s boot entries, want one of the node and one of recovery", entries)
	}
	verified(t, n)
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
