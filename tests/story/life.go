package story

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/tests/images"
	"github.com/kairos-io/toolkit/tests/vm"
)

// Life is the whole life of a node: installed from a live medium, booted, upgraded to v2, and saved
// from v3, which is bad. Each step checks what it claims. The node is left running on v2.
func Life(ctx context.Context, n *Node, r *Recorder) error {
	l := life{n, r}
	return l.live(ctx, slices.Concat(l.installation(), l.firstBoot(), l.upgrade(), l.bootUpgraded(), l.fallBack("v2", Tries)))
}

// Upgrade is the part of Life in which a node that runs v1 stages v2.
func Upgrade(ctx context.Context, n *Node, r *Recorder) error {
	l := life{n, r}
	return l.live(ctx, l.upgrade())
}

// BootUpgraded is the part that comes next: v2 boots.
func BootUpgraded(ctx context.Context, n *Node, r *Recorder) error {
	l := life{n, r}
	return l.live(ctx, l.bootUpgraded())
}

// FallBack is the last part: v3 is staged and tried, and the version comes back that runs now. Of its Tries only
// the last ones are gone through.
func FallBack(ctx context.Context, n *Node, r *Recorder, version string, last int) error {
	l := life{n, r}
	return l.live(ctx, l.fallBack(version, last))
}

type life struct {
	*Node
	*Recorder
}

// event is one step of a life.
type event struct {
	title string
	do    func(context.Context) error
}

func (l life) installation() []event {
	return []event{
		{"Boot the live medium, beside an empty disk", l.bootLive},
		{"Install v1 on the disk: partitions, boot loader, image, recovery, config", l.install},
	}
}

func (l life) firstBoot() []event {
	return []event{
		{"Boot the installed node", l.bootInstalled},
		{"Look at the root: read-only, and verified", l.lookAtRoot},
	}
}

func (l life) upgrade() []event {
	return []event{{"Upgrade to v2 from the registry, while v1 runs", l.stageUpgrade}}
}

func (l life) bootUpgraded() []event {
	return []event{{"Reboot into v2", l.rebootUpgraded}}
}

func (l life) fallBack(version string, last int) []event {
	return []event{
		{"Stage v3, which carries a health check that fails", l.stageBad},
		{fmt.Sprintf("Reboot: v3 is tried %d times, then %s comes back by itself", last, version), func(ctx context.Context) error { return l.tryAll(ctx, version, last) }},
		{"What the node tells about it", l.tell},
	}
}

