package e2e

import (
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/tests/images"
	"github.com/kairos-io/toolkit/tests/registry"
	"github.com/kairos-io/toolkit/tests/story"
)

// TestLife is `make demo`, whose installation and first boot are those of the machine that all tests
// begin with, and what comes after: the node that came back from v3 refuses it from now on, takes it
// when forced, and goes back to v1 and forth to v2 when asked.
func TestLife(t *testing.T) {
	n := booted(t)
	r := story.NewRecorder(t.Output(), n)
	err := story.AfterFirstBoot(t.Context(), n, r)
	r.Table()
	must(t, err)

	before := status(t, n)
	good := before.Find(before.Booted)
	if len(before.Quarantined) != 1 || !strings.Contains(before.Quarantined[0].Reason, images.FailureReason) {
		t.Errorf("quarantined is %+v, want v3 with its reason", before.Quarantined)
	}

	if trace := output(t, n, "kairos-boot-assess status --json"); !strings.Contains(trace, `"failed_boot":{"boot_id":"`) ||
		!strings.Contains(trace, `"journal":["`) {
		t.Errorf("nothing is known of the boot that failed:\n%s", trace)
	}

	t.Run("v3 is refused", func(t *testing.T) {
		fails(t, n, 4, "kairos-upgrade stage "+world.Ref("v3"), images.FailureReason, "hint:")
		if after := status(t, n); after.Staged != before.Staged || len(after.Deployments) != len(before.Deployments) {
			t.Errorf("a refused staging changed the status to %+v", after)
		}
	})
	t.Run("what runs is not staged again", func(t *testing.T) {
		mark := world.Registry.Mark()
		fails(t, n, 3, "kairos-upgrade stage "+world.Ref("v2"), "nothing to do")
		for _, request := range world.Registry.Since(mark) {
			if request.Blob() && request.Bytes > 64<<10 {
				t.Errorf("a layer was fetched: %+v", request)
			}
		}
	})
	t.Run("v1 is staged without fetching a layer", func(t *testing.T) {
		mark := world.Registry.Mark()
		output(t, n, "kairos-upgrade stage %s", world.Ref("v1"))
		if fetched := registry.Fetched(world.Registry.Since(mark)); fetched > 64<<10 {
			t.Errorf("%d bytes were fetched for an image whose layers are all here", fetched)
		}
		must(t, n.Reboot(t.Context()))
		version(t, n, "v1")
	})
	t.Run("rollback goes back to v2", func(t *testing.T) {
		mark := world.Registry.Mark()
		output(t, n, "kairos-upgrade rollback")
		if requests := world.Registry.Since(mark); len(requests) > 0 {
			t.Errorf("rollback asked the registry: %+v", requests)
		}
		must(t, n.Reboot(t.Context()))
		version(t, n, "v2")
		after := status(t, n)
		if now := after.Find(after.Booted); now == nil || now.ImageDigest != good.ImageDigest {
			t.Errorf("after the rollback runs %+v, want the image of %+v", now, good)
		}
	})
	t.Run("v3 is accepted when forced", func(t *testing.T) {
		output(t, n, "kairos-upgrade stage --force %s", world.Ref("v3"))
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
