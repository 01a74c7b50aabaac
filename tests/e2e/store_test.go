package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/fsverity"
	"github.com/kairos-io/toolkit/tests/story"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// TestWhatCannotBeStaged stages what is wrong in some way: the error is clear, and nothing changes.
func TestWhatCannotBeStaged(t *testing.T) {
	turn(t, 28)
	n := booted(t)
	const look = `cd /efi; find . -type f -exec sha256sum {} + | sort -k 2
cd /run/kairos/store; find deployments images | sort`
	before, disk := status(t, n), output(t, n, look)
	unchanged := func(t *testing.T) {
		t.Helper()
		if after := status(t, n); after.Staged != "" || len(after.Deployments) != 1 {
			t.Errorf("the status was %+v, now it is %+v", before, after)
		}
		if now := output(t, n, look); now != disk {
			t.Errorf("on the ESP and in the store was\n%s\nnow there is\n%s", disk, now)
		}
	}

	t.Run("a reference that doesn't exist", func(t *testing.T) {
		fails(t, n, 1, "kairos-upgrade stage "+n.Ref("nonesuch"), "nonesuch", "stage ")
		unchanged(t)
	})
	t.Run("a registry that doesn't answer", func(t *testing.T) {
		fails(t, n, 1, "kairos-upgrade stage 127.0.0.1:1/x:y", "127.0.0.1:1")
		unchanged(t)
	})
	t.Run("an image without kernel", func(t *testing.T) {
		output(t, n, "mkdir -p /run/empty/usr/bin /run/empty/etc && cp /bin/true /run/empty/usr/bin")
		fails(t, n, 1, "kairos-upgrade stage dir:/run/empty", "kernel")
		unchanged(t)
	})
	t.Run("a truncated archive", func(t *testing.T) {
		archive := filepath.Join(t.TempDir(), "v2.tar")
		_, err := workspace.RunTool(t.Context(), "skopeo", "copy", "--quiet", "--insecure-policy",
			world.Images.Ref("v2"), "oci-archive:"+archive)
		must(t, err)
		url := serve(t, archive)
		output(t, n, "curl -fsS --range 0-59999999 --output /run/v2.tar %s", url)
		fails(t, n, 1, "kairos-upgrade stage oci-archive:/run/v2.tar", "stage oci-archive:/run/v2.tar")
		unchanged(t)
	})
}

// TestTwoStagings stages twice at the same time.
func TestTwoStagings(t *testing.T) {
	turn(t, 20)
	n := booted(t)
	// The first is held in its transaction, so that the second finds it there however fast it is.
	output(t, n, `mkfifo /run/hold
kairos-upgrade stage %s >/run/first.out 2>&1 & pid=$!
until [ -s /run/kairos/store/lock ]; do read -t 0.05 <> <(:) || true; kill -0 $pid; done
kill -STOP $pid; echo $pid > /run/first.pid`, n.Ref("v2"))
	pid := output(t, n, "cat /run/first.pid")
	fails(t, n, 6, "kairos-upgrade stage "+n.Ref("v3"), "pid "+pid, n.Ref("v2"))
	output(t, n, "kill -CONT %s; tail --pid=%[1]s -f /dev/null", pid)
	after := status(t, n)
	if staged := after.Find(after.Staged); staged == nil || staged.Version != "v2" {
		t.Errorf("staged is %+v, want v2: %s", staged, output(t, n, "cat /run/first.out"))
	}
	verified(t, n)
}

// TestChangedByte changes a byte of an object on the disk, beneath the file system: reading it is an
// error, and never other content.
func TestChangedByte(t *testing.T) {
	turn(t, 19)
	n := booted(t)
	_, name := changeByte(t, n)
	result := try(t, n, "cat /%s | sha256sum; exit ${PIPESTATUS[0]}", program)
	if result.Status == 0 || !strings.Contains(result.Stderr, "Input/output error") {
		t.Errorf("a changed program could be read: %s", result.Output())
	}
	result = try(t, n, "kairos-upgrade verify")
	if result.Status != 1 || !strings.Contains(result.Stdout, name) {
		t.Errorf("verify doesn't name the damaged object %s: exit status %d\n%s", name, result.Status, result.Output())
	}
}

// program is a file of the image that nothing in the tests needs.
const program = "usr/bin/git"

// changeByte changes a byte of the program's object, and returns its path and its digest.
func changeByte(t *testing.T, n *story.Node) (object, name string) {
	t.Helper()
	file, err := os.Open(filepath.Join(world.Images.Base, program))
	must(t, err)
	defer file.Close()
	digest, _, err := fsverity.File(file)
	must(t, err)
	name = digest.String()
	object = "/run/kairos/store/objects/" + name[:2] + "/" + name[2:]
	output(t, n, "cmp %s /%s", object, program)

	// The third block of the file, where it lies on the partition.
	output(t, n, `device=$(findmnt -no SOURCE --target /run/kairos/store | sed 's/\[.*//')
block=$(filefrag -b4096 -v %s | awk '$1 == "0:" {sub(/\.\..*/, "", $4); print $4 + 2}')
sync
printf X | dd of=$device bs=1 seek=$((block * 4096 + 100)) conv=notrunc status=none
sync; echo 3 > /proc/sys/vm/drop_caches`, object)
	return object, name
}

// TestClockOf1970 upgrades a node whose clock has lost its battery: the order of boots, the records and
// the assessment don't depend on the time of day.
func TestClockOf1970(t *testing.T) {
	long(t)
	turn(t, 80)
	n := booted(t)
	output(t, n, "systemctl stop systemd-timesyncd.service || true; date --set='@86400'")
	output(t, n, "kairos-upgrade stage %s", n.Ref("v2"))
	after := status(t, n)
	if staged := after.Find(after.Staged); staged == nil || staged.Version != "v2" {
		t.Fatalf("staged is %+v, want v2", staged)
	}
	if year := output(t, n, "date +%%Y"); year != "1970" {
		t.Fatalf("the year is %s: the test shows nothing", year)
	}
	verified(t, n)
	output(t, n, "kairos-upgrade gc")
	must(t, n.Reboot(t.Context()))
	version(t, n, "v2")
	if after := status(t, n); after.Booted == "" || len(after.Deployments) != 2 {
		t.Errorf("after the upgrade the status is %+v", after)
	}
	verified(t, n)
}

// serve offers a file to virtual machines, until the test ends, and returns its URL.
func serve(t *testing.T, file string) string {
	t.Helper()
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(file))))
	t.Cleanup(server.Close)
	return strings.Replace(server.URL, "127.0.0.1", "10.0.2.2", 1) + "/" + filepath.Base(file)
}
