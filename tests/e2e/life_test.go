package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/tests/images"
	"github.com/kairos-io/toolkit/tests/registry"
	"github.com/kairos-io/toolkit/tests/story"
)

// TestLife is `make demo`, whose installation and first boot are those of the machine that all tests
// begin with, and what comes after. While v2 is staged its store is damaged and repaired, and the boot of
// v2 shows that what drifted before is gone. The node goes back to v1 when asked; it comes back to v1 from
// v3 after its last try, refuses v3 from then on, and takes it when forced.
func TestLife(t *testing.T) {
	turn(t, 400)
	n := booted(t)
	r := story.NewRecorder(t.Output(), n)
	defer r.Table()
	drifted := drift(t, n)
	output(t, n, "touch /run/before")
	must(t, story.Upgrade(t.Context(), n, r))
	t.Run("damage is repaired", func(t *testing.T) { repair(t, n) })
	upgraded := status(t, n)
	good := upgraded.Find(upgraded.Booted)

	must(t, story.BootUpgraded(t.Context(), n, r))
	t.Run("drift is gone", func(t *testing.T) { drifted.gone(t, n) })
	t.Run("what was repaired is read", func(t *testing.T) { output(t, n, "cat /%s >/dev/null", program) })

	t.Run("rollback goes back to v1", func(t *testing.T) {
		mark := n.Registry.Mark()
		output(t, n, "kairos-upgrade rollback")
		if requests := n.Registry.Since(mark); len(requests) > 0 {
			t.Errorf("rollback asked the registry: %+v", requests)
		}
		must(t, n.Reboot(t.Context()))
		version(t, n, "v1")
		after := status(t, n)
		if now := after.Find(after.Booted); now == nil || good == nil || now.ImageDigest != good.ImageDigest {
			t.Errorf("after the rollback runs %+v, want the image of %+v", now, good)
		}
	})

	last := 1 // one try is like the other; `make demo` goes through all
	if os.Getenv("KAIROS_LONG") == "1" {
		last = story.Tries
	}
	must(t, story.FallBack(t.Context(), n, r, "v1", last))
	before := status(t, n)
	if len(before.Quarantined) != 1 || !strings.Contains(before.Quarantined[0].Reason, images.FailureReason) {
		t.Errorf("quarantined is %+v, want v3 with its reason", before.Quarantined)
	}
	if trace := output(t, n, "kairos-boot-assess status --json"); !strings.Contains(trace, `"failed_boot":{"boot_id":"`) ||
		!strings.Contains(trace, `"journal":["`) {
		t.Errorf("nothing is known of the boot that failed:\n%s", trace)
	}
	t.Run("v3 is refused", func(t *testing.T) {
		fails(t, n, 4, "kairos-upgrade stage "+n.Ref("v3"), images.FailureReason, "hint:")
		if after := status(t, n); after.Staged != before.Staged || len(after.Deployments) != len(before.Deployments) {
			t.Errorf("a refused staging changed the status to %+v", after)
		}
	})
	t.Run("v2 is staged without fetching a layer", func(t *testing.T) {
		mark := n.Registry.Mark()
		output(t, n, "kairos-upgrade stage %s", n.Ref("v2"))
		if fetched := registry.Fetched(n.Registry.Since(mark)); fetched > 64<<10 {
			t.Errorf("%d bytes were fetched for an image whose layers are all here", fetched)
		}
	})
	t.Run("what is staged is not staged again", func(t *testing.T) {
		mark := n.Registry.Mark()
		fails(t, n, 3, "kairos-upgrade stage "+n.Ref("v2"), "nothing to do")
		for _, request := range n.Registry.Since(mark) {
			if request.Blob() && request.Bytes > 64<<10 {
				t.Errorf("a layer was fetched: %+v", request)
			}
		}
	})
	t.Run("v3 is accepted when forced", func(t *testing.T) {
		output(t, n, "kairos-upgrade stage --force %s", n.Ref("v3"))
		after := status(t, n)
		if staged := after.Find(after.Staged); staged == nil || staged.Version != "v3" {
			t.Errorf("staged is %+v, want v3", staged)
		}
		if len(after.Quarantined) != 0 {
			t.Errorf("v3 is still in quarantine: %+v", after.Quarantined)
		}
	})
	verified(t, n)
}

