package e2e

import (
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/tests/story"
)

// completed makes a call that begins a transaction of a service, waits for its end, and returns what
// the signal says.
func completed(t *testing.T, n *story.Node, service, call string) string {
	t.Helper()
	return output(t, n, `busctl --no-pager wait /io/kairos/%[1]s io.kairos.%[1]s Completed > /run/completed & waiting=$!
until [ "$(busctl --no-legend list | grep -c ' busctl ')" = 2 ]; do read -t 0.1 <> <(:) || true; kill -0 $waiting; done
%[2]s >/dev/null
wait $waiting
cat /run/completed`, service, call)
}

// TestBus drives upgrades by io.kairos.Upgrade1 alone, as root and as a user whom polkit forbids and
// permits it.
func TestBus(t *testing.T) {
	turn(t, 75)
	n := booted(t)
	const object = "io.kairos.Upgrade1 /io/kairos/Upgrade1"
	const call = "busctl call " + object + " io.kairos.Upgrade1 "
	property := func(name string) string {
		t.Helper()
		return output(t, n, "busctl get-property %s io.kairos.Upgrade1 %s", object, name)
	}
	healthy := func() {
		t.Helper()
		if result := output(t, n, "systemctl show -P Result kairos-upgrade-bus.service"); result != "success" {
			t.Errorf("the service ended with %s:\n%s", result, output(t, n, "journalctl -b --no-pager -u kairos-upgrade-bus.service"))
		}
	}

	// The first call starts it.
	described := output(t, n, "busctl --no-pager --full introspect %s", object)
	for _, line := range []string{".Stage method sa{sv} o", ".Check method sa{sv} a{sv}", ".Rollback method sa{sv} o", ".Pin method s -",
		".CollectGarbage method a{sv} o", ".Verify method sa{sv} o", ".Booted property s \"1-", ".Deployments property aa{sv}", ".Completed signal oisa{sv} -"} {
		if !strings.Contains(strings.Join(strings.Fields(described), " "), line) {
			t.Errorf("no %q in:\n%s", line, described)
		}
	}
	output(t, n, "systemctl is-active kairos-upgrade-bus.service")
	if who := output(t, n, "systemctl show -P BusName dbus-io.kairos.Upgrade1.service"); who != "io.kairos.Upgrade1" {
		t.Errorf("the alias is %q", who)
	}

	// A user who may not. Nothing happens.
	before := output(t, n, "ls -R /run/kairos/store/deployments /efi/loader/entries")
	stage := "su kairos -c '" + call + "Stage sa{sv} " + n.Ref("v2") + " 0'"
	fails(t, n, 1, stage, "Access denied")
	output(t, n, "systemctl is-active polkit")
	if after := output(t, n, "ls -R /run/kairos/store/deployments /efi/loader/entries"); after != before {
		t.Errorf("the store was\n%s\nand is\n%s", before, after)
	}

	// With a rule that looks at the reference, he may: that one, and nothing else.
	output(t, n, `cat > /etc/polkit-1/rules.d/50-upgrade.rules <<'END'
polkit.addRule(function(action, subject) {
  if (action.id == "io.kairos.upgrade1.stage" && subject.user == "kairos" && action.lookup("reference") == "%s")
    return polkit.Result.YES;
});
END
systemctl restart polkit`, n.Ref("v2"))
	fails(t, n, 1, strings.ReplaceAll(stage, "v2", "v3"), "Access denied")
	fails(t, n, 1, "su kairos -c '"+call+"Pin s 1'", "Access denied")
	if said := completed(t, n, "Upgrade1", stage); !strings.Contains(said, ` 0 "" `) || !strings.Contains(said, `"id" s "2-`) {
		t.Errorf("the transaction ended with: %s", said)
	}
	staged := status(t, n)
	if s := staged.Find(staged.Staged); s == nil || s.Version != "v2" || property("Staged") != `s "`+s.ID+`"` {
		t.Errorf("staged is %+v, on the bus %s", s, property("Staged"))
	}

	// A transaction of the command line is seen and cancelled on the bus; the first is held, so that it
	// is met there however fast it is.
	output(t, n, `kairos-upgrade stage %s >/run/cli.out 2>&1 & pid=$!
until [ -s /run/kairos/store/lock ]; do read -t 0.05 <> <(:) || true; kill -0 $pid; done
kill -STOP $pid; echo $pid > /run/cli.pid`, n.Ref("v3"))
	path := output(t, n, `for try in {1..50}; do
  path=$(busctl get-property %s io.kairos.Upgrade1 Transaction | sed 's/^o "\(.*\)"$/\1/')
  [ "$path" = / ] || break
  read -t 0.1 <> <(:) || true
done
echo "$path"`, object)
	if path == "/" {
		t.Fatalf("the transaction is not seen: %s", output(t, n, "kairos-upgrade status; ls -l /run/kairos/upgrade"))
	}
	if reference := output(t, n, "busctl get-property io.kairos.Upgrade1 %s io.kairos.Upgrade1.Transaction Reference", path); reference != `s "`+n.Ref("v3")+`"` {
		t.Errorf("it is about %s", reference)
	}
	fails(t, n, 1, "su kairos -c 'busctl call io.kairos.Upgrade1 "+path+" io.kairos.Upgrade1.Transaction Cancel'", "Access denied")
	output(t, n, `kairos-upgrade watch --json > /run/watch.out 2>&1 & watch=$!; echo $watch > /run/watch.pid
until [ -s /run/watch.out ]; do read -t 0.05 <> <(:) || true; kill -0 $watch; done
busctl call io.kairos.Upgrade1 %s io.kairos.Upgrade1.Transaction Cancel
kill -CONT $(cat /run/cli.pid); tail --pid=$(cat /run/cli.pid) -f /dev/null; tail --pid=$(cat /run/watch.pid) -f /dev/null`, path)
	if out := output(t, n, "cat /run/cli.out"); !strings.Contains(out, "interrupted") {
		t.Errorf("the command said: %s", out)
	}
	if out := output(t, n, "cat /run/watch.out"); !strings.Contains(out, `"completed":true,"status":130`) {
		t.Errorf("watch said: %s", out)
	}
	if now := status(t, n); now.Staged != staged.Staged {
		t.Errorf("%s is staged, not %s", now.Staged, staged.Staged)
	}

	// The template unit publishes, too, within its sandbox.
	output(t, n, `systemctl start "kairos-upgrade@$(systemd-escape %s).service"
cat /run/kairos/upgrade/*.json | tr -d ' \t\n' | grep '"completed":true,"status":0' >/dev/null`, n.Ref("v3"))

	// It leaves when nobody needs it, without a failure, and comes back.
	output(t, n, `pid=$(systemctl show -P MainPID kairos-upgrade-bus.service)
[ "$pid" = 0 ] || tail --pid=$pid -f /dev/null`)
	healthy()
	if staged := property("Staged"); !strings.Contains(staged, "3-") {
		t.Errorf("after it came back, staged is %s", staged)
	}
	healthy()
}

