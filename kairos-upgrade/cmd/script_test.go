package cmd

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/sdboot/sdboottest"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/cmdline/cmdlinetest"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/efivars"
	"github.com/kairos-io/toolkit/lib/journal"
	"github.com/kairos-io/toolkit/lib/measuretest"
	digest "github.com/opencontainers/go-digest"
	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts in testdata/script run the program against stores and ESPs in
// plain directories, with images that the command "image" makes from
// directories. What they cannot prove: anything about fs-verity, FAT and
// private mounts, which the virtual machine shows.

func TestMain(m *testing.M) {
	measuretest.Main()
	testscript.Main(m, map[string]func(){"kairos-upgrade": func() {
		if !source.Init() {
			cmdlinetest.Main(app(testMachine(os.Getenv("NODE"))))
		}
	}})
}

// testMachine is a node in a directory: run/booted.json, store and esp.
func testMachine(dir string) machine {
	return machine{
		booted: filepath.Join(dir, "booted.json"),
		store:  filepath.Join(dir, "store"),
		esp:    filepath.Join(dir, "esp"),
		isESP:  func(*view.View) bool { return true },
		disks:  disk.System{Sys: dir, Dev: dir, Vars: efivars.At(filepath.Join(dir, "efivars"))},

		mustBoot: os.Getenv("MUSTBOOT") != "", // most images of tests have kernels of random bytes

		root:    dir,
		run:     filepath.Join(dir, "run"),
		journal: func(e journal.Entry) error { return appendLine(filepath.Join(dir, "journal"), e) },
		reboot:  func(context.Context) error { return appendLine(filepath.Join(dir, "rebooted"), "reboot") },
		now:     testClock(),
		notices: []string{filepath.Join(dir, "issue.d/notice"), filepath.Join(dir, "motd.d/notice")},
		scratch: []string{dir, os.TempDir()},
		ask:     func(context.Context) ([]byte, error) { return os.ReadFile(filepath.Join(dir, "history.json")) },
	}
}

// testClock is what the variable CLOCK says, in local time, or else the clock.
// Of several times, separated by commas, each look at it takes the next.
func testClock() func() time.Time {
	times := strings.Split(os.Getenv("CLOCK"), ",")
	return func() time.Time {
		t, err := time.ParseInLocation("2006-01-02 15:04", times[0], time.Local)
		if err != nil {
			return time.Now()
		}
		if len(times) > 1 {
			times = times[1:]
		}
		return t
	}
}

// appendLine notes what the node would have done.
func appendLine(name string, v any) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	return json.NewEncoder(f).Encode(v)
}

func TestScripts(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			// Policies, registries and credentials of this machine must not
			// matter.
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("NODE", filepath.Join(e.WorkDir, "node"))
			e.Setenv("TZ", "UTC")
			e.Setenv("LANG", "C.UTF-8")
			e.Setenv("REGISTRY", registry.Host+"/"+filepath.Base(e.WorkDir))
			conf := filepath.Join(e.WorkDir, "node/etc/containers/registries.conf")
			imagetest.Write(t, conf, fmt.Appendf(nil, "[[registry]]\nlocation = %q\ninsecure = true\n", registry.Host))
			for _, dir := range []string{"node/store", "node/esp", "store", "esp"} {
				if err := os.MkdirAll(filepath.Join(e.WorkDir, dir), 0o755); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"image":  imageCommand,
			"blob":   blobCommand,
			"flip":   flipCommand,
			"bless":  blessCommand,
			"fail":   failCommand,
			"booted": bootedCommand,
			"id":     idCommand,
			"exit":   exitCommand,
			"find":   findCommand,
			"serve": func(ts *testscript.TestScript, neg bool, args []string) {
				offer(ts, registry, args)
			},
			"lock":     lockCommand,
			"program":  programCommand,
			"loaded":   loadedCommand,
			"recovery": recoveryCommand,
		},
	})
}

// The schema of kairos-json(5) defines what each command prints.
func TestSchema(t *testing.T) { cmdlinetest.Definitions(t, app(testMachine(t.TempDir()))) }

// image LAYOUT TAG DIRECTORY… makes an OCI image with one layer of each
// directory. A tag that ends in "!" has a layer that is cut off.
func imageCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: image LAYOUT TAG DIRECTORY...")
	}
	var dirs []string
	for _, a := range args[2:] {
		dirs = append(dirs, ts.MkAbs(a))
	}
	digest, err := writeImage(ts.MkAbs(args[0]), args[1], dirs)
	ts.Check(err)
	ts.Setenv("DIGEST_"+args[1], digest)
}

// blob FILE SIZE… writes files of random bytes.
func blobCommand(ts *testscript.TestScript, neg bool, args []string) {
	for i := 0; i+1 < len(args); i += 2 {
		var size int
		_, err := fmt.Sscan(args[i+1], &size)
		ts.Check(err)
		name := ts.MkAbs(args[i])
		ts.Check(os.MkdirAll(filepath.Dir(name), 0o755))
		b := make([]byte, size)
		rand.Read(b)
		ts.Check(os.WriteFile(name, b, 0o644))
	}
}

// flip PATTERN changes a byte of every file that matches, as a bad sector
// would.
func flipCommand(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range glob(ts, args) {
		ts.Check(os.Chmod(name, 0o644))
		b, err := os.ReadFile(name)
		ts.Check(err)
		b[len(b)/2] ^= 1
		ts.Check(os.WriteFile(name, b, 0o644))
	}
}