// drifting is what was changed on a node, to see what is left of it after a reboot.
type drifting struct {
	persistent, ephemeral []string
	machine               string
}

// drift changes files everywhere.
func drift(t *testing.T, n *story.Node) drifting {
	t.Helper()
	d := drifting{
		persistent: []string{"/etc/ssh/kept", "/home/kept", "/root/kept", "/usr/local/kept", "/var/log/kept", "/var/lib/containerd/kept"},
		ephemeral:  []string{"/etc/drift", "/etc/systemd-drift", "/var/lib/drift", "/srv/drift"},
		machine:    output(t, n, "cat /etc/machine-id"),
	}
	for _, path := range append(d.persistent, d.ephemeral...) {
		output(t, n, "mkdir -p $(dirname %s) && echo %[1]s > %[1]s", path)
	}
	output(t, n, "echo changed >> /etc/bash.bashrc; rm /etc/kairos-release; echo changed > /etc/hostname")
	return d
}

// gone checks, after a reboot, that what drifted is gone and that what is persistent stayed.
func (d drifting) gone(t *testing.T, n *story.Node) {
	for _, path := range d.persistent {
		if result := try(t, n, "cat %s", path); result.Stdout != path+"\n" {
			t.Errorf("%s is persistent, and is now: %s", path, result.Output())
		}
	}
	for _, path := range d.ephemeral {
		if try(t, n, "test ! -e %s", path).Status != 0 {
			t.Errorf("%s is still there", path)
		}
	}
	output(t, n, "test -s /etc/kairos-release")
	if file := output(t, n, "cat /etc/bash.bashrc"); strings.Contains(file, "changed") {
		t.Errorf("/etc/bash.bashrc is still changed: %s", file)
	}
	if name := output(t, n, "hostname"); name != "node-1" {
		t.Errorf("the host is called %q, the config says node-1", name)
	}
	if journal := output(t, n, "journalctl --boot=-1 --quiet --lines=1"); journal == "" {
		t.Error("the journal of the boot before is gone")
	}
	if now := output(t, n, "cat /etc/machine-id"); now != d.machine {
		t.Errorf("the machine's id was %s and is now %s", d.machine, now)
	}
}

// repair damages a file beneath the file system and removes another one, which came after /run/before: the
// first comes back from the recovery system's store, the second from the registry, and the weekly
// verification tells before.
func repair(t *testing.T, n *story.Node) {
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
	if plan := try(t, n, "kairos-upgrade verify --repair --dry-run"); !strings.Contains(plan.Output(), name) || try(t, n, "test -e %s", missing).Status == 0 {
		t.Errorf("the plan of a repair names no %s, or something was done:\n%s", name, plan.Output())
	}

	mark := n.Registry.Mark()
	said := output(t, n, "kairos-upgrade verify --repair")
	for _, want := range []string{
		"repaired object " + name + ", from the recovery system's store",
		fmt.Sprintf("repaired object %s, from %s@sha256:", strings.ReplaceAll(strings.TrimPrefix(missing, "/run/kairos/store/objects/"), "/", ""),
			n.Registry.Host()+"/"+story.Repository),
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing in\n%s", want, said)
		}
	}
	if fetched := registry.Fetched(n.Registry.Since(mark)); fetched > 1<<20 {
		t.Errorf("%d bytes were fetched for one object of a small layer", fetched)
	}
	original, err := os.ReadFile(filepath.Join(world.Images.Base, program))
	must(t, err)
	if sum := output(t, n, "sha256sum < %s | cut -d' ' -f1", object); sum != fmt.Sprintf("%x", sha256.Sum256(original)) {
		t.Errorf("the repaired object has the SHA-256 %s, the program another one", sum)
	}
}
