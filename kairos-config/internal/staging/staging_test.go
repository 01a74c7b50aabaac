package staging

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/generation"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/lock"
	"github.com/kairos-io/toolkit/lib/report"
	"golang.org/x/sys/unix"
)

// deployments stands for kairos-upgrade, which needs a store and a boot loader;
// the end-to-end tests have the real one.
type deployments struct {
	list Deployments
	fail error
}

func (d *deployments) Deployments(context.Context) (Deployments, error) { return d.list, nil }

func (d *deployments) Stage(_ context.Context, id string, add, remove []string) error {
	if d.fail != nil {
		return d.fail
	}
	next := *d.list.next()
	made := Deployment{Record: deployment.Record{ID: id + "+", ImageDigest: d.list.Find(id).ImageDigest}, State: report.Pending}
	for _, option := range next.NodeOptions {
		if !slices.Contains(remove, option) {
			made.NodeOptions = append(made.NodeOptions, option)
		}
	}
	if len(made.NodeOptions)+len(remove) != len(next.NodeOptions) {
		return errors.New("an option was to be removed that isn't there")
	}
	made.NodeOptions = append(made.NodeOptions, add...)
	d.list.Staged = made.ID
	d.list.Deployments = append([]Deployment{made}, d.list.Deployments...)
	return nil
}

func (d *deployments) Rollback(_ context.Context, id string) error {
	made := *d.list.Find(id)
	made.ID, d.list.Staged = id+"'", id+"'"
	d.list.Deployments = []Deployment{made, *d.list.Find(id)}
	return nil
}

// boot boots what was staged.
func (d *deployments) boot(t *testing.T, n *Node) {
	t.Helper()
	d.list.Booted, d.list.Staged = d.list.next().ID, ""
	d.list.Find(d.list.Booted).State = "good"
	line := strings.Join(d.list.Find(d.list.Booted).NodeOptions, " ")
	must(t, os.WriteFile(filepath.Join(n.Root.Path(), "proc/cmdline"), []byte(line), 0o644))
}

func newNode(t *testing.T) (*Node, *deployments) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"oem", "proc", "run"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	root, err := rootfs.Open(dir)
	must(t, err)
	disk, close, err := generation.OpenDisk(filepath.Join(dir, "oem"))
	must(t, err)
	t.Cleanup(func() { close(); root.Close() })
	d := &deployments{list: Deployments{Booted: "1", Deployments: []Deployment{{Record: deployment.Record{ID: "1", ImageDigest: "a", NodeOptions: []string{"quiet"}}, State: report.Good}}}}
	return &Node{
		Root: root, Disk: disk, Upgrade: d, Booted: deployment.Booted{Mode: deployment.Active},
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}, d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(name, text string) Change { return Change{Put: map[string][]byte{name: []byte(text)}} }

func TestLifeOfGenerations(t *testing.T) {
	n, d := newNode(t)
	first, err := n.Stage(t.Context(), put("90.yaml", "one"))
	must(t, err)
	if got := d.list.next().NodeOptions; !slices.Equal(got, []string{"quiet", generation.Argument + "=" + first.ID}) {
		t.Errorf("options %q", got)
	}
	if _, err := n.Stage(t.Context(), put("90.yaml", "one")); exit.Code(err) != exit.Nothing {
		t.Errorf("the same again: %v", err)
	}
	if all, _ := generation.All(n.Root); len(all) != 1 {
		t.Errorf("a generation was left: %+v", all)
	}
	// One change after the other adds up, also before a reboot.
	second, err := n.Stage(t.Context(), put("91.yaml", "two"))
	must(t, err)
	if len(second.Files) != 2 || second.Base != first.ID || generationOf(d.list.next().NodeOptions) != second.ID {
		t.Errorf("got %+v, boots next %+v", second, d.list.next())
	}
	d.boot(t, n)
	s, err := Read(t.Context(), n.Root, d)
	must(t, err)
	if s.Booted != second.ID || s.Staged != "" || len(s.Generations) != 2 || s.Generations[1].State != "booted" || s.Generations[0].State != "kept" {
		t.Errorf("got %+v", s)
	}
	// Back to the one before, and to the plain configs.
	id, err := n.Rollback(t.Context(), "")
	must(t, err)
	if id != first.ID || generationOf(d.list.next().NodeOptions) != first.ID {
		t.Errorf("went back to %s: %+v", id, d.list.next())
	}
	id, err = n.Rollback(t.Context(), Plain)
	must(t, err)
	if id != "" || generationOf(d.list.next().NodeOptions) != "" {
		t.Errorf("went back to %q: %+v", id, d.list.next())
	}
	if _, err := n.Rollback(t.Context(), second.ID); exit.Code(err) != exit.Nothing {
		t.Errorf("to what runs: %v", err)
	}
	if _, err := n.Rollback(t.Context(), "9-000000000000"); err == nil {
		t.Error("to nothing: no error")
	}
}

