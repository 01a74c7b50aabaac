package cmd

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/sdboot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/sdboot/sdboottest"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
)

const (
	mainLoader     = "EFI/systemd/systemd-bootx64.efi"
	previousLoader = "EFI/systemd/systemd-bootx64.previous.efi"
	fallbackLoader = "EFI/BOOT/BOOTX64.EFI"
)

// loaderNode is a node that runs a good deployment with systemd-boot 258, and
// has 257 on both paths of its ESP.
func loaderNode(t *testing.T, images string) (n node, dir string) {
	t.Helper()
	dir = t.TempDir()
	n = node{t, filepath.Join(dir, "store"), filepath.Join(dir, "esp")}
	for _, d := range []string{n.store, n.esp} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var r deployment.Record
	if err := json.Unmarshal([]byte(n.want(0, "stage", "--json", images+":v1")), &r); err != nil {
		t.Fatal(err)
	}
	n.bless(1)
	booted, err := json.Marshal(deployment.Booted{ID: r.ID, Mode: deployment.Active, Store: disk.LabelState, ImageDigest: r.ImageDigest})
	if err != nil {
		t.Fatal(err)
	}
	imagetest.Write(t, filepath.Join(dir, "booted.json"), booted)
	imagetest.Write(t, filepath.Join(dir, sdboot.Dir, filepath.Base(mainLoader)), sdboottest.Program("258", false))
	for _, name := range []string{mainLoader, fallbackLoader} {
		imagetest.Write(t, filepath.Join(n.esp, name), sdboottest.Program("257", false))
	}
	return n, dir
}

// upgradeLoader is the command, on a node that the firmware has started from a
// path.
func upgradeLoader(n node, dir, path string) *exec.Cmd {
	n.t.Helper()
	if err := sdboottest.Boot(filepath.Join(dir, "efivars"), loaderVersion(n, path), path); err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command("kairos-upgrade", "loader", "--quiet")
	cmd.Env = append(os.Environ(), "NODE="+dir, "HOME="+dir)
	return cmd
}

// loaderVersion returns the version of a whole boot loader, "" when there is
// none.
func loaderVersion(n node, path string) string {
	n.t.Helper()
	data, err := os.ReadFile(filepath.Join(n.esp, path))
	if os.IsNotExist(err) {
		return ""
	}
	if err != nil {
		n.t.Fatal(err)
	}
	p, err := sdboot.Parse(data)
	if err != nil {
		n.t.Fatalf("%s: %v", path, err)
	}
	return p.Version
}

// An upgrade of the boot loader that is killed at any of its changes leaves
// both paths whole, and the next attempt comes to the same end: from systemd's
// path, and where the firmware takes the fallback path alone.
func TestLoaderKilled(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the names of files are those of x64")
	}
	manyProcesses(t)
	images := testImages(t, 1, 1000)
	step := 3
	if *kills > 6 { // make test-long
		step = 1
	}
	for _, path := range []string{mainLoader, fallbackLoader} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			seen := map[[2]string]int{}
			for at := 0; ; at += step {
				n, dir := loaderNode(t, images)
				if !killAtChange(n, upgradeLoader(n, dir, path), at) {
					break
				}
				seen[[2]string{loaderVersion(n, mainLoader), loaderVersion(n, fallbackLoader)}]++
				for range 2 { // the fallback path may need a boot through the new one
					cmd := upgradeLoader(n, dir, path)
					if out, err := cmd.CombinedOutput(); err != nil && cmd.ProcessState.ExitCode() != 3 {
						t.Fatalf("kill at change %d: again: %v\n%s", at, err, out)
					}
				}
				have := [3]string{loaderVersion(n, mainLoader), loaderVersion(n, fallbackLoader), loaderVersion(n, previousLoader)}
				if have != [3]string{"258", "258", "257"} {
					t.Fatalf("kill at change %d: in the end there are %v", at, have)
				}
				if left, _ := filepath.Glob(filepath.Join(n.esp, "EFI/*/.#*")); len(left) > 0 {
					t.Errorf("kill at change %d: left behind: %v", at, left)
				}
			}
			if seen[[2]string{"257", "257"}] == 0 || seen[[2]string{"258", "257"}] == 0 {
				t.Errorf("the kills left %v", seen)
			}
			t.Logf("the kills left %v on systemd's and the fallback path", seen)
		})
	}
}