// TestConfigBus shows, stages, discards and applies configs by io.kairos.Config1 alone, as root and as
// a user whom polkit permits to see the config, but not its secrets.
func TestConfigBus(t *testing.T) {
	turn(t, 40)
	n := booted(t)
	const object = "io.kairos.Config1 /io/kairos/Config1"
	const call = "busctl call " + object + " io.kairos.Config1 "
	described := strings.Join(strings.Fields(output(t, n, "busctl --no-pager --full introspect %s", object)), " ")
	for _, line := range []string{".Stage method a{ss}a{sv} o", ".Reveal method a{sv} s", ".Apply method a{ss}a{sv} o", `.Booted property s ""`, ".Completed signal oisa{sv} -"} {
		if !strings.Contains(described, line) {
			t.Errorf("no %q in:\n%s", line, described)
		}
	}
	output(t, n, "printf '#cloud-config\nsite: {password: hunter2, name: lab}\n' > /oem/50_site.yaml")
	if shown := output(t, n, call+"Show a{sv} 0"); !strings.Contains(shown, "name: lab") || strings.Contains(shown, "hunter2") {
		t.Errorf("shown is:\n%s", shown)
	}
	fails(t, n, 1, "su kairos -c '"+call+"Show a{sv} 0'", "Access denied")
	output(t, n, `cat > /etc/polkit-1/rules.d/50-config.rules <<'END'
polkit.addRule(function(action, subject) {
  if (action.id == "io.kairos.config1.show" && subject.user == "kairos") return polkit.Result.YES;
});
END
systemctl restart polkit`)
	if shown := output(t, n, "su kairos -c '"+call+"Show a{sv} 0'"); !strings.Contains(shown, "name: lab") || strings.Contains(shown, "hunter2") {
		t.Errorf("shown is:\n%s", shown)
	}
	fails(t, n, 1, "su kairos -c '"+call+"Reveal a{sv} 0'", "Access denied")
	if shown := output(t, n, call+"Reveal a{sv} 0"); !strings.Contains(shown, "hunter2") {
		t.Errorf("revealed is:\n%s", shown)
	}
	if said := output(t, n, call+`Validate 'a{ss}' 1 a.yaml '#cloud-config
hostnam: a'`); !strings.HasPrefix(said, "baa{sv} false 1 ") || !strings.Contains(said, "did you mean") {
		t.Errorf("validate says:\n%s", said)
	}

	const config = `1 60_motd.yaml '#cloud-config
stages: {boot: [{name: Motd, files: [{path: /etc/motd, content: by the bus}]}]}'`
	if said := completed(t, n, "Config1", call+"Stage 'a{ss}a{sv}' "+config+" 0"); !strings.Contains(said, ` 0 "" `) || !strings.Contains(said, "60_motd.yaml") {
		t.Errorf("stage ended with %s", said)
	}
	if staged := output(t, n, "busctl get-property %s io.kairos.Config1 Staged", object); !strings.HasPrefix(staged, `s "1-`) {
		t.Errorf("staged is %s", staged)
	}
	if said := completed(t, n, "Config1", call+"Apply 'a{ss}a{sv}' 0 1 now b true"); !strings.Contains(said, ` 0 "" `) {
		t.Errorf("apply ended with %s", said)
	}
	if motd := output(t, n, "cat /etc/motd"); motd != "by the bus" {
		t.Errorf("/etc/motd is %q", motd)
	}
	if said := completed(t, n, "Config1", call+"Discard"); !strings.Contains(said, ` 0 "" `) {
		t.Errorf("discard ended with %s", said)
	}
	if staged := output(t, n, "busctl get-property %s io.kairos.Config1 Staged", object); staged != `s ""` {
		t.Errorf("staged is %s", staged)
	}
	if result := output(t, n, "systemctl show -P Result kairos-config-bus.service; ls -A /run/kairos/config-bus"); result != "success" {
		t.Errorf("the service ended with %s:\n%s", result, output(t, n, "journalctl -b --no-pager -u kairos-config-bus.service"))
	}
	if found := output(t, n, "journalctl -b -o export | grep -c hunter2 || true"); found != "0" {
		t.Errorf("the journal has the secret %s times", found)
	}
}

