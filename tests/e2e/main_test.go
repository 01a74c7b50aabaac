// Package e2e holds a node to its promises, in virtual machines with a real boot loader, kernel,
// initrd and registry. It runs only with KAIROS_E2E=1 (`make test`).
//
// Tests run beside each other, as many as `go test -parallel` says, each with a machine of its own: see
// turn. One machine stands for a state, and goes through all that can be shown in it.
//
// Each test keeps its machine's folder, with the console's log, in .cache/e2e/NAME until its next
// run. What it can't prove: anything that needs hardware (a real TPM, firmware other than OVMF, a disk
// that lies about flushes).
package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/tests/story"
	"github.com/kairos-io/toolkit/tests/turns"
	"github.com/kairos-io/toolkit/tests/vm"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// What all tests share: the world, and the line in which they wait for a machine.
var (
	world *story.World
	line  *turns.Line
)

// turn lets other tests run beside this one, and waits for its turn: see turns.Line.Take.
func turn(t *testing.T, weight int) {
	t.Helper()
	line.Take(t, weight)
}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Getenv("KAIROS_E2E") != "1" {
		fmt.Println("end-to-end tests are skipped: set KAIROS_E2E=1")
		return 0
	}
	var err error
	if line, err = turns.FromFlags(); err != nil {
		fmt.Println(err)
		return 1
	}
	world, err = story.NewWorld(context.Background(), func(what string) { fmt.Println("world:", what) })
	if err != nil {
		fmt.Println("world:", err)
		return 1
	}
	defer world.Close()
	return m.Run()
}

// folder returns an empty folder for the machine of a test.
func folder(t *testing.T) string {
	t.Helper()
	dir := workspace.Cache("e2e", strings.NewReplacer("/", "-", ",", "").Replace(t.Name())) // a comma ends a path for swtpm
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// booted takes up a node that was just installed with v1 and has booted for the first time. Its ssh is
// at a port of the loopback, if one is given.
func booted(t *testing.T, ssh ...int) *story.Node {
	t.Helper()
	n, err := world.FromBooted(t.Context(), folder(t))
	must(t, err)
	guard(t, n)
	for _, port := range ssh {
		n.SSH = port
	}
	must(t, n.Start(t.Context()))
	return n
}

// long skips a test that takes longer than `make test` may, unless KAIROS_LONG=1 (`make test-failures`).
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("KAIROS_LONG") != "1" {
		t.Skip("takes long: make test-failures")
	}
}

// guard ends the node's machine with the test, says how long it ran, and shows the console's end if the
// test failed.
func guard(t *testing.T, n *story.Node) {
	began := time.Now()
	n.Observe = func(e vm.Event) { fmt.Printf("    %6.1f s  %s: %s\n", e.At.Sub(began).Seconds(), t.Name(), e.Kind) }
	t.Cleanup(func() {
		n.Close()
		if n.Machine == nil {
			return
		}
		fmt.Printf("machine ran %.1f s (%.1f s of processor time, %d boots) for %s\n", time.Since(began).Seconds(), n.CPU().Seconds(), n.Machine.Boots()-1, t.Name())
		if t.Failed() {
			t.Logf("console %s ends with%s", n.Console(), n.Machine.Console.Tail(40))
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// output runs a script that must succeed in each of its commands, and returns what it printed. In a pipe all
// must read to the end: grep -q and head leave, and what writes to them dies of that now and then (exit status 141).
func output(t *testing.T, n *story.Node, script string, args ...any) string {
	t.Helper()
	out, err := n.Machine.Output(t.Context(), "set -e -o pipefail\n"+fmt.Sprintf(script, args...))
	must(t, err)
	return strings.TrimSpace(out)
}

// run runs a script that may fail.
func try(t *testing.T, n *story.Node, script string, args ...any) vm.Result {
	t.Helper()
	result, err := n.Machine.Run(t.Context(), fmt.Sprintf(script, args...))
	must(t, err)
	return result
}

// fails runs a script that must fail with this exit status, saying all of words on standard error and
// nothing on standard output.
func fails(t *testing.T, n *story.Node, status int, script string, words ...string) {
	t.Helper()
	result := try(t, n, "%s", script)
	if result.Status != status {
		t.Errorf("%s: exit status %d, want %d\n%s", script, result.Status, status, result.Output())
	}
	if result.Stdout != "" {
		t.Errorf("%s: failed, and yet wrote to standard output: %s", script, result.Stdout)
	}
	for _, word := range words {
		if !strings.Contains(result.Stderr, word) {
			t.Errorf("%s: the error doesn't say %q:\n%s", script, word, result.Stderr)
		}
	}
}

// version checks which image runs.
func version(t *testing.T, n *story.Node, want string) {
	t.Helper()
	got, err := n.Version(t.Context())
	must(t, err)
	if got != want {
		t.Fatalf("%s runs, not %s", got, want)
	}
}

// status asks kairos-upgrade.
func status(t *testing.T, n *story.Node) story.Status {
	t.Helper()
	s, err := n.Status(t.Context())
	must(t, err)
	return s
}

// verified checks that the store is whole. It reads every object, which takes half a minute in an emulated machine: for
// tests that write objects, or lose them.
func verified(t *testing.T, n *story.Node) {
	t.Helper()
	output(t, n, "kairos-upgrade verify")
}
