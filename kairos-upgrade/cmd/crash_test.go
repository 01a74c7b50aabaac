package cmd

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
)

// node is a store and an ESP in directories, driven by the program itself.
type node struct {
	t          *testing.T
	store, esp string
}

func newNode(t *testing.T) node {
	dir := t.TempDir()
	n := node{t, filepath.Join(dir, "store"), filepath.Join(dir, "esp")}
	for _, d := range []string{n.store, n.esp} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// manyProcesses skips a test that runs the program hundreds of times, which
// takes the race detector minutes to start: make unit runs it without.
func manyProcesses(t *testing.T) {
	if raceDetector {
		t.Skip("it runs many processes: without the race detector only")
	}
}

func (n node) command(name string, args ...string) *exec.Cmd {
	args = append([]string{name, "--quiet", "--store", n.store, "--esp", n.esp}, args...)
	cmd := exec.Command("kairos-upgrade", args...)
	cmd.Env = append(os.Environ(), "NODE="+n.t.TempDir(), "HOME="+n.t.TempDir())
	return cmd
}

// run runs a command and returns its exit status and what it printed.
func (n node) run(name string, args ...string) (int, string) {
	n.t.Helper()
	out, err := n.command(name, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		n.t.Fatal(err)
	}
	if exit != nil {
		return exit.ExitCode(), string(out)
	}
	return 0, string(out)
}

func (n node) want(code int, name string, args ...string) string {
	n.t.Helper()
	have, out := n.run(name, args...)
	if have != code {
		n.t.Fatalf("%s %v: exit status %d, want %d:\n%s", name, args, have, code, out)
	}
	return out
}

// bless marks a deployment good.
func (n node) bless(serial int) {
	n.t.Helper()
	names, err := filepath.Glob(filepath.Join(n.esp, "loader/entries", fmt.Sprintf("kairos-%d-*+3.conf", serial)))
	if err != nil || len(names) != 1 {
		n.t.Fatalf("entries of %d: %v, %v", serial, names, err)
	}
	if err := os.Rename(names[0], strings.Replace(names[0], "+3", "", 1)); err != nil {
		n.t.Fatal(err)
	}
}

// entries lists the boot entries, without what was not finished.
func (n node) entries() []string {
	n.t.Helper()
	found, err := os.ReadDir(filepath.Join(n.esp, "loader/entries"))
	if err != nil {
		n.t.Fatal(err)
	}
	var names []string
	for _, e := range found {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

// files lists the files beneath dirs, by name and size.
func files(t *testing.T, dirs ...string) string {
	t.Helper()
	var list strings.Builder
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || d.Name() == "filler" {
				return err
			}
			info, err := d.Info()
			rel, _ := filepath.Rel(filepath.Dir(dir), name)
			fmt.Fprintln(&list, rel, info.Size())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return list.String()
}

// testLayers makes the directories of layers with a kernel (base) and count
// files each.
func testLayers(t *testing.T, count, size int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name string, size int) {
		b := make([]byte, size)
		rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%32s", name[len(name)-min(32, len(name)):])))).Read(b)
		imagetest.Write(t, filepath.Join(dir, name), b)
	}
	write("base/usr/lib/modules/6.1.2/vmlinuz", 100_000)
	write("base/usr/lib/modules/6.1.2/initramfs.img", 300_000)
	for i := range count {
		write(fmt.Sprintf("base/usr/share/%03d", i), size)
		write(fmt.Sprintf("next/usr/share/next/%03d", i), size)
		write(fmt.Sprintf("small/usr/share/small/%03d", i), 1000)
	}
	return dir
}

// testImages makes images that share a layer of count files: v1, v2 with a
// layer of as many more, and v3 with a layer of small files besides.
func testImages(t *testing.T, count, size int) (layout string) {
	t.Helper()
	dir := testLayers(t, count, size)
	layout = filepath.Join(dir, "oci")
	for tag, layers := range map[string][]string{"v1": {"base"}, "v2": {"base", "next"}, "v3": {"base", "small", "next"}} {
		var dirs []string
		for _, l := range layers {
			dirs = append(dirs, filepath.Join(dir, l))
		}
		if _, err := writeImage(layout, tag, dirs); err != nil {
			t.Fatal(err)
		}
	}
	return "oci:" + layout
}

// chunkedImages offers v1 and v2 in a registry as images of one zstd:chunked
// layer each: v2 is fetched in parts.
func chunkedImages(t *testing.T, count, size int) (repository string) {
	t.Helper()
	dir := testLayers(t, count, size)
	registry := imagetest.NewRegistry(t)
	push := func(tag string) {
		data, err := archive(filepath.Join(dir, "base"))
		if err != nil {
			t.Fatal(err)
		}
		layer := imagetest.Layer{Tar: data, Compression: "zstd:chunked"}
		registry.Push("os", tag, imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{layer}}))
	}
	push("v1")
	if err := os.CopyFS(filepath.Join(dir, "base"), os.DirFS(filepath.Join(dir, "next"))); err != nil {
		t.Fatal(err)
	}
	push("v2")
	return registry.Host + "/os"
}

