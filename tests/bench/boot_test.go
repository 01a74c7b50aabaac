package bench

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/kairos-io/toolkit/tests/story"
)

// boots is how often each system is started; the median counts.
const boots = 5

// The ratio is over its aim under software emulation. Every byte that a boot
// reads is hashed there, and two programs of the initrd run before the switch
// of the root. With the processor's SHA-256 in the initrd it fell from 1.32.
// What to try next: partition UUIDs from the GPT instead of waiting for udev.

// TestBenchBoot measures from the kernel's start to multi-user.target, on an
// installed node and on the same root file system on plain ext4, in the same
// kind of machine, in turn.
func TestBenchBoot(t *testing.T) {
	world := theWorld(t)
	installed, err := world.FromInstalled(t.Context(), filepath.Join(t.TempDir(), "installed"))
	must(t, err)
	plainDisk, err := world.Plain(t.Context())
	must(t, err)
	plain, err := world.NewNode(t.Context(), filepath.Join(t.TempDir(), "plain"))
	must(t, err)

	// The first boot of each settles it: machine id, first-boot work, blessing.
	must(t, installed.Start(t.Context()))
	must(t, installed.Ready(t.Context()))
	must(t, installed.Machine.PowerOff(t.Context()))
	must(t, plain.StartPlain(t.Context(), plainDisk))
	must(t, plain.Machine.PowerOff(t.Context()))

	var ours, theirs []float64
	for range boots {
		must(t, installed.Start(t.Context()))
		must(t, installed.Ready(t.Context()))
		ours = append(ours, multiUser(t, installed))
		must(t, plain.RestartPlain(t.Context()))
		theirs = append(theirs, multiUser(t, plain))
	}
	fmt.Printf("  seconds to multi-user.target: installed %.2f, plain ext4 %.2f\n", ours, theirs)
	report(Figure{What: "kernel start to multi-user.target, median", Value: median(ours), Unit: "s", Peer: median(theirs), By: "plain ext4"})
	report(Figure{What: "ratio of the two", Value: median(ours) / median(theirs), Unit: "", Limit: 1.10})
}

// multiUser returns the seconds from the kernel's start to multi-user.target,
// and powers the machine off.
func multiUser(t *testing.T, n *story.Node) float64 {
	t.Helper()
	out, err := n.Machine.Output(t.Context(), "systemctl show --property=ActiveEnterTimestampMonotonic multi-user.target")
	must(t, err)
	match := regexp.MustCompile(`=(\d+)`).FindStringSubmatch(out)
	if match == nil {
		t.Fatalf("multi-user.target: %q", out)
	}
	us, err := strconv.ParseFloat(match[1], 64)
	must(t, err)
	must(t, n.Machine.PowerOff(t.Context()))
	return us / 1e6
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
