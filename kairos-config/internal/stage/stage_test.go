package stage

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/testroot"
	"github.com/kairos-io/toolkit/lib/logline"
	"github.com/kairos-io/toolkit/lib/report"
	"golang.org/x/sys/unix"
)

// node is a root with configs that stages run beneath.
type node struct {
	t   testing.TB
	dir string
	log *bytes.Buffer
	System
}

func newNode(t testing.TB, configs map[string]string) *node {
	t.Helper()
	n := &node{t: t, dir: testroot.New(t), log: &bytes.Buffer{}}
	for name, content := range configs {
		n.write("oem/"+name, content)
	}
	root, err := rootfs.Open(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	n.System = System{Root: root, Timeout: time.Minute, Log: logline.New(n.log, "kairos-config", false)}
	return n
}

func (n *node) write(name, content string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, name), []byte(content), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) read(name string) string {
	data, err := os.ReadFile(filepath.Join(n.dir, name))
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return string(data)
}

func (n *node) run(stage string) *Record {
	return n.Run(context.Background(), NewPlan(source.Collect(n.Root), stage, Fill{}))
}

// outcomes is a record in one word for each step: "early=done mine=failed".
func outcomes(r *Record) string {
	var words []string
	for _, s := range r.Steps {
		words = append(words, s.Name+"="+string(s.Outcome))
	}
	return strings.Join(words, " ")
}

func TestOrder(t *testing.T) {
	n := newNode(t, map[string]string{
		"1.yaml": "#cloud-config\nstages: {boot.after: [{name: a1}], boot: [{name: b1}, {}], boot.before: [{name: c1}]}\nhostname: h",
		"2.yaml": "stages: {boot.after: [{name: a2}], boot: [{name: b2}], boot.before: [{name: c2}], fs: [{name: no}]}",
	})
	if got, want := outcomes(n.run("boot")), "c1=done c2=done cloud-init=done b1=done boot.1=done b2=done a1=done a2=done"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if got := outcomes(n.run("network")); got != "" {
		t.Errorf("got %s", got)
	}
}

const everything = `#cloud-config
stages:
  initramfs:
  - name: all
    directories:
    - {path: /srv/app/data, permissions: 0750}
    files:
    - {path: /srv/app/data/plain, content: "text\n"}
    - {path: /srv/app/b64, content: aGVsbG8=, encoding: b64, permissions: 0600}
    - {path: /srv/app/gz, content: GZ, encoding: gz+b64, permissions: "0755"}
    hostname: node-1.example.org
    groups: [apps]
    users:
      alice: {passwd: $6$salt$hash, groups: [sudo, apps], ssh_authorized_keys: [ssh-ed25519 AAAA alice]}
    authorized_keys:
      alice: [ssh-ed25519 BBBB other]
    environment: {A: plain, B: two words, C: 'a"b$c'}
`

