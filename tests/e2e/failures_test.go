package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/tests/story"
)

// failure is a way in which a boot can fail. What is staged is the image v2, or the image that runs with
// a config; then it is broken.
type failure struct {
	name   string
	config string // of the new generation; "": v2 is staged
	broken string // script that breaks what is staged: $entry is its boot entry, $id its deployment
	want   string // what boots in the end: "old", "new" or "recovery"
	reason string // what the node says about it, in part; "": nothing fell back
	newer  bool   // the boot loader is systemd-boot of Debian unstable
}

// strictly is a config with one command in stage boot.
func strictly(command string) string {
	return fmt.Sprintf("#cloud-config\nstages: {boot: [{name: The failure, commands: [%q]}]}\n", command)
}

// file is a config that writes a file before the system starts.
func file(path, mode string, lines ...string) string {
	return fmt.Sprintf("#cloud-config\nstages: {initramfs: [{name: The failure, files: [{path: %s, permissions: %s, content: %q}]}]}\n",
		path, mode, strings.Join(lines, "\n")+"\n")
}

// option changes the kernel arguments of what is staged.
func option(expression string) string { return "sed -i '/^options/s/" + expression + "/' $entry" }

var failures = []failure{
	// The kernel and the initrd.
	// The boot loader passes over it, and counts nothing: kairos-boot-assess repair brings the file back.
	{name: "the kernel's file is gone", want: "old", broken: "sed -i 's,^linux .*,linux /gone,' $entry"},
	// systemd-boot 257 crashes itself here, when the entry has an initrd, and the firmware stands still.
	{name: "the kernel is damaged, with a newer boot loader", newer: true, want: "old", reason: "could be recorded",
		broken: "f=$(awk '$1 == \"linux\" {print $2}' $entry); head -c 1000000 /dev/urandom > /efi/damaged; sed -i 's,^linux .*,linux /damaged,' $entry; test -n $f"},
	{name: "the initrd is damaged", want: "old", reason: "could be recorded",
		broken: "head -c 1000000 /dev/urandom > /efi/damaged; sed -i 's,^initrd .*,initrd /damaged,' $entry"},
	{name: "the kernel panics, no init in the initrd", want: "old", broken: option("$/ rdinit=\\/nonesuch panic=1"), reason: "could be recorded"},
	{name: "the store is missing", want: "old", broken: option("kairos.store=COS_STATE/kairos.store=COS_NONE kairos.timeout=5 kairos.reboot_delay=1"), reason: "could be recorded"},
	{name: "the digest of the image is another", want: "old", reason: "could be recorded",
		broken: option("sha256:[0-9a-f]*/sha256:" + strings.Repeat("ab", 32) + " kairos.reboot_delay=1")},
	{name: "the image is damaged on the disk", want: "old", reason: "could be recorded",
		broken: option("$/ kairos.reboot_delay=1") + `
image=$(sed -n 's/.*kairos.image=?*sha256:\([0-9a-f]*\).*/\1/p' $entry)
device=$(findmnt -no SOURCE --target /run/kairos/store | sed 's/\[.*//')
block=$(filefrag -b4096 -v /run/kairos/store/images/$image | awk '$1 == "0:" {sub(/\.\..*/, "", $4); print $4}')
dd if=/dev/urandom of=$device bs=4096 seek=$block count=4 conv=notrunc status=none; sync`},
	{name: "the root has no init", want: "old", broken: option("$/ init=\\/nonesuch kairos.reboot_delay=1"), reason: "could be recorded"},
	// The system.
	{name: "the kernel panics in the system", want: "old", config: strictly("sysctl -w kernel.panic=1; echo c > /proc/sysrq-trigger"), reason: "no verdict"},
	{name: "the machine resets before the boot is complete", want: "old", config: strictly("echo b > /proc/sysrq-trigger"), reason: "no verdict"},
	{name: "a stage reboots the system, each time", want: "old", config: strictly("systemctl --force --force reboot"), reason: "no verdict"},
	{name: "systemd crashes", want: "old", config: strictly("kill -SEGV 1; sleep infinity"), reason: "no verdict"},
	{name: "systemd stands still, a watchdog resets the machine", want: "old", reason: "no verdict",
		config: "#cloud-config\nstages: {initramfs: [{name: The watchdog, files: [" +
			`{path: /etc/systemd/system.conf.d/60-site.conf, content: "[Manager]\nCrashReboot=no\nRuntimeWatchdogSec=20s\n"}]}], ` +
			`boot: [{name: The failure, commands: ["grep -qx 20 /sys/class/watchdog/watchdog0/timeout && kill -SEGV 1 && sleep infinity"]}]}` + "\n"},
	{name: "a file system of fstab is missing: emergency mode", want: "old", reason: "emergency",
		config: file("/etc/fstab", "0644", "/dev/nonesuch /mnt ext4 defaults,x-systemd.device-timeout=3s 0 0")},
	{name: "a unit hangs before the boot is complete", want: "old", reason: "boot-complete.target",
		config: "#cloud-config\nstages: {initramfs: [{name: The failure, files: [" +
			`{path: /etc/systemd/system/hangs.service, content: "[Service]\nType=oneshot\nExecStart=/bin/sleep infinity\nTimeoutStartSec=infinity\n[Unit]\nBefore=multi-user.target\n"},` +
			`{path: /etc/systemd/system/multi-user.target.d/60-site.conf, content: "[Unit]\nWants=hangs.service\n"},` +
			`{path: /etc/systemd/system/boot-complete.target.d/60-site.conf, content: "[Unit]\nJobTimeoutSec=150s\n"}]}]}` + "\n"},
	// The assessment.
	{name: "a unit fails", want: "old", reason: "broken.service", config: strictly("systemd-run --unit=broken --wait /bin/false || true")},
	{name: "a required check fails", want: "old", reason: "no luck", config: file("/etc/kairos/checks/required.d/10-luck", "0755", "#!/bin/sh", "echo no luck >&2", "exit 1")},
	{name: "a required check hangs", want: "old", reason: "10-hang",
		config: "#cloud-config\nstages: {initramfs: [{name: The failure, files: [" +
			`{path: /etc/kairos/checks/required.d/10-hang, permissions: 0755, content: "#!/bin/sh\nsleep 1000\n"},` +
			`{path: /etc/kairos/boot-assess.conf, content: "[Assess]\nTimeoutSec=5s\n"}]}]}` + "\n"},
	{name: "a check of greenboot fails", want: "old", reason: "10-green", config: file("/etc/greenboot/check/required.d/10-green.sh", "0755", "#!/bin/sh", "exit 1")},
	{name: "a step that counts fails", want: "old", reason: "exit status 7",
		config: "#cloud-config\nstages: {boot: [{name: The failure, assess: required, commands: [exit 7]}]}\n"},
	{name: "a strict config fails", want: "old", reason: "exit status 7",
		config: "#cloud-config\nstrict: true\nstages: {boot: [{name: The failure, commands: [exit 7]}]}\n"},
	// What fails late, and what is no failure.
	{name: "the node says so itself, later", want: "old", reason: "the pump stands still",
		broken: "late='kairos-boot-assess bad the pump stands still'"},
	{name: "a wanted check fails", want: "new", config: file("/etc/kairos/checks/wanted.d/10-luck", "0755", "#!/bin/sh", "exit 1")},
	{name: "there is no network", want: "new", config: file("/etc/systemd/network/00-none.network", "0644", "[Match]", "Name=*", "[Link]", "Unmanaged=yes")},
	{name: "a step fails that doesn't count", want: "new", config: strictly("exit 7")},
	// Everything is bad.
	{name: "both deployments stopped booting", want: "recovery", reason: "",
		broken: "for e in /efi/loader/entries/kairos-[0-9]*; do sed -i '/^options/s/kairos.store=COS_STATE/kairos.store=COS_NONE kairos.timeout=5 kairos.reboot_delay=1/' $e; done"},
}

