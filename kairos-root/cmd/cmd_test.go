package cmd

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/lib/deployment"

	"github.com/kairos-io/toolkit/kairos-root/internal/bootargs"
	"github.com/kairos-io/toolkit/kairos-root/internal/initrd"
)

func run(args ...string) (stdout, stderr string, status int) {
	var out, errOut bytes.Buffer
	status = Run(append([]string{"kairos-root"}, args...), &out, &errOut)
	return out.String(), errOut.String(), status
}

func TestOutsideOfAnInitrd(t *testing.T) {
	if _, err := os.Stat("/etc/initrd-release"); err == nil {
		t.Skip("this is an initrd")
	}
	for _, args := range [][]string{{"mount"}, {"mount", "--writable"}, {"failed"}} {
		stdout, stderr, status := run(args...)
		if status != 1 || stdout != "" || !strings.HasPrefix(stderr, "kairos-root: this is no initrd\nhint: ") {
			t.Errorf("%v: status %d, %q, %q", args, status, stdout, stderr)
		}
	}
}

func TestNotBooted(t *testing.T) {
	if _, err := os.Stat(initrd.ReportPath); err == nil {
		t.Skip("this system was booted by kairos-root")
	}
	if _, stderr, status := run("status"); status != 1 || stderr != "kairos-root: "+deployment.ErrNotBooted.Error()+"\n" {
		t.Errorf("status %d, %q", status, stderr)
	}
	if _, stderr, status := run("status", "--json"); status != 1 || !strings.HasPrefix(stderr, `{"message_type":"exit_error","code":1,`) {
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
	if got := failureText("mount store: waited 1m0s", args); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	args.Shell = true
	if got := failureText("x", args); strings.Contains(got, "Rebooting in") || !strings.Contains(got, "A shell follows") {
		t.Errorf("got:\n%s", got)
	}
}
