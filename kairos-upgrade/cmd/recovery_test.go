package cmd

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/inotify"
)

// stageRecovery is the arguments that renew the recovery system.
func stageRecovery(args ...string) []string { return append([]string{"--recovery"}, args...) }

// recoveryImage returns the digest of the image that the recovery system's
// entry boots, after reading everything that it needs; "" when there is no
// entry.
func recoveryImage(n node) string {
	n.t.Helper()
	entry, err := os.ReadFile(filepath.Join(n.esp, "loader/entries/kairos-recovery.conf"))
	if os.IsNotExist(err) {
		return ""
	}
	if err != nil {
		n.t.Fatal(err)
	}
	match := regexp.MustCompile(`kairos\.image=\??(sha256:[0-9a-f]{64})`).FindSubmatch(entry)
	if match == nil {
		n.t.Fatalf("the entry names no image:\n%s", entry)
	}
	names := regexp.MustCompile(`(?m)^(?:linux|initrd) +(\S+)$`).FindAllSubmatch(entry, -1)
	if len(names) < 2 {
		n.t.Fatalf("the entry names no kernel or no initrd:\n%s", entry)
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(n.esp, string(name[1]))); err != nil {
			n.t.Fatalf("the entry names what is not there: %v", err)
		}
	}
	// The deployment that boots is undamaged: by its id, from end to end.
	var status struct {
		Deployments []struct {
			ID          string
			State       string
			ImageDigest string `json:"image_digest"`
		}
	}
	if err := json.Unmarshal([]byte(n.want(0, "status", "--recovery", "--json")), &status); err != nil {
		n.t.Fatal(err)
	}
	for _, d := range status.Deployments {
		if d.State != "incomplete" && d.ImageDigest == string(match[1]) {
			n.want(0, "verify", "--recovery", d.ID)
			return d.ImageDigest
		}
	}
	n.t.Fatalf("the entry boots %s, of which there is no deployment", match[1])
	return ""
}

