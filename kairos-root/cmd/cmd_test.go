package cmd

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/efivars"
	"github.com/kairos-io/toolkit/lib/report"

	"github.com/kairos-io/toolkit/kairos-root/internal/bootargs"
	"github.com/kairos-io/toolkit/kairos-root/internal/initrd"
)

func runTool(args ...string) (stdout, stderr string, status int) {
	var out, errOut bytes.Buffer
	status = Run(append([]string{"kairos-root"}, args...), &out, &errOut)
	return out.String(), errOut.String(), status
}

func TestOutsideOfAnInitrd(t *testing.T) {
	if _, err := os.Stat("/etc/initrd-release"); err == nil {
		t.Skip("this is an initrd")
	}
	for _, args := range [][]string{{"mount"}, {"mount", "--writable"}, {"failed"}} {
		stdout, stderr, status := runTool(args...)
		if status != 1 || stdout != "" || !strings.HasPrefix(stderr, "kairos-root: this is not an initrd\nhint: ") {
			t.Errorf("%v: status %d, %q, %q", args, status, stdout, stderr)
		}
	}
}

func TestNotBooted(t *testing.T) {
	if _, err := os.Stat(report.RootFile); err == nil {
		t.Skip("this system was booted by kairos-root")
	}
	if _, stderr, status := runTool("status"); status != 1 || stderr != "kairos-root: "+deployment.ErrNotBooted.Error()+"\n" {
		t.Errorf("status %d, %q", status, stderr)
	}
	if _, stderr, status := runTool("status", "--json"); status != 1 || !strings.HasPrefix(stderr, `{"message_type":"exit_error","code":1,`) {
		t.Errorf("status %d, %q", status, stderr)
	}
}

func TestPrintStatus(t *testing.T) {
	s := &initrd.Status{
		Report: initrd.Report{
			Booted: deployment.Booted{
				ID: "7-a412a684ecfd", Mode: deployment.Passive, Store: "COS_STATE", Device: "/dev/vda4",
				ImageDigest: "sha256:a412", Verity: true,
			},
			Writable: true, Persistent: "/dev/vda5",
			Degraded: []initrd.Problem{{What: "/oem", Reason: "not available", Hint: "look"}},
		},
		Mounts: []initrd.MountStatus{
			{Mount: initrd.Mount{Target: "/etc", Kind: "ephemeral"}, Mounted: true},
			{Mount: initrd.Mount{Target: "/etc/ssh", Kind: "overlay"}},
		},
	}
	var out bytes.Buffer
	if err := printStatus(&out, s); err != nil {
		t.Fatal(err)
	}
	want := `deployment  7-a412a684ecfd (passive)
image       sha256:a412, contents are verified by fs-verity
store       COS_STATE on /dev/vda4
persistent  /dev/vda5
writable paths:
  ephemeral  /etc
  overlay    /etc/ssh  NOT MOUNTED
degraded    /oem: not available
hint:       look
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
	if s.Complete() {
		t.Error("complete although a mount is missing")
	}
	if err := printStatus(failingWriter{}, s); err == nil {
		t.Error("no error from a full disk")
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestFailureText(t *testing.T) {
	args := bootargs.Args{Image: "a412", Store: "COS_STATE", RebootDelay: 30 * time.Second}
	want := `The system cannot be started.
mount store: waited 1m0s
image a412, store COS_STATE
Rebooting in 30s, so that the boot loader can choose another entry.
With rd.kairos.shell on the kernel command line there is a shell instead.
`
	if got := failureText("mount store: waited 1m0s", args, ""); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	args.Shell = true
	if got := failureText("x", args, ""); strings.Contains(got, "Rebooting in") || !strings.Contains(got, "Starting a shell") {
		t.Errorf("got:\n%s", got)
	}
}

// Nobody at the console gets a shell without a password where more is closed than
// the machine's case.
func TestNoShell(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("sys/devices/vda/vda2/uevent", "DEVTYPE=partition\nPARTN=2\nPARTNAME=COS_OEM\n")
	write("sys/class/block/.keep", "")
	if err := os.Symlink(filepath.Join(dir, "sys/devices/vda/vda2"), filepath.Join(dir, "sys/class/block/vda2")); err != nil {
		t.Fatal(err)
	}
	write("dev/vda2", strings.Repeat("\x00", 4096))
	machine := disk.System{Sys: filepath.Join(dir, "sys"), Dev: filepath.Join(dir, "dev"), Vars: efivars.At(filepath.Join(dir, "vars"))}
	if why := closedTo(bootargs.Args{Shell: true}, machine); why != "" {
		t.Errorf("nothing is closed: %q", why)
	}
	if why := closedTo(bootargs.Args{Volumes: deployment.Volumes{"COS_OEM": "x"}}, machine); why != "it has encrypted volumes" {
		t.Errorf("named on the command line: %q", why)
	}
	write("dev/vda2", "LUKS\xba\xbe\x00\x02"+strings.Repeat("\x00", 160)+"01234567-89ab-cdef-0123-456789abcdef"+strings.Repeat("\x00", 100))
	if why := closedTo(bootargs.Args{}, machine); why != "it has encrypted volumes" {
		t.Errorf("on the disk: %q", why)
	}
	write("vars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", "\x06\x00\x00\x00\x01")
	if why := closedTo(bootargs.Args{}, machine); why != "Secure Boot is on" {
		t.Errorf("Secure Boot: %q", why)
	}
	if text := failureText("x", bootargs.Args{}, "it has"); strings.Contains(text, "rd.kairos.shell") {
		t.Errorf("a shell is promised: %q", text)
	}
}
