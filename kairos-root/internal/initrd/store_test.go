package initrd

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/kairos-root/internal/mounttest"
	"github.com/kairos-io/toolkit/lib/report/reporttest"
)

// as runs a program as a user without rights, with the mounts of this test.
func as(uid uint32, argv ...string) ([]byte, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd.CombinedOutput()
}

// others lets ordinary users into the temporary directories of the test, so that
// the store alone can keep them out.
func (n *node) others() {
	for _, dir := range []string{n.run, n.sysroot} {
		for ; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				n.t.Fatal(err)
			}
		}
	}
}

// TestStoreIsClosed sees that nobody but root enters a store, whatever the store
// says of itself, and that the system above it works for everybody.
func TestStoreIsClosed(t *testing.T) {
	for name, store := range map[string]string{"state": "COS_STATE", "recovery": "COS_RECOVERY", "live": "COS_LIVE"} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, "full")
			if store != "COS_STATE" {
				n.machine.Add("vda", "5", store)
				if err := os.Rename(n.machine.Dev("vda3"), n.machine.Dev("vda5")); err != nil {
					t.Fatal(err)
				}
				n.args.Store = store
			}
			n.others()
			n.boot("")
			image := filepath.Join(n.run, "kairos/store/images", n.digest)
			if _, err := os.Stat(image); err != nil {
				t.Errorf("root: %v", err)
			}
			if out, err := as(65534, "cat", image); err == nil || !strings.Contains(string(out), "Permission denied") {
				t.Errorf("an ordinary user reads the image in the store: %v, %.80q", err, out)
			}
			if out, err := as(65534, "cat", n.in("usr/bin/tool"), n.in("opt/vendor/data")); err != nil ||
				string(out) != mounttest.Contents["/usr/bin/tool"]+mounttest.Contents["/opt/vendor/data"] {
				t.Errorf("an ordinary user reads the system: %v, %.80q", err, out)
			}
			if err := os.WriteFile(filepath.Join(n.run, "kairos/store/x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("write to the store: %v", err)
			}
			s, err := ReadStatus(n.run, "/")
			if err != nil || len(s.Degraded) > 0 && store == "COS_LIVE" {
				t.Fatalf("status %+v, %v", s, err)
			}
			text, err := json.Marshal(s)
			if err == nil {
				err = reporttest.Check(text, "kairos-root", "status")
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}