var kills = flag.Int("kills", 6, "how many stagings TestKilled kills of each kind")

// A staging that is killed at any moment leaves the old system as it was or
// the new one complete, a store that verifies, and nothing in the way of the
// next attempt, whose result is that of an undisturbed one.
func TestKilled(t *testing.T) {
	manyProcesses(t)
	t.Run("layers", func(t *testing.T) { testKilled(t, testImages(t, 150, 20_000)) })
	t.Run("parts of layers", func(t *testing.T) { testKilled(t, chunkedImages(t, 150, 20_000), "--insecure") })
}

func testKilled(t *testing.T, images string, options ...string) {
	stage := func(tag string) []string { return append(slices.Clone(options), images+":"+tag) }
	ideal := newNode(t)
	ideal.want(0, "stage", stage("v1")...)
	ideal.bless(1)
	begin := time.Now()
	ideal.want(0, "stage", stage("v2")...)
	whole := time.Since(begin)
	ideal.want(0, "gc")

	published := 0
	for i := range *kills {
		n := newNode(t)
		n.want(0, "stage", stage("v1")...)
		n.bless(1)
		before := n.entries()
		if kill(t, n.command("stage", stage("v2")...), n.moment(i, whole)) {
			n.want(0, "verify")
			now := n.entries()
			if !slices.Contains(now, before[0]) || len(now) > 2 {
				t.Fatalf("kill %d: entries %v, before %v", i, now, before)
			}
			published += len(now) - 1
		}
		if code, out := n.run("stage", stage("v2")...); code != 0 && code != 3 {
			t.Fatalf("kill %d: staging again: exit status %d:\n%s", i, code, out)
		}
		n.want(0, "gc")
		n.want(0, "verify")
		for _, part := range []string{"objects", "images"} {
			have, want := files(t, filepath.Join(n.store, part)), files(t, filepath.Join(ideal.store, part))
			if have != want {
				t.Fatalf("kill %d: %s differ from an undisturbed staging:\n%s\nwant:\n%s", i, part, have, want)
			}
		}
		if have, want := files(t, filepath.Join(n.esp, "kairos")), files(t, filepath.Join(ideal.esp, "kairos")); have != want {
			t.Fatalf("kill %d: boot files:\n%s\nwant:\n%s", i, have, want)
		}
	}
	t.Logf("%d kills within %v, %d after publication", *kills, whole, published)
}

// moment returns when the i-th kill comes: at random, or, since these moments
// are short, as soon as there are new boot files, a new record, a new entry.
func (n node) moment(i int, whole time.Duration) func() bool {
	more := func(dir string, than int) func() bool {
		return func() bool {
			names, _ := os.ReadDir(dir)
			return len(names) > than
		}
	}
	switch i % 6 {
	case 0:
		return more(filepath.Join(n.store, "images"), 1)
	case 1:
		return more(filepath.Join(n.store, "deployments"), 1)
	case 2: // half written
		return more(filepath.Join(n.esp, "loader/entries"), 1)
	case 3: // published, not yet tidied up
		return func() bool { return len(n.entries()) > 1 }
	}
	at := time.Now().Add(time.Duration(rand.Int64N(int64(whole))))
	return func() bool { return time.Now().After(at) }
}

// kill starts a command, kills it when it is time, and reports whether it was
// still running.
func kill(t *testing.T, cmd *exec.Cmd, when func() bool) bool {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case err := <-done:
			var exit *exec.ExitError
			return errors.As(err, &exit) && !exit.Exited()
		default:
			if when() {
				cmd.Process.Kill()
				when = func() bool { return false }
			}
			runtime.Gosched()
		}
	}
}

// An interrupted staging says so, and publishes nothing.
func TestInterrupted(t *testing.T) {
	images := testImages(t, 150, 200_000)
	n := newNode(t)
	n.want(0, "stage", images+":v1")
	entries := files(t, filepath.Join(n.esp, "loader"))
	cmd := n.command("stage", images+":v2")
	out := new(strings.Builder)
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It has begun to write when something is in tmp.
	for deadline := time.Now().Add(10 * time.Second); ; {
		if names, _ := os.ReadDir(filepath.Join(n.store, "tmp")); len(names) > 5 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is written")
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 130 {
		t.Fatalf("%v, want exit status 130:\n%s", err, out)
	}
	if !strings.Contains(out.String(), "interrupted") {
		t.Errorf("stderr:\n%s", out)
	}
	if now := files(t, filepath.Join(n.esp, "loader")); now != entries {
		t.Errorf("entries:\n%s\nwant:\n%s", now, entries)
	}
	n.want(0, "verify")
	n.want(0, "stage", images+":v2")
}
