package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/tests/registry"
	"github.com/kairos-io/toolkit/tests/story"
)

// TestRepair damages a file beneath the file system and removes another: the first comes back from the
// recovery system's store, the second from the registry, and the weekly verification tells before.
func TestRepair(t *testing.T) {
	n := booted(t)
	output(t, n, "systemctl start kairos-upgrade-verify.service")
	output(t, n, "touch /run/before; kairos-upgrade stage %s", world.Ref("v2"))
	object, name := changeByte(t, n)
	// The largest object that came with v2.
	missing := output(t, n, "find /run/kairos/store/objects -type f -newer /run/before -printf '%%s %%p\n' | sort -n | tail -1 | cut -d' ' -f2")
	output(t, n, "mount -o remount,bind,rw /run/kairos/store && rm %s && mount -o remount,bind,ro /run/kairos/store", missing)

	if result := try(t, n, "systemctl start kairos-upgrade-verify.service"); result.Status == 0 {
		t.Error("the verification passes on a damaged store")
	}
	entry := output(t, n, "journalctl -b -o json MESSAGE_ID=7edede443c73400692f69b31d8819b30")
	if !strings.Contains(entry, name) || !strings.Contains(entry, `"KAIROS_DEPLOYMENTS"`) {
		t.Errorf("the journal doesn't name %s: %s", name, entry)
	}
	output(t, n, "kairos-upgrade verify --repair --dry-run >&2 || [ $? = 1 ]")

	mark := world.Registry.Mark()
	said := output(t, n, "kairos-upgrade verify --repair")
	for _, want := range []string{
		"repaired object " + name + ", from the recovery system's store",
		fmt.Sprintf("repaired object %s, from %s@sha256:", strings.ReplaceAll(strings.TrimPrefix(missing, "/run/kairos/store/objects/"), "/", ""),
			world.Registry.Host()+"/"+story.Repository),
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing in\n%s", want, said)
		}
	}
	if fetched := registry.Fetched(world.Registry.Since(mark)); fetched > 1<<20 {
		t.Errorf("%d bytes were fetched for one object of a small layer", fetched)
	}
	output(t, n, "cat %s | sha256sum", object)
	verified(t, n)
	output(t, n, "systemctl start kairos-upgrade-verify.service")
	must(t, n.Reboot(t.Context()))
	version(t, n, "v2")
	output(t, n, "cat /usr/bin/git >/dev/null")
}

// TestAuto lets a timer upgrade the node: outside of the window it waits, inside it stages and
// reboots, unless somebody inhibits that.
func TestAuto(t *testing.T) {
	n := booted(t)
	fails(t, n, 3, "kairos-upgrade auto", "Mode=off")
	config := func(window string) {
		must(t, n.WriteFile(t.Context(), "/etc/kairos/upgrade.conf", fmt.Sprintf(
			"[Upgrade]\nMode=apply\nReference=%s\nWindow=%s\nRebootDelaySec=1s\n", world.Ref("v2"), window)))
	}
	output(t, n, "mkdir -p /etc/kairos")
	config(output(t, n, "date -d tomorrow +%%a") + " 00:00..24:00")
	output(t, n, "systemctl start kairos-upgrade.service")
	waits := output(t, n, "kairos-upgrade status --json")
	if !strings.Contains(waits, `"action":"wait"`) || status(t, n).Staged != "" {
		t.Errorf("outside of the window: %s", waits)
	}

	config("00:00..24:00")
	output(t, n, "systemd-run --quiet --unit hold systemd-inhibit --what=shutdown --mode=block --why=testing sleep infinity; "+
		"until systemd-inhibit --list | grep -q testing; do read -t 0.05 <> <(:) || true; done")
	result := try(t, n, "systemctl start kairos-upgrade.service; journalctl -b -o cat -u kairos-upgrade.service")
	if !strings.Contains(result.Stdout, "nhibited") {
		t.Errorf("an inhibitor is not named: %s", result.Output())
	}
	if staged := status(t, n); staged.Find(staged.Staged) == nil || staged.Find(staged.Staged).Version != "v2" {
		t.Fatalf("v2 is not staged: %+v", staged)
	}
	output(t, n, "systemctl stop hold.service; systemctl reset-failed kairos-upgrade.service")

	next := n.Machine.Boots() + 1
	output(t, n, `mkdir -p /run/systemd/system/kairos-upgrade.timer.d
printf '[Timer]\nOnCalendar=\nOnActiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=1s\n' > /run/systemd/system/kairos-upgrade.timer.d/now.conf
systemctl daemon-reload; systemctl restart kairos-upgrade.timer`)
	must(t, n.ReadyAt(t.Context(), next))
	version(t, n, "v2")
	fails(t, n, 3, "kairos-upgrade check "+world.Ref("v2"), "is running")
	fails(t, n, 3, "kairos-upgrade check "+world.Ref("v1"), "older than v2")
	if list := output(t, n, "kairos-upgrade list-releases %s/%s", world.Registry.Host(), story.Repository); !strings.Contains(list, "v3  newer") {
		t.Errorf("v3 is not marked: %s", list)
	}
}