func zipped(t testing.TB, content string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(content)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// TestApply applies every key that needs no shell, looks at the result, and
// applies it again: nothing may change then.
func TestApply(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for chown")
	}
	n := newNode(t, map[string]string{"1.yaml": strings.Replace(everything, "GZ", zipped(t, "unzipped"), 1)})
	r := n.run("initramfs")
	if outcomes(r) != "all=done" || r.Outcome != Done || len(r.Steps[0].Errors) > 0 {
		t.Fatalf("got %+v\n%s", r, n.log)
	}
	for name, want := range map[string]string{
		"srv/app/data/plain": "text\n", "srv/app/b64": "hello", "srv/app/gz": "unzipped",
		"etc/hostname":                    "node-1.example.org\n",
		"etc/hosts":                       "127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1 node-1.example.org node-1\n",
		"home/alice/.ssh/authorized_keys": "ssh-ed25519 BBBB other\nssh-ed25519 AAAA alice\n",
		"etc/environment":                 "A=plain\nB=\"two words\"\nC=\"a\\\"b\\$c\"\n",
	} {
		if got := n.read(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]os.FileMode{"srv/app/data": 0o750, "srv/app": 0o755, "srv/app/data/plain": 0o644, "srv/app/b64": 0o600, "srv/app/gz": 0o755, "home/alice": 0o700} {
		if info, err := os.Stat(filepath.Join(n.dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	if !strings.Contains(n.read("etc/group"), "\nsudo:x:27:alice\n") || !strings.Contains(n.read("etc/shadow"), "alice:$6$salt$hash:") {
		t.Error(n.read("etc/group"), n.read("etc/shadow"))
	}
	if again := n.run("initramfs"); len(again.Steps[0].Changed) > 0 || again.Outcome != Done {
		t.Errorf("applied twice, changed %v", again.Steps[0])
	}
}

func TestEnvironmentIsReadAlikeByShellAndUs(t *testing.T) {
	n := newNode(t, map[string]string{"1.yaml": `stages: {rootfs: [{environment: {VOLUMES: "LABEL=COS_OEM:/oem LABEL=X:/usr/local", ODD: "a\"b'c $d ` + "`e`" + ` \\f"}, environment_file: /run/cos/cos-layout.env}]}`})
	n.run("rootfs")
	out, err := exec.Command("sh", "-c", `. "$1"; printf '%s|%s' "$VOLUMES" "$ODD"`, "sh", filepath.Join(n.dir, "run/cos/cos-layout.env")).Output()
	if want := "LABEL=COS_OEM:/oem LABEL=X:/usr/local|a\"b'c $d `e` \\f"; err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}

func TestHosts(t *testing.T) {
	for _, c := range [][2]string{
		{"", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 h\n"},
		{"127.0.0.1 localhost", "127.0.0.1 localhost\n127.0.1.1 h\n"},
		{"127.0.1.1 old\n10.0.0.1 peer\n127.0.1.1 twice\n", "127.0.1.1 h\n10.0.0.1 peer\n"},
	} {
		if got := hostsWith(c[0], "h"); got != c[1] {
			t.Errorf("%q: got %q", c[0], got)
		}
		if again := hostsWith(c[1], "h"); again != c[1] {
			t.Errorf("twice: %q", again)
		}
	}
}

func TestCommands(t *testing.T) {
	n := newNode(t, map[string]string{"1.yaml": `#cloud-config
stages:
  boot:
  - name: shell
    commands:
    - echo one; echo two >&2
    - |
      # a comment first
      cat > /tmp/here <<EOF
      inside
      EOF
    - id -u > /tmp/uid
    - 'cat; echo "stdin ended: $?"'
    - exit 3
    - echo 'not closed
    - ls /proc/self/fd 2>/dev/null; echo trailing \
    - echo "$0|$HOME|$PATH" > /tmp/env; pwd >> /tmp/env
  - name: met
    if: '[ -e /tmp/here ]'
  - name: not met
    if: '[ -e /nowhere ]'
    commands: [touch /tmp/wrong]
  - name: not there
    if: no-such-command
  - name: files met
    if_files: {all: [/tmp/here, /tmp/uid], any: [/x, /tmp], none: [/x]}
  - {name: one missing, if_files: {all: [/tmp/here, /x]}}
  - {name: none there, if_files: {any: [/x, /y]}}
  - {name: forbidden, if_files: {none: [/tmp]}}
`})
	testroot.WithShell(t, n.dir)
	r := n.run("boot")
	if got, want := outcomes(r), "shell=failed met=done not met=skipped not there=skipped files met=done one missing=skipped none there=skipped forbidden=skipped"; got != want {
		t.Errorf("got %s\nwant %s\n%s", got, want, n.log)
	}
	wantErrors := "command 5 of 8 (/oem/1.yaml:14): exit status 3|command 6 of 8 (/oem/1.yaml:15): exit status 2"
	if got := strings.Join(r.Steps[0].Errors, "|"); got != wantErrors {
		t.Errorf("errors %s\nwant   %s", got, wantErrors)
	}
	for name, want := range map[string]string{"tmp/here": "inside\n", "tmp/uid": "0\n", "tmp/env": "/bin/sh|/root|" + os.Getenv("PATH") + "\n/\n"} {
		if got := n.read(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if _, err := os.Stat(filepath.Join(n.dir, "tmp/wrong")); err == nil {
		t.Error("a step ran whose condition did not hold")
	}
	for _, want := range []string{"kairos-config: shell: one\n", "kairos-config: shell: two\n", "kairos-config: shell: stdin ended: 0\n", "kairos-config: shell: trailing\n",
		"warning: /oem/1.yaml:23: not there: the condition could not be tried: exit status 127"} {
		if !strings.Contains(n.log.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, n.log)
		}
	}
	if got := r.Steps[5].Reason + "; " + r.Steps[6].Reason + "; " + r.Steps[7].Reason; got != "if_files: /x is missing; if_files: none of the files exists; if_files: /tmp exists" {
		t.Error(got)
	}
}

// TestOrderWithinAStep: a command sees the directories and files of its step,
// and neither its host name nor its users, as in Kairos.
func TestOrderWithinAStep(t *testing.T) {
	n := newNode(t, map[string]string{"1.yaml": `stages: {boot: [{name: s, environment: {A: b}, users: {alice: {}}, hostname: h,
  commands: [ls /d, "cat /d/f /etc/hostname /etc/environment", "[ -e /home/alice ] && echo early"], files: [{path: /d/f, content: "x\n"}], directories: [{path: /d, permissions: 0711}]}]}`})
	testroot.WithShell(t, n.dir)
	r := n.run("boot")
	if log := n.log.String(); !strings.Contains(log, "s: f\n") || !strings.Contains(log, "s: x\n") || strings.Count(log, "No such file") != 2 || strings.Contains(log, "early") {
		t.Error(log)
	}
	if got, want := strings.Join(r.Steps[0].Changed, " "), "/d /d/f /etc/hostname /etc/hosts /etc/group /etc/gshadow /etc/shadow /etc/passwd /home/alice /etc/environment"; got != want {
		t.Errorf("got %s", got)
	}
}

// TestCommandTextIsNotInArgv: while a command runs, no process shows it.
func TestCommandTextIsNotInArgv(t *testing.T) {
	n := newNode(t, map[string]string{"1.yaml": "stages: {boot: [{commands: ['secret=hunter2; tr \"\\0\" \" \" < /proc/$$/cmdline; echo; tr \"\\0\" \" \" < /proc/self/cmdline'], if: ': hunter2'}]}"})
	testroot.WithShell(t, n.dir)
	if err := unix.Mount("proc", n.dir+"/proc", "proc", 0, ""); err != nil {
		t.Skip("needs mount(2):", err)
	}
	defer unix.Unmount(n.dir+"/proc", unix.MNT_DETACH)
	n.run("boot")
	if log := n.log.String(); !strings.Contains(log, ": /bin/sh") || strings.Contains(log, "hunter2") {
		t.Errorf("got %s", log)
	}
}

func TestTimeout(t *testing.T) {
	n := newNode(t, map[string]string{"1.yaml": "stages: {boot: [{name: s, commands: ['trap \"\" TERM; sleep 100 & echo $! > /tmp/pid; wait; sleep 100', touch /tmp/next]}]}"})
	testroot.WithShell(t, n.dir)
	n.Timeout = 2 * time.Second // the next command needs less, on a busy machine too
	started := time.Now()
	r := n.run("boot")
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	if len(r.Steps[0].Errors) != 1 || !strings.Contains(r.Steps[0].Errors[0], "stopped after 2s") {
		t.Errorf("got %v", r.Steps[0].Errors)
	}
	if n.read("tmp/next") != "" {
		t.Error("the next command did not run")
	}
	pid := strings.TrimSpace(n.read("tmp/pid"))
	for deadline := time.Now().Add(10 * time.Second); alive(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %s of the command still runs", pid)
		}
	}
}

// alive reports whether a process runs, and is no zombie.
func alive(pid string) bool {
	data, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(data), ") Z ")
}

func TestBackgroundProcess(t *testing.T) {
	n := newNode(t, map[string]string{"1.yaml": "stages: {boot: [{name: s, commands: ['sleep 60 & echo $! > /tmp/pid']}]}"})
	testroot.WithShell(t, n.dir)
	started := time.Now()
	r := n.run("boot")
	if took := time.Since(started); took > 20*time.Second || r.Outcome != Done {
		t.Errorf("took %v: %+v", took, r)
	}
	if err := exec.Command("kill", strings.TrimSpace(n.read("tmp/pid"))).Run(); err != nil {
		t.Error("the background process is gone:", err)
	}
}

// TestRecordOfARunningStage: what runs can be seen while it runs.
func TestRecordOfARunningStage(t *testing.T) {
	n := newNode(t, map[string]string{"1.yaml": "stages: {boot: [{name: first}, {name: hangs, commands: [cat /run/kairos/config/boot.json]}]}"})
	testroot.WithShell(t, n.dir)
	n.run("boot")
	want := `{"stage":"boot","outcome":"running",`
	if log := n.log.String(); !strings.Contains(log, "hangs: "+want) || !strings.Contains(log, `"name":"first","file":"/oem/1.yaml","line":1,"outcome":"done"`) ||
		!strings.Contains(log, `"name":"hangs","file":"/oem/1.yaml","line":1,"outcome":"running"`) {
		t.Error(log)
	}
}

func TestInterrupted(t *testing.T) {
	n := newNode(t, map[string]string{"1.yaml": "stages: {boot: [{name: s, commands: [touch /tmp/up; sleep 100, touch /tmp/next]}, {name: next}]}"})
	testroot.WithShell(t, n.dir)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	r := n.Run(ctx, NewPlan(source.Collect(n.Root), "boot", Fill{}))
	if outcomes(r) != "s=failed" || r.Outcome != Failed {
		t.Errorf("got %s", outcomes(r))
	}
	if !strings.HasPrefix(n.read("tmp/next"), "(") {
		t.Error("went on after the interrupt")
	}
}

func TestFailuresStayWhereTheyAre(t *testing.T) {
	lenient := map[string]string{
		"1.yaml": "stages: {boot: [{name: a, files: [{path: /etc, content: x}, {path: /etc/ok, content: x}], hostname: h}, {name: b}]}",
		"2.yaml": "stages: {boot: [{name: c}]}",
	}
	n := newNode(t, lenient)
	r := n.run("boot")
	if got := outcomes(r); got != "a=failed b=done c=done" || r.Outcome != Failed || r.HardFailed {
		t.Errorf("got %s %+v", got, r)
	}
	if n.read("etc/ok") != "x" || n.read("etc/hostname") != "h\n" {
		t.Error("the rest of the step did not run")
	}
	if got := r.Steps[0].Errors[0]; got != "file /etc: write /etc: not a regular file" {
		t.Error(got)
	}

	lenient["1.yaml"] = "strict: true\n" + lenient["1.yaml"]
	n = newNode(t, lenient)
	r = n.run("boot")
	if got := outcomes(r); got != "a=failed b=skipped c=done" || !r.HardFailed {
		t.Errorf("strict: got %s %+v", got, r)
	}

	delete(lenient, "1.yaml")
	lenient["3.yaml"] = "#cloud-config\na: ["
	n = newNode(t, lenient)
	if r = n.run("boot"); r.Outcome != Failed || r.HardFailed || outcomes(r) != "c=done" {
		t.Errorf("unreadable config: %+v", r)
	}
	n.Strict = true
	if r = n.run("boot"); !r.HardFailed {
		t.Errorf("unreadable config, strict: %+v", r)
	}
}

// TestAssess: what a step says counts more than what its config says.
func TestAssess(t *testing.T) {
	n := newNode(t, map[string]string{
		"1.yaml": "stages: {boot: [{name: a, assess: required}, {name: b}, {name: c, assess: wanted}]}",
		"2.yaml": "assess: required\nstages: {boot: [{name: d, assess: wanted}, {name: e}, {name: f, assess: required}]}",
	})
	got := ""
	for _, s := range n.run("boot").Steps {
		got += fmt.Sprintf("%s=%v ", s.Name, s.Assessed)
	}
	if got != "a=true b=false c=false d=false e=true f=true " {
		t.Error(got)
	}
}

func TestWrongTypesCostThemselves(t *testing.T) {
	n := newNode(t, map[string]string{"1.yaml": "stages: {boot: [{name: a, hostname: [x], files: [{path: /etc/f, content: x}]}, {name: b}]}"})
	r := n.run("boot")
	if got := outcomes(r); got != "a=failed b=done" || len(r.Steps[0].Problems) != 1 {
		t.Errorf("got %s %+v", got, r.Steps[0])
	}
	if n.read("etc/f") != "x" {
		t.Error("what stands beside it was not applied")
	}
}

// TestStageInTheNewSystem: what goes away with the root is told, five names of it.
func TestStageInTheNewSystem(t *testing.T) {
	for files, want := range map[int]string{0: "", 2: "/a0, /a1", 5: "/a0, /a1, /a2, /a3, /a4", 7: "/a0, /a1, /a2, /a3, /a4 and 2 more"} {
		n := newNode(t, map[string]string{"1.yaml": "#cloud-config\nstages:\n  after-upgrade-chroot.after: [{name: a, hostname: b}]"})
		n.Discarded = func() (names []string) {
			for i := range files {
				names = append(names, fmt.Sprint("/a", i))
			}
			return names
		}
		r := n.run("after-upgrade-chroot")
		if len(r.Steps) != 1 || r.Outcome != Done || (want == "") != (len(r.Problems) == 0) {
			t.Fatalf("%d: %+v", files, r)
		}
		if want != "" && !strings.HasSuffix(r.Problems[0].Message, "says: "+want) {
			t.Errorf("%d: %+v", files, r.Problems)
		}
	}
}

func TestLastHostnameWins(t *testing.T) {
	n := newNode(t, map[string]string{"1.yaml": "#cloud-config\nhostname: one", "2.yaml": "#cloud-config\nhostname: two", "3.yaml": "#cloud-config\nruncmd: []"})
	n.run("boot")
	if r := n.run("boot"); n.read("etc/hostname") != "two\n" || len(r.Steps[0].Changed)+len(r.Steps[1].Changed) > 0 {
		t.Errorf("%s: %+v", n.read("etc/hostname"), r)
	}
}

func TestRecord(t *testing.T) {
	n := newNode(t, map[string]string{"1.yaml": `#cloud-config
users:
- {name: alice, passwd: $6$hunter2$x, no_create_home: true}
runcmd: [": hunter2"]
write_files: [{path: /etc/x, content: hunter2, permissions: "0600"}]
stages: {boot: [{name: s, sysctl: {a: hunter2}, environment: {P: hunter2}}]}
`})
	n.run("boot")
	name := filepath.Join(n.dir, report.ConfigDir, "boot.json")
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Fatal(info, err)
	}
	data, _ := os.ReadFile(name)
	if strings.Contains(string(data)+n.log.String(), "hunter2") {
		t.Errorf("a secret is in %s\nor in %s", data, n.log)
	}
	var raw map[string]any
	if err := json.Unmarshal(data, &raw); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"stage", "outcome", "hard_failed", "started", "duration_ms", "steps", "problems"} {
		if raw[key] == nil {
			t.Errorf("record lacks %s: %s", key, data)
		}
	}
	n.run("fs")
	records, err := Records(n.Root)
	if err != nil || len(records) != 2 || records[0].Stage != "boot" || records[1].Stage != "fs" {
		t.Errorf("got %+v, %v", records, err)
	}
	n.write("run/kairos/config/fs.json", "{")
	if _, err := Records(n.Root); err == nil || !strings.Contains(err.Error(), "/run/kairos/config/fs.json") {
		t.Errorf("got %v", err)
	}
}

func TestUnknownKeysAreToldWithPlace(t *testing.T) {
	n := newNode(t, map[string]string{"1.yaml": "#cloud-config\nhostnam: x\nstages:\n  boot:\n  - name: x\n    fils: []\n  boots: []\n  initrmfs: []\n"})
	n.run("boot")
	if strings.Contains(n.log.String(), "initrmfs") {
		t.Error("a slip of another stage is told in this one")
	}
	for _, want := range []string{
		`warning: /oem/1.yaml:2:1: unknown key "hostnam": did you mean "hostname"?`,
		`warning: /oem/1.yaml:6:5: unknown key "fils": did you mean "files"?`,
		`warning: /oem/1.yaml:7:3: unknown stage "boots": did you mean "boot"?`,
	} {
		if !strings.Contains(n.log.String(), want) {
			t.Errorf("log lacks %s:\n%s", want, n.log)
		}
	}
}

func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for chown")
	}
	n := newNode(t, map[string]string{"1.yaml": `stages: {boot: [{name: s, files: [
  {path: /f/a, owner: 5, group: 6}, {path: /f/b, owner: daemon}, {path: /f/c, owner: "daemon:sudo"}, {path: /f/d, ownerstring: nobody},
  {path: /f/e, ownerstring: "7:users"}, {path: /f/f, group: 42}, {path: /f/g, ownerstring: "none:users"}, {path: /f/h, group: none}]}]}`})
	r := n.run("boot")
	if got, want := strings.Join(r.Steps[0].Errors, "|"), `file /f/g: it is root's: there is no user "none"|file /f/h: it is root's: there is no group "none"`; got != want {
		t.Errorf("got %s", got)
	}
	out, err := exec.Command("sh", "-c", "cd \"$1\"; stat -c '%n %u:%g' *", "sh", filepath.Join(n.dir, "f")).Output()
	if want := "a 5:6\nb 1:0\nc 1:27\nd 65534:65534\ne 7:100\nf 0:42\ng 0:0\nh 0:0\n"; err != nil || string(out) != want {
		t.Errorf("got %s, %v", out, err)
	}
}

