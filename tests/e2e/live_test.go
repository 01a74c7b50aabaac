package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/tests/medium"
	"github.com/kairos-io/toolkit/tests/story"
)

// TestLiveCD boots a CD, whose partitions Linux does not see. A config on its COS_SEED has it installed.
// The firmware tries the CD first: yet the node boots next. When the CD boots once more, it leaves the
// node alone. What the installation writes is held against what it puts there.
func TestLiveCD(t *testing.T) {
	turn(t, 90)
	config, err := story.CloudConfig(t.Context())
	must(t, err)
	dir := t.TempDir()
	seed, cd := filepath.Join(dir, "node.yaml"), filepath.Join(dir, "live.iso")
	must(t, os.WriteFile(seed, []byte(config+"install:\n  auto: true\n"), 0o644))
	must(t, medium.CD(t.Context(), world.Live, cd, seed))
	n, err := world.NewNode(t.Context(), folder(t))
	must(t, err)
	guard(t, n)

	must(t, n.StartCD(t.Context(), cd))
	must(t, n.Machine.WaitBoot(t.Context(), 1))
	live, err := n.Booted(t.Context())
	must(t, err)
	if live.Mode != deployment.Live || live.Disk != "sr0" || !strings.HasPrefix(live.Device, "/dev/loop") {
		t.Errorf("booted %+v", live)
	}
	if at := output(t, n, "findmnt -no SOURCE,FSTYPE,OPTIONS /run/initramfs/live"); !strings.Contains(at, "vfat") || !strings.Contains(at, "ro,") {
		t.Errorf("the medium's configs are mounted as %s", at)
	}
	output(t, n, "! su -s /bin/sh nobody -c 'cat /run/initramfs/live/node.yaml'")
	must(t, n.Ready(t.Context())) // when the installation is done
	written := n.Written()
	t.Log(output(t, n, "journalctl -b -o cat -u kairos-install.service; "+
		"for f in /sys/class/block/vda*/stat; do awk -v f=$f '{print f, $7*512}' $f; done"))
	stored := output(t, n, `mkdir -p /run/look; for p in COS_STATE COS_RECOVERY COS_GRUB; do
mount -o ro /dev/disk/by-partlabel/$p /run/look; du -sB1 /run/look | cut -f1; umount /run/look; done`)
	var put int64
	for bytes := range strings.FieldsSeq(stored) {
		size, err := strconv.ParseInt(bytes, 10, 64)
		must(t, err)
		put += size
	}
	t.Logf("written %d bytes for %d: %.3f", written, put, float64(written)/float64(put))
	if written > put*115/100 {
		t.Errorf("the installation writes %d bytes for %d", written, put)
	}

	must(t, n.Machine.Reboot(t.Context()))
	must(t, n.ReadyAt(t.Context(), 2))
	node, err := n.Booted(t.Context())
	must(t, err)
	if node.Mode != deployment.Active || node.Disk != "vda" {
		t.Errorf("with the medium in the drive booted %+v", node)
	}

	if os.Getenv("KAIROS_LONG") != "1" { // the refusal itself is a test of kairos-install
		return
	}
	must(t, n.Machine.Reboot(t.Context()))
	must(t, n.Machine.WaitBoot(t.Context(), 3))
	again := output(t, n, "systemctl is-system-running --wait >/dev/null || true; cat /run/kairos/booted.json; "+
		"journalctl -b -o cat -u kairos-install.service; systemctl is-failed kairos-install.service || true")
	if !regexp.MustCompile(`"mode": "live"[^$]*has an installation already[^$]*failed\s*$`).MatchString(again) {
		t.Errorf("the medium installs a node again: %s", again)
	}
}
