package packaging

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/tests/images"
	"github.com/kairos-io/toolkit/tests/medium"
	"github.com/kairos-io/toolkit/tests/story"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// Beside files and units: what is mounted, and what systemd has running and has tried.
const machineState = `
running() {
	findmnt -rno TARGET,SOURCE,FSTYPE | grep -v -e autofs -e /run/user -e /run/credentials | sort > "/life/$1.mounts"
	systemctl list-units --plain --no-legend --no-pager --state=active,failed --type=service,socket,timer,mount,automount,path |
		awk '{print $1, $4}' | grep -v -e ^user -e ^session -e ^systemd-tmpfiles-clean -e kairos-test > "/life/$1.running"
}
`

// TestLifeInMachine is TestLifeOfPackages in a Debian system that runs: it is booted once more with the packages
// installed, where they change nothing of an ordinary machine, and again after the purge.
func TestLifeInMachine(t *testing.T) {
	debs, _ := filepath.Glob(filepath.Join(workspace.Top(), "build/packages/kairos-*.deb"))
	if os.Getenv("KAIROS_E2E") == "" || len(debs) == 0 {
		t.Skip("KAIROS_E2E=1, and the packages of make deb, are needed")
	}
	ctx := t.Context()
	world, err := story.NewWorld(ctx, func(what string) { t.Log(what) })
	if err != nil {
		t.Fatal(err)
	}
	defer world.Close()
	work := workDir(t)
	root, err := images.DebianTree(ctx, work, func(what string) { t.Log(what) })
	if err != nil {
		t.Fatal(err)
	}
	if err := images.WriteSite(ctx, root); err != nil { // the agent of the tests
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(root, "etc/kairos-release")); err != nil {
		t.Fatal(err)
	}
	for _, deb := range debs {
		if err := repack(ctx, root, deb); err != nil {
			t.Fatal(err)
		}
	}
	disk := filepath.Join(work, "disk.raw")
	if err := medium.PlainTree(ctx, world.Images, root, disk); err != nil {
		t.Fatal(err)
	}
	node, err := world.Node(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	if err := node.StartPlain(ctx, disk); err != nil {
		t.Fatal(err)
	}
	step := map[string]string{}
	run := func(script string) {
		t.Helper()
		result, err := node.Machine.Run(ctx, "set +e; "+lifeFunctions+machineState+script)
		if err != nil || result.Status != 0 {
			t.Fatalf("%v, status %d\n%s", err, result.Status, result.Output())
		}
		t.Log(result.Output())
		for _, part := range strings.Split(result.Output(), "== ")[1:] {
			name, text, _ := strings.Cut(part, "\n")
			step[name] = strings.TrimSpace(text)
		}
	}
	reboot := func() {
		t.Helper()
		if err := node.Machine.Reboot(ctx); err != nil {
			t.Fatal(err)
		}
		if err := node.Ready(ctx); err != nil {
			t.Fatal(err)
		}
	}
	run("running before\n" + lifeInstall)
	reboot()
	run(`
running installed
say mounts
diff /life/before.mounts /life/installed.mounts
say failed
systemctl --failed --plain --no-legend
say ran
diff /life/before.running /life/installed.running | sed -n 's/^[<>] //p' | grep -v kairos
systemctl list-units --plain --no-legend --no-pager --state=active --type=service 'kairos-*' | grep -v kairos-test
` + lifeEnd)
	reboot()
	run(`
running after
say again
diff /life/before.mounts /life/after.mounts
diff /life/before.running /life/after.running
systemctl --failed --plain --no-legend
systemctl list-units --all --plain --no-legend --no-pager 'kairos-*' | grep -v kairos-test
`)
	for name, want := range map[string]string{
		"units": "enabled\nenabled\nenabled", "etc": "", "mounts": "", "failed": "", "ran": "", "purge": "", "remove": "", "end": "", "again": "",
	} {
		if step[name] != want {
			t.Errorf("%s: %q, want %q", name, step[name], want)
		}
	}
	if up := step["upgrade"]; !strings.HasPrefix(up, "disabled\nenabled\n") || strings.Count(up, "+again") != 4 {
		t.Errorf("upgrade: %q", up)
	}
}