// TestUnits uses the real systemctl beneath the root.
func TestUnits(t *testing.T) {
	if _, err := exec.LookPath("systemctl"); err != nil {
		t.Skip("needs systemctl")
	}
	n := newNode(t, map[string]string{"1.yaml": "stages: {boot: [{name: s, systemctl: {enable: [one, two.service, none], disable: [three], mask: [four.service], start: [one]}}]}"})
	for _, dir := range []string{"usr/lib/systemd/system", "etc/systemd/system/multi-user.target.wants"} {
		if err := os.MkdirAll(filepath.Join(n.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, unit := range []string{"one", "two", "three"} {
		n.write("usr/lib/systemd/system/"+unit+".service", "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")
	}
	wants := filepath.Join(n.dir, "etc/systemd/system/multi-user.target.wants")
	if err := os.Symlink("/usr/lib/systemd/system/three.service", filepath.Join(wants, "three.service")); err != nil {
		t.Fatal(err)
	}
	r := n.run("boot")
	entries, _ := os.ReadDir(wants)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "one.service two.service" {
		t.Errorf("wanted: %s\n%s", got, n.log)
	}
	if target, _ := os.Readlink(filepath.Join(n.dir, "etc/systemd/system/four.service")); target != "/dev/null" {
		t.Errorf("four is not masked: %q", target)
	}
	s := r.Steps[0]
	if len(s.Errors) != 2 || !strings.Contains(s.Errors[0], "enable none: systemctl: ") || !strings.Contains(s.Errors[1], "can be started in the booted system only") {
		t.Errorf("errors %q", s.Errors)
	}
	if got := strings.Join(s.Changed, " "); got != "enabled one enabled two.service disabled three masked four.service" {
		t.Errorf("changed %s", got)
	}
	if again := n.run("boot"); len(again.Steps[0].Changed) > 0 {
		t.Errorf("twice: changed %q", again.Steps[0].Changed)
	}
}

func TestReadOnlyRootIsExplained(t *testing.T) {
	n := newNode(t, map[string]string{"1.yaml": "stages: {rootfs: [{files: [{path: /etc/x, content: x}, {path: /run/ok, content: y}]}]}"})
	if err := exec.Command("mount", "--bind", n.dir+"/etc", n.dir+"/etc").Run(); err != nil {
		t.Skip("needs mount(8):", err)
	}
	t.Cleanup(func() { _ = exec.Command("umount", n.dir+"/etc").Run() })
	if out, err := exec.Command("mount", "-o", "remount,bind,ro", n.dir+"/etc").CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	r := n.run("rootfs")
	if e := r.Steps[0].Errors; len(e) != 1 || !strings.Contains(e[0], "read-only file system (the root is not writable before the stage initramfs, only /run is)") {
		t.Errorf("got %q", e)
	}
	if n.read("run/ok") != "y" {
		t.Error("/run was not written")
	}
}

func TestContentProblems(t *testing.T) {
	bomb := zipped(t, strings.Repeat("x", maxContent+1))
	for _, c := range [][3]string{
		{"%%%", "b64", "decode content: illegal base64"}, {"aGk=", "gz+b64", "decompress content: "}, {bomb, "gzip+base64", "decompress content: larger than 64 MiB"},
		{bomb[:100], "gz+b64", "decompress content: unexpected EOF"},
	} {
		if _, err := decodeContent(c[0], c[1]); err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%s: got %v", c[1], err)
		}
	}
}

func TestLineWriter(t *testing.T) {
	var lines []string
	w := &lineWriter{left: maxLines, emit: func(l string) { lines = append(lines, l) }}
	for _, part := range []string{"a", "b\nc\r\n", "\n", strings.Repeat("x", maxLine+5), "\nlast"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Error(n, err)
		}
	}
	w.flush()
	want := []string{"ab", "c", "", strings.Repeat("x", maxLine), "xxxxx", "last"}
	if strings.Join(lines, "|") != strings.Join(want, "|") {
		t.Errorf("got %q", lines)
	}
}

// TestEndlessOutput: a command that never stops to print neither fills the log
// nor the memory, and isn't held up.
func TestEndlessOutput(t *testing.T) {
	lines, last := 0, ""
	w := &lineWriter{left: maxLines, emit: func(l string) { lines, last = lines+1, l }}
	for range 1000 {
		if n, err := w.Write(bytes.Repeat([]byte("y\n"), 1000)); n != 2000 || err != nil {
			t.Fatal(n, err)
		}
	}
	w.flush()
	if lines != maxLines+1 || last != "more than 2000 lines of output: the rest is left out" || cap(w.rest) > 1<<20 {
		t.Errorf("%d lines, the last is %q; %d bytes are kept", lines, last, cap(w.rest))
	}
}

// BenchmarkRun collects, merges and runs a config of 200 lines, everything
// applied already, as at every boot after the first.
func BenchmarkRun(b *testing.B) {
	data, err := os.ReadFile("../../testdata/200-lines.yaml")
	if err != nil {
		b.Fatal(err)
	}
	n := newNode(b, map[string]string{"90_custom.yaml": string(data)})
	n.Log = slog.New(slog.DiscardHandler)
	n.run("boot")
	b.ReportAllocs()
	for b.Loop() {
		c := source.Collect(n.Root)
		c.Merged()
		if r := n.Run(context.Background(), NewPlan(c, "boot", Fill{})); r.Outcome != Done {
			b.Fatalf("%+v", r)
		}
	}
}