func glob(ts *testscript.TestScript, patterns []string) (names []string) {
	for _, p := range patterns {
		found, err := filepath.Glob(ts.MkAbs(p))
		ts.Check(err)
		if len(found) == 0 {
			ts.Fatalf("%s: nothing matches", p)
		}
		names = append(names, found...)
	}
	return names
}

// bless ESP SERIAL does what systemd-bless-boot does to a good entry.
func blessCommand(ts *testscript.TestScript, neg bool, args []string) {
	rename(ts, args, func(n bls.Name) bls.Name { return bls.Name{Base: n.Base} })
}

// fail ESP SERIAL does what systemd-boot does until no tries are left.
func failCommand(ts *testscript.TestScript, neg bool, args []string) {
	rename(ts, args, func(n bls.Name) bls.Name { return bls.Name{Base: n.Base, Counted: true, Left: 0, Done: 3} })
}

func rename(ts *testscript.TestScript, args []string, change func(bls.Name) bls.Name) {
	for _, serial := range args[1:] {
		for _, old := range glob(ts, []string{filepath.Join(args[0], bls.EntriesDir, "kairos-"+serial+"-*.conf")}) {
			n, err := bls.ParseName(filepath.Base(old))
			ts.Check(err)
			ts.Check(os.Rename(old, filepath.Join(filepath.Dir(old), change(n).String())))
		}
	}
}

// booted SERIAL makes the node believe that it runs a deployment of its store.
func bootedCommand(ts *testscript.TestScript, neg bool, args []string) {
	names := glob(ts, []string{"node/store/deployments/" + args[0] + "-*.json"})
	data, err := os.ReadFile(names[0])
	ts.Check(err)
	r, err := deployment.Parse(data)
	ts.Check(err)
	b := deployment.Booted{ID: r.ID, Mode: deployment.Active, Store: disk.LabelState, ImageDigest: r.ImageDigest}
	data, err = json.Marshal(b)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("node/booted.json"), data, 0o644))
}

// recovery STORE makes the node believe that it runs the recovery system, from
// the newest deployment of a store.
func recoveryCommand(ts *testscript.TestScript, neg bool, args []string) {
	names := glob(ts, []string{filepath.Join(args[0], "deployments/*.json")})
	data, err := os.ReadFile(names[len(names)-1])
	ts.Check(err)
	r, err := deployment.Parse(data)
	ts.Check(err)
	data, err = json.Marshal(deployment.Booted{ID: r.ID, Mode: deployment.Recovery, Store: disk.LabelRecovery, ImageDigest: r.ImageDigest})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("node/booted.json"), data, 0o644))
}

// id NAME STORE SERIAL sets a variable to the id of a deployment.
func idCommand(ts *testscript.TestScript, neg bool, args []string) {
	names := glob(ts, []string{filepath.Join(args[1], "deployments", args[2]+"-*.json")})
	ts.Setenv(args[0], strings.TrimSuffix(filepath.Base(names[0]), ".json"))
}

// serve REPOSITORY TAG LAYOUT LAYOUT-TAG offers an image of a layout in the
// registry.
func offer(ts *testscript.TestScript, registry *imagetest.Registry, args []string) {
	b := &imagetest.Built{Blobs: map[digest.Digest][]byte{}, Manifest: digest.Digest(ts.Getenv("DIGEST_" + args[3]))}
	for _, name := range glob(ts, []string{filepath.Join(args[2], "blobs/sha256/*")}) {
		data, err := os.ReadFile(name)
		ts.Check(err)
		b.Blobs[digest.NewDigestFromEncoded(digest.SHA256, filepath.Base(name))] = data
	}
	_, base, _ := strings.Cut(ts.Getenv("REGISTRY"), "/")
	registry.Push(base+"/"+args[0], args[1], b)
}

// find NAME STORE SIZE sets a variable to the path of the object of that size.
func findCommand(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range glob(ts, []string{filepath.Join(args[1], "objects/*/*")}) {
		info, err := os.Stat(name)
		ts.Check(err)
		if fmt.Sprint(info.Size()) == args[2] {
			ts.Setenv(args[0], name)
			return
		}
	}
	ts.Fatalf("no object of %s bytes", args[2])
}

// exit STATUS COMMAND… runs kairos-upgrade and wants an exit status.
func exitCommand(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	have := "0"
	if exit, ok := err.(interface{ ExitCode() int }); ok {
		have = fmt.Sprint(exit.ExitCode())
	} else if err != nil {
		have = err.Error()
	}
	if have != args[0] {
		ts.Fatalf("exit status %s, want %s", have, args[0])
	}
}

// program VERSION FILE… writes programs of systemd-boot.
func programCommand(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args[1:] {
		ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(name)), 0o755))
		ts.Check(os.WriteFile(ts.MkAbs(name), sdboottest.Program(args[0], false), 0o644))
	}
}

// loaded VERSION PATH makes the node believe that it was booted through
// systemd-boot, started from a path on its ESP.
func loadedCommand(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(sdboottest.Boot(ts.MkAbs("node/efivars"), args[0], args[1]))
}

// lock STORE makes somebody else hold the lock until the script ends.
func lockCommand(ts *testscript.TestScript, neg bool, args []string) {
	f, err := holdLock(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(func() { f.Close() })
}

func TestHelpNamesEveryCommand(t *testing.T) {
	var out bytes.Buffer
	a := app(testMachine(t.TempDir()))
	a.Writer, a.ErrWriter = &out, &out
	if code := cmdline.Run(t.Context(), a, []string{"kairos-upgrade", "--help"}); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	for _, c := range a.Commands {
		if !c.Hidden && !strings.Contains(out.String(), c.Name) {
			t.Errorf("%s is missing:\n%s", c.Name, out.String())
		}
	}
}