// TestFailedGenerationDoesNotCount: what is staged after a fallback is built on
// what runs.
func TestFailedGenerationDoesNotCount(t *testing.T) {
	n, d := newNode(t)
	bad, err := n.Stage(t.Context(), put("90.yaml", "bad"))
	must(t, err)
	d.list.Find(d.list.Staged).State, d.list.Staged = "bad", "" // it was tried
	s, err := Read(t.Context(), n.Root, d)
	must(t, err)
	if s.Booted != "" || s.Staged != "" || s.Generations[0].State != "failed" {
		t.Errorf("got %+v", s)
	}
	good, err := n.Stage(t.Context(), put("91.yaml", "good"))
	must(t, err)
	if good.Base != "" || good.Find("90.yaml") != nil || good.Number <= bad.Number {
		t.Errorf("got %+v", good)
	}
}

func TestFailedDeploymentLeavesNothing(t *testing.T) {
	n, d := newNode(t)
	d.fail = exit.WithCode(errors.New("kairos-upgrade stage: no space"), exit.NoSpace)
	if _, err := n.Stage(t.Context(), put("90.yaml", "x")); exit.Code(err) != exit.NoSpace {
		t.Errorf("got %v", err)
	}
	if all, err := generation.All(n.Root); len(all) > 0 || err != nil {
		t.Errorf("left %+v, %v", all, err)
	}
}

func TestDiscard(t *testing.T) {
	n, d := newNode(t)
	if _, err := n.Discard(t.Context()); exit.Code(err) != exit.Nothing {
		t.Errorf("got %v", err)
	}
	g, err := n.Stage(t.Context(), put("90.yaml", "x"))
	must(t, err)
	id, err := n.Discard(t.Context())
	must(t, err)
	if id != g.ID || generationOf(d.list.next().NodeOptions) != "" {
		t.Errorf("discarded %s: %+v", id, d.list)
	}
	if all, err := generation.All(n.Root); len(all) > 0 || err != nil {
		t.Errorf("left %+v, %v", all, err)
	}
	if _, err := n.Discard(t.Context()); exit.Code(err) != exit.Nothing {
		t.Errorf("twice: %v", err)
	}
	d.list = Deployments{Booted: "1", Staged: "2", Deployments: []Deployment{{Record: deployment.Record{ID: "2", ImageDigest: "b"}}, {Record: deployment.Record{ID: "1", ImageDigest: "a"}}}}
	if _, err := n.Discard(t.Context()); err == nil || !strings.Contains(err.Error(), "an upgrade and not a config") || exit.HintOf(err) == "" {
		t.Errorf("an upgrade: %v", err)
	}
}

func TestWhereNothingIsStaged(t *testing.T) {
	n, _ := newNode(t)
	n.Booted.Mode = deployment.Recovery
	if _, err := n.Stage(t.Context(), put("90.yaml", "x")); err == nil || !strings.Contains(err.Error(), `mode "recovery"`) {
		t.Errorf("got %v", err)
	}
	n.Booted.Mode = deployment.Active
	unlock, err := n.begin(t.Context())
	must(t, err)
	defer unlock()
	if _, err := n.Stage(t.Context(), put("90.yaml", "x")); exit.Code(err) != exit.Busy {
		t.Errorf("got %v", err)
	}
}