// TestFailures goes through all failures: what boots next, after how many boots and seconds, and which
// reason is recorded. What is staged has one try, but for the last, in which all tries are used up. It
// takes an hour.
func TestFailures(t *testing.T) {
	long(t)
	t.Parallel() // its parts take turns
	came := make([]outcome, len(failures))
	t.Cleanup(func() {
		var table strings.Builder
		rows := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
		fmt.Fprintln(rows, "failure\tboots next\tboots\tseconds\treason")
		for i, f := range failures {
			fmt.Fprintf(rows, "%s\t%s\t%d\t%.0f\t%s\n", f.name, came[i].what, came[i].boots, came[i].took.Seconds(), came[i].reason)
		}
		rows.Flush()
		fmt.Print(table.String())
	})
	for i, f := range failures {
		t.Run(fmt.Sprintf("%02d %s", i+1, f.name), func(t *testing.T) {
			turn(t, 100)
			came[i] = f.produce(t)
			t.Logf("%s boots after %d boots and %.0f s: %s", came[i].what, came[i].boots, came[i].took.Seconds(), came[i].reason)
		})
	}
}

// outcome is what a failure came to.
type outcome struct {
	what   string // "old", "new" or "recovery"
	boots  int    // from the first of what was staged to what stayed
	took   time.Duration
	reason string
}