// TestAssessBus decides about a boot by io.kairos.BootAssess1 alone, as root and as a user whom polkit
// permits to say that it is bad, and has a boot entry repaired.
func TestAssessBus(t *testing.T) {
	turn(t, 16)
	n := booted(t)
	const object = "io.kairos.BootAssess1 /io/kairos/BootAssess1"
	const call = "busctl call " + object + " io.kairos.BootAssess1 "
	property := func(name string) string {
		t.Helper()
		return output(t, n, "busctl get-property %s io.kairos.BootAssess1 %s", object, name)
	}
	// The verdict of this boot has started it already.
	output(t, n, "grep -q '\"verdict\": *\"good\"' /run/kairos/boot-assess/told.json")
	described := strings.Join(strings.Fields(output(t, n, "busctl --no-pager --full introspect %s", object)), " ")
	for _, line := range []string{".MarkBad method s s", ".Rearm method u -", ".ListHistory method u aa{sv}aa{sv}", `.Verdict property s "good"`, ".FellBack signal a{sv} -"} {
		if !strings.Contains(described, line) {
			t.Errorf("no %q in:\n%s", line, described)
		}
	}
	if state := property("EntryState"); state != `s "good"` {
		t.Errorf("the entry is %s", state)
	}
	if list := output(t, n, call+"ListHistory u 0"); !strings.Contains(list, `"verdict" s "good"`) {
		t.Errorf("history:\n%s", list)
	}

	// A second name of the entry, as a power cut in a rename leaves it.
	output(t, n, `cd /efi/loader/entries; entry=$(ls | grep '^kairos-1-'); cp "$entry" "${entry%%.conf}+2-1.conf"
busctl --no-pager wait /io/kairos/BootAssess1 io.kairos.BootAssess1 Completed > /run/repaired & waiting=$!
until [ "$(busctl --no-legend list | grep -c ' busctl ')" = 2 ]; do read -t 0.1 <> <(:) || true; kill -0 $waiting; done
`+call+`Repair
wait $waiting
grep -q 'duplicate' /run/repaired
ls | grep '^kairos-1-' > /run/entries; test "$(cat /run/entries)" = "$entry"`)

	// A user who may not, and one who may, with a reason that the rule likes.
	bad := "su kairos -c '" + call + "MarkBad s flaky'"
	fails(t, n, 1, bad, "Access denied")
	fails(t, n, 1, "su kairos -c '"+call+"ListHistory u 0'", "Access denied")
	output(t, n, `cat > /etc/polkit-1/rules.d/50-assess.rules <<'END'
polkit.addRule(function(action, subject) {
  if (action.id == "io.kairos.bootassess1.mark-bad" && subject.user == "kairos" && action.lookup("reason") == "flaky")
    return polkit.Result.YES;
});
END
systemctl restart polkit`)
	if next := output(t, n, "%s", bad); next != `s "kairos-recovery"` {
		t.Errorf("next is %s", next)
	}
	if verdict, state := property("Verdict"), property("EntryState"); verdict != `s "bad"` || state != `s "bad"` {
		t.Errorf("the verdict is %s, the entry %s", verdict, state)
	}
	output(t, n, call+"MarkGood")
	if verdict, state := property("Verdict"), property("EntryState"); verdict != `s "good"` || state != `s "good"` {
		t.Errorf("the verdict is %s, the entry %s", verdict, state)
	}
	for _, unit := range []string{"kairos-boot-assess-bus", "kairos-boot-assess-repair", "systemd-bless-boot"} {
		if result := output(t, n, "systemctl show -P Result %s.service", unit); result != "success" {
			t.Errorf("%s ended with %s:\n%s", unit, result, output(t, n, "journalctl -b --no-pager -u %s.service", unit))
		}
	}
	if cost := output(t, n, `for unit in record "" bus repair; do systemctl show -P CPUUsageNSec kairos-boot-assess${unit:+-$unit}.service; done`); cost != "" {
		t.Logf("nanoseconds of CPU of record, check, bus and repair: %s", strings.Join(strings.Fields(cost), " "))
	}
}