// killAtChange runs a command and kills it at its count-th change of the node's
// directories, counted from 0: a file made, written, renamed or removed. It
// reports whether there were as many.
func killAtChange(n node, cmd *exec.Cmd, count int) bool {
	n.t.Helper()
	w, err := inotify.New()
	if err != nil {
		n.t.Fatal(err)
	}
	defer w.Close()
	for _, top := range []string{n.store, n.esp} {
		err := filepath.WalkDir(top, func(name string, d os.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			return w.Add(name)
		})
		if err != nil {
			n.t.Fatal(err)
		}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for seen := 0; ; {
		select {
		case <-w.Events():
			if seen == count {
				cmd.Process.Kill()
				<-ended
				return true
			}
			seen++
		case err := <-ended:
			if err != nil {
				n.t.Fatalf("%v:\n%s", err, &out)
			}
			return false
		}
	}
}

// The renewal of the recovery system that is killed at any of its changes
// leaves the old one or the new one, whole, and nothing in the way of the next
// attempt. What it cannot prove, what a power cut leaves of unwritten pages, is
// for the virtual machine.
func TestRecoveryKilled(t *testing.T) {
	manyProcesses(t)
	images := testImages(t, 8, 5_000)
	ideal := newNode(t)
	ideal.want(0, "stage", stageRecovery(images+":v1")...)
	before := recoveryImage(ideal)
	ideal.want(0, "stage", stageRecovery(images+":v2")...)
	after := recoveryImage(ideal)
	if before == after || before == "" {
		t.Fatalf("renewed %q with %q", before, after)
	}
	want := files(t, filepath.Join(ideal.store, "objects"), filepath.Join(ideal.store, "images"), filepath.Join(ideal.esp, "kairos"))

	seen := map[string]int{}
	step := 3
	if *kills > 6 { // make test-long
		step = 1
	}
	killed := 0
	for count := 0; ; count += step {
		n := newNode(t)
		n.want(0, "stage", stageRecovery(images+":v1")...)
		if !killAtChange(n, n.command("stage", stageRecovery(images+":v2")...), count) {
			break
		}
		killed++
		image := recoveryImage(n)
		if image != before && image != after {
			t.Fatalf("kill at change %d: the recovery system is %q, neither %s nor %s", count, image, before, after)
		}
		seen[image]++
		if code, out := n.run("stage", stageRecovery(images+":v2")...); code != 0 && code != 3 {
			t.Fatalf("kill at change %d: staging again: exit status %d:\n%s", count, code, out)
		}
		if image := recoveryImage(n); image != after {
			t.Fatalf("kill at change %d: staged again, the recovery system is %s", count, image)
		}
		n.want(0, "gc", "--recovery")
		n.want(0, "verify", "--recovery")
		if have := files(t, filepath.Join(n.store, "objects"), filepath.Join(n.store, "images"), filepath.Join(n.esp, "kairos")); have != want {
			t.Fatalf("kill at change %d: afterwards there is\n%s\nwant:\n%s", count, have, want)
		}
	}
	if seen[before] == 0 || seen[after] == 0 {
		t.Errorf("of %d kills, the old one was left by %d, the new one by %d", killed, seen[before], seen[after])
	}
	t.Logf("%d kills: old %d, new %d", killed, seen[before], seen[after])
}

// Where there is no room for two, nothing is changed unless the owner says so;
// then the old one goes only when the new one is known to be whole and to fit.
func TestRecoveryReplaced(t *testing.T) {
	// Two images that share their kernel and nothing else, the new one larger.
	dir := testLayers(t, 100, 100_000)
	layer := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.CopyFS(layer("next/usr/lib"), os.DirFS(layer("base/usr/lib"))))
	for tag, layers := range map[string][]string{"v1": {layer("base")}, "v2": {layer("next"), layer("small")}} {
		_, err := writeImage(layer("oci"), tag, layers)
		must(err)
	}
	images := "oci:" + layer("oci")
	installed := newNode(t)
	installed.want(0, "stage", images+":v2")
	source := "store:" + installed.store

	n := newNode(t)
	small(t, n.store, "tmpfs", 64<<20)
	n.want(0, "stage", stageRecovery(images+":v1")...)
	before := recoveryImage(n)
	state := files(t, n.store, n.esp)
	unchanged := func(when string) {
		t.Helper()
		if now := files(t, n.store, n.esp); now != state {
			t.Fatalf("%s: the node changed:\n%s\nwas:\n%s", when, now, state)
		}
	}
	fill(t, n.store, 100<<10)
	out := n.want(5, "stage", stageRecovery(source)...)
	if !strings.Contains(out, "--replace removes the old one") {
		t.Errorf("message:\n%s", out)
	}
	unchanged("no room for two")
	// Not from where it would have to be fetched, not into too little space,
	// and not by something that is damaged.
	n.want(2, "stage", stageRecovery("--replace", images+":v2")...)
	n.want(5, "stage", stageRecovery("--replace", source)...)
	unchanged("no room for the new one alone")
	must(os.Remove(filepath.Join(n.store, "filler")))
	fill(t, n.store, 5<<20)
	objects, err := filepath.Glob(filepath.Join(installed.store, "objects/*/*"))
	must(err)
	object := objects[len(objects)/2]
	content, err := os.ReadFile(object)
	must(err)
	must(os.Chmod(object, 0o644))
	must(os.WriteFile(object, append([]byte{content[0] ^ 1}, content[1:]...), 0o444))
	n.want(1, "stage", stageRecovery("--replace", source)...)
	unchanged("a damaged source")
	must(os.WriteFile(object, content, 0o444))

	n.want(5, "stage", stageRecovery(source)...)
	if out := n.want(0, "stage", stageRecovery("--replace", "--dry-run", source)...); !strings.Contains(out, "remove the old recovery system") {
		t.Errorf("plan:\n%s", out)
	}
	unchanged("a dry run")
	n.want(0, "stage", stageRecovery("--replace", source)...)
	if after := recoveryImage(n); after == before || after == "" {
		t.Errorf("the recovery system is %q", after)
	}
	n.want(0, "verify", "--recovery")
}