// produce makes a node fail, and checks what comes.
func (f failure) produce(t *testing.T) outcome {
	n := booted(t)
	old := status(t, n).Booted
	if f.newer {
		newerLoader(t, n)
	}
	if f.config == "" {
		output(t, n, "kairos-upgrade stage --quiet %s", n.Ref("v2"))
	} else {
		must(t, n.WriteFile(t.Context(), "/run/70_failure.yaml", f.config))
		output(t, n, "kairos-config stage --quiet /run/70_failure.yaml")
	}
	id := status(t, n).Staged
	late := output(t, n, `id=%s entry=/efi/loader/entries/kairos-$id+3.conf late=
%s
%s
sync
echo "$late"`, id, f.broken, f.tries())

	began, first := time.Now(), n.Machine.Boots()+1
	output(t, n, "systemctl reboot")
	if late != "" {
		must(t, n.ReadyAt(t.Context(), first))
		began, first = time.Now(), first+1
		output(t, n, "%s", late)
		output(t, n, "systemctl reboot")
	}
	for boot := first; ; boot++ {
		must(t, n.Machine.WaitBoot(t.Context(), boot))
		booted, err := n.Booted(t.Context())
		if err != nil { // it is going down
			continue
		}
		came := outcome{what: "new", boots: n.Machine.Boots() - first + 1}
		switch {
		case booted.Mode == deployment.Recovery:
			came.what = "recovery"
		case booted.ID == old:
			came.what = "old"
		}
		if came.what == "new" && f.want != "new" {
			complete, err := n.Machine.Run(t.Context(), "systemctl start boot-complete.target")
			if err == nil && complete.Status == 0 {
				t.Fatal("what is made to fail was found good")
			}
			continue
		}
		waited := "kairos-boot-assess-record.service" // the reason is recorded
		if came.what == "new" {
			waited = "boot-complete.target"
		}
		output(t, n, "systemctl start %s", waited) // and waits for it
		came.took, came.reason = time.Since(began), fellBack(t, n)
		if came.what != f.want {
			t.Errorf("%s booted, want %s", came.what, f.want)
		}
		if (f.reason == "") != (came.reason == "") || !strings.Contains(came.reason, f.reason) {
			t.Errorf("the reason is %q, want %q in it", came.reason, f.reason)
		}
		return came
	}
}

// tries leaves what is staged one try, where only it is broken.
func (f failure) tries() string {
	if f.want == "recovery" {
		return ""
	}
	return "mv $entry ${entry%+3.conf}+1.conf"
}

// fellBack returns the recorded reason of the last fallback.
func fellBack(t *testing.T, n *story.Node) string {
	t.Helper()
	var s struct {
		LastFallback struct {
			Fallback struct {
				Reason     string `json:"reason"`
				FailedBoot struct {
					Journal []string `json:"journal"`
					Kernel  []string `json:"kernel"`
					None    string   `json:"no_journal"`
				} `json:"failed_boot"`
			} `json:"fallback"`
		} `json:"last_fallback"`
	}
	must(t, json.Unmarshal([]byte(output(t, n, "kairos-boot-assess status --json")), &s))
	fell := s.LastFallback.Fallback
	t.Logf("of the failed boot there are %d lines of the journal, %d of the kernel %s", len(fell.FailedBoot.Journal), len(fell.FailedBoot.Kernel), fell.FailedBoot.None)
	return fell.Reason
}
