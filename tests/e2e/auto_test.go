package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/tests/story"
)

// TestAuto lets a timer upgrade the node: outside of the window it waits, inside it stages and
// reboots, unless somebody inhibits that.
func TestAuto(t *testing.T) {
	turn(t, 80)
	n := booted(t)
	fails(t, n, 3, "kairos-upgrade auto", "Mode=off")
	config := func(window string) {
		must(t, n.WriteFile(t.Context(), "/etc/kairos/upgrade.conf", fmt.Sprintf(
			"[Upgrade]\nMode=apply\nReference=%s\nWindow=%s\nRebootDelaySec=1s\n", n.Ref("v2"), window)))
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
		"until systemd-inhibit --list | grep testing >/dev/null; do read -t 0.05 <> <(:) || true; done")
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
	fails(t, n, 3, "kairos-upgrade check "+n.Ref("v2"), "is running")
	fails(t, n, 3, "kairos-upgrade check "+n.Ref("v1"), "older than v2")
	if list := output(t, n, "kairos-upgrade list-releases %s/%s", n.Registry.Host(), story.Repository); !strings.Contains(list, "v3  newer") {
		t.Errorf("v3 is not marked: %s", list)
	}
}
