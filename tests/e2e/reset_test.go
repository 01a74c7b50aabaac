package e2e

import (
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/deployment"
)

// TestReset resets a running node: cancelled, nothing has happened; armed, the recovery system erases the
// data, keeps the config, and lays its own image down; a node as new boots.
func TestReset(t *testing.T) {
	turn(t, 200)
	n := booted(t)
	next := n.Machine.Boots() + 1
	output(t, n, "echo old > /usr/local/data && sync")
	before := output(t, n, "cat /etc/machine-id")
	old, err := n.Booted(t.Context())
	must(t, err)

	output(t, n, "kairos-reset --yes && kairos-reset cancel")
	if left := output(t, n, "ls /efi/loader/entries /efi/kairos | grep reset || true"); left != "" {
		t.Errorf("after cancelling: %s", left)
	}
	output(t, n, "kairos-reset --yes && systemctl reboot")
	// One boot of the recovery system, and one of the new deployment.
	must(t, n.ReadyAt(t.Context(), next+1))
	now, err := n.Booted(t.Context())
	must(t, err)
	if now.Mode != deployment.Active || now.Store != "COS_STATE" || now.ImageDigest != old.ImageDigest {
		t.Errorf("booted is %+v, want the recovery's image %s as a deployment", now, old.ImageDigest)
	}
	output(t, n, "test ! -e /usr/local/data")
	output(t, n, "test -s /oem/90_custom.yaml")
	if name := output(t, n, "hostname"); name != "node-1" {
		t.Errorf("the host is called %q: its config was lost", name)
	}
	if after := output(t, n, "cat /etc/machine-id"); after == before {
		t.Errorf("the machine-id %s outlived the reset", after)
	}
	entries := strings.Fields(output(t, n, "ls /efi/loader/entries"))
	if len(entries) != 2 {
		t.Errorf("boot entries: %q", entries)
	}
	verified(t, n)
}