// TestReadOnlyOEM: the error is clear, and nothing is deployed.
func TestReadOnlyOEM(t *testing.T) {
	n, d := newNode(t)
	n.Disk = readOnly{n.Disk}
	if _, err := n.Stage(t.Context(), put("90.yaml", "x")); err == nil || !strings.Contains(err.Error(), "write generation 1-") || d.list.Staged != "" {
		t.Errorf("got %v, staged %q", err, d.list.Staged)
	}
}

// readOnly is a disk that takes nothing.
type readOnly struct{ generation.Disk }

func (readOnly) Mkdir(name string) error {
	return &os.PathError{Op: "mkdir", Path: name, Err: os.ErrPermission}
}

// TestFullOEM: it is known as that, whichever write it is that has no room, and
// leaves nothing behind.
func TestFullOEM(t *testing.T) {
	for room := range 3 {
		n, d := newNode(t)
		n.Disk = &full{n.Disk, room}
		_, err := n.Stage(t.Context(), Change{Put: map[string][]byte{"90.yaml": []byte("x"), "91.yaml": []byte("y")}})
		if exit.Code(err) != exit.NoSpace || d.list.Staged != "" {
			t.Errorf("room for %d files: got %v, staged %q", room, err, d.list.Staged)
		}
		after, err := n.Disk.ReadDir(".generations")
		must(t, err)
		if len(after) > 0 {
			t.Errorf("room for %d files: %q is left", room, after)
		}
	}
}

// full is a disk that has room for so many files.
type full struct {
	generation.Disk
	room int
}

func (f *full) Write(name string, data []byte) error {
	if f.room--; f.room < 0 {
		return &os.PathError{Op: "write", Path: name, Err: unix.ENOSPC}
	}
	return f.Disk.Write(name, data)
}

// TestCommand runs a program in the place of kairos-upgrade, as the command
// does: arguments, and what becomes of its errors.
func TestCommand(t *testing.T) {
	program := filepath.Join(t.TempDir(), "kairos-upgrade")
	must(t, os.WriteFile(program, []byte(`#!/bin/sh
case $1 in
status) echo '{"booted":"1-a","staged":"","deployments":[{"id":"1-a","node_options":["kairos.config_generation=4-000000000000"]}]}' ;;
*) echo "$@" > "$0.args"; echo 'kairos-upgrade: waiting: the lock is held by x' >&2; echo '{"message_type":"exit_error","code":6,"message":"busy","hint":"wait"}' >&2; exit 6 ;;
esac
`), 0o755))
	c := Command{Program: program}
	list, err := c.Deployments(t.Context())
	must(t, err)
	if generationOf(list.next().NodeOptions) != "4-000000000000" {
		t.Errorf("got %+v", list)
	}
	err = c.Stage(t.Context(), "1-a", []string{"b=2"}, []string{"a=1"})
	if exit.Code(err) != 6 || err.Error() != "kairos-upgrade: busy" || exit.HintOf(err) != "wait" {
		t.Errorf("got %v", err)
	}
	args, _ := os.ReadFile(program + ".args")
	if want := "stage --quiet --json --origin config --karg b=2 --delete-karg a=1 store:/run/kairos/store:1-a\n"; string(args) != want {
		t.Errorf("got %s", args)
	}
	var told string
	ctx := lock.With(t.Context(), lock.Wait{Asked: true, Tell: func(m string) { told = m }})
	if err := c.Rollback(ctx, "1-a"); exit.Code(err) != 6 || told != "waiting: the lock is held by x" {
		t.Errorf("got %v, told %q", err, told)
	}
	if args, _ = os.ReadFile(program + ".args"); string(args) != "rollback --wait --json 1-a\n" {
		t.Errorf("got %s", args)
	}
}