// live goes through events, and measures them.
func (l life) live(ctx context.Context, events []event) error {
	for _, e := range events {
		if err := l.Step(e.title, func() error { return e.do(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

func (l life) bootLive(ctx context.Context) error {
	if err := l.StartLive(ctx); err != nil {
		return err
	}
	return l.expect(ctx, deployment.Live, "v1")
}

func (l life) install(ctx context.Context) error {
	if _, err := l.Install(ctx, l.Live()); err != nil {
		return err
	}
	return l.Machine.PowerOff(ctx)
}

func (l life) bootInstalled(ctx context.Context) error {
	if err := l.Start(ctx); err != nil {
		return err
	}
	if err := l.Ready(ctx); err != nil {
		return err
	}
	if err := l.expect(ctx, deployment.Active, "v1"); err != nil {
		return err
	}
	return l.expectGood(ctx)
}

func (l life) lookAtRoot(ctx context.Context) error {
	mount, err := l.show(ctx, "findmnt --noheadings --output FSTYPE,OPTIONS /")
	if err != nil {
		return err
	}
	options := "," + strings.Join(strings.Fields(mount), ",") + ","
	for _, option := range []string{"overlay", "ro", "verity=require"} {
		if !strings.Contains(options, ","+option+",") {
			return fmt.Errorf("the root is mounted without %q: %s", option, mount)
		}
	}
	result, err := l.Machine.Run(ctx, "touch /usr/bin/ls")
	if err != nil {
		return err
	}
	if result.Status == 0 {
		return fmt.Errorf("a program of the system could be changed")
	}
	l.Say("$ touch /usr/bin/ls\n%s", result.Output())
	_, err = l.show(ctx, "cat "+deployment.BootedPath)
	return err
}

// stageUpgrade stages v2 by the unit, as a node's owner would, with the journal beside it.
func (l life) stageUpgrade(ctx context.Context) error {
	if err := l.stageByUnit(ctx, "v2"); err != nil {
		return err
	}
	_, err := l.show(ctx, "kairos-upgrade status")
	return err
}

func (l life) rebootUpgraded(ctx context.Context) error {
	if err := l.Node.Reboot(ctx); err != nil {
		return err
	}
	if err := l.expect(ctx, deployment.Active, "v2"); err != nil {
		return err
	}
	if _, err := l.show(ctx, "hello"); err != nil {
		return fmt.Errorf("the program that v2 brings: %w", err)
	}
	return l.expectGood(ctx)
}

func (l life) stageBad(ctx context.Context) error { return l.stageByUnit(ctx, "v3") }

// Tries is how often a deployment is tried.
const Tries = 3

// tryAll reboots into v3, and waits until the good version is back.
func (l life) tryAll(ctx context.Context, good string, last int) error {
	status, err := l.Status(ctx)
	if err != nil {
		return err
	}
	entry := "/efi/loader/entries/kairos-" + status.Staged
	if _, err := l.Machine.Output(ctx, fmt.Sprintf("set -e; test -e %s+%d.conf; [ %[2]d = %d ] || mv %[1]s+%[2]d.conf %[1]s+%[3]d.conf", entry, Tries, last)); err != nil {
		return err
	}
	first := l.Machine.Boots() + 1
	if _, err := l.Machine.Run(ctx, "systemctl reboot"); err != nil {
		return err
	}
	for try := range last {
		if err := l.Machine.WaitBoot(ctx, first+try); err != nil {
			return err
		}
		version, err := l.Version(ctx)
		if err != nil {
			return err
		}
		l.Say("boot %d of %d: %s", try+1, last, version)
		if version != "v3" {
			return fmt.Errorf("boot %d is %s", try+1, version)
		}
	}
	if err := l.ReadyAt(ctx, first+last); err != nil {
		return err
	}
	if boots := l.Machine.Boots(); boots != first+last {
		return fmt.Errorf("the node came back after %d boots, not %d", boots-first, last)
	}
	return l.expect(ctx, deployment.Passive, good)
}

func (l life) tell(ctx context.Context) error {
	status, err := l.show(ctx, "kairos-upgrade status")
	if err != nil {
		return err
	}
	assessment, err := l.show(ctx, "kairos-boot-assess status")
	if err != nil {
		return err
	}
	for command, text := range map[string]string{"kairos-upgrade": status, "kairos-boot-assess": assessment} {
		if !strings.Contains(text, images.FailureReason) {
			return fmt.Errorf("%s status does not give the reason (%q)", command, images.FailureReason)
		}
	}
	return nil
}

// stageByUnitScript ends the journal by a line of its own, so that none before it is lost.
const stageByUnitScript = `unit=kairos-upgrade@$(systemd-escape %s).service
exec 3< <(exec journalctl --follow --lines=0 --output=cat UNIT="$unit" + _SYSTEMD_UNIT="$unit" + SYSLOG_IDENTIFIER=story); journal=$!
while IFS= read -r line && [ "$line" != the-end ]; do echo "$line"; done <&3 & reader=$!
systemctl start "$unit" 2>/dev/null; status=$?
echo the-end | systemd-cat --identifier=story
wait $reader; kill $journal; exit $status`

// stageByUnit starts kairos-upgrade@.service for a version and shows its journal meanwhile.
func (l life) stageByUnit(ctx context.Context, version string) error {
	ref := l.Ref(version)
	script := fmt.Sprintf(stageByUnitScript, ref)
	l.Say("$ systemctl start kairos-upgrade@$(systemd-escape %s).service", ref)
	result, err := l.Machine.Stream(ctx, script, l.Live())
	if err == nil && result.Status != 0 {
		err = &vm.StatusError{Script: script, Result: result}
	}
	return err
}

// show runs a command in the guest and shows it with what it says.
func (l life) show(ctx context.Context, command string) (string, error) {
	l.Say("$ %s", command)
	result, err := l.Machine.Stream(ctx, command, l.Live())
	if err == nil && result.Status != 0 {
		err = &vm.StatusError{Script: command, Result: result}
	}
	return result.Stdout, err
}

// expect checks what runs.
func (l life) expect(ctx context.Context, mode deployment.Mode, version string) error {
	booted, err := l.Booted(ctx)
	if err != nil {
		return err
	}
	runs, err := l.Version(ctx)
	if err != nil {
		return err
	}
	if booted.Mode != mode || runs != version {
		return fmt.Errorf("%s runs in %s mode, expected was %s in %s mode", runs, booted.Mode, version, mode)
	}
	l.Say("%s runs, in %s mode", runs, booted.Mode)
	return nil
}

// expectGood checks that the running deployment has passed its trial.
func (l life) expectGood(ctx context.Context) error {
	status, err := l.Status(ctx)
	if err != nil {
		return err
	}
	booted := status.Find(status.Booted)
	if booted == nil {
		return fmt.Errorf("kairos-upgrade status doesn't list what runs, %q", status.Booted)
	}
	if booted.State != "good" {
		return fmt.Errorf("deployment %s is %s, not good", booted.ID, booted.State)
	}
	l.Say("deployment %s is good: its boot entry counts no more", booted.ID)
	return nil
}
