package bench

import (
	"testing"

	"github.com/kairos-io/toolkit/tests/story"
)

// rounds is how often a first staging is measured.
const rounds = 3

// TestBenchStaging stages v1, v1 again and v2 from the registry into a store
// on this machine, whose file system may lack fs-verity.
func TestBenchStaging(t *testing.T) {
	world := theWorld(t)
	var store, esp string
	show := func(what string, s staged, time Figure) {
		time.What, time.Value, time.Unit = what+": time", s.Seconds, "s"
		report(time)
		report(Figure{What: what + ": peak resident memory", Value: s.Memory, Unit: "B", Limit: 128 << 20})
		report(Figure{What: what + ": fetched", Value: s.fetched(), Unit: "B"})
		report(Figure{What: what + ": layers fetched", Value: float64(s.layers()), Unit: ""})
		report(Figure{What: what + ": objects added", Value: float64(s.Objects), Unit: ""})
		report(Figure{What: what + ": bytes of objects added", Value: float64(s.Bytes), Unit: "B"})
	}
	name := func(version string) string { return story.Repository + ":" + version }

	// In turn, and the fastest of each: what else the machine does costs time,
	// and never saves any.
	var first, plain usage
	var last staged
	for i := range rounds {
		store, esp = t.TempDir(), t.TempDir()
		p := pipeline(t, world.Registry, story.Repository, "v1")
		last = stage(t, world.Registry, store, esp, name("v1"), 0)
		if i == 0 {
			first, plain = last.usage, p
		}
		first.Seconds, first.CPU = min(first.Seconds, last.Seconds), min(first.CPU, last.CPU)
		plain.Seconds, plain.CPU = min(plain.Seconds, p.Seconds), min(plain.CPU, p.CPU)
		first.Memory = max(first.Memory, last.Memory)
	}
	last.usage = first
	show("v1 into an empty store", last, Figure{Limit: 1.5 * plain.Seconds, Peer: plain.Seconds, By: "curl, zstd, sha256sum, tar -x"})
	report(Figure{What: "v1 into an empty store: time of processors", Value: first.CPU, Unit: "s", Peer: plain.CPU, By: "curl, zstd, sha256sum, tar -x"})
	again := stage(t, world.Registry, store, esp, name("v1"), 3)
	show("v1 again", again, Figure{Limit: 0.3})
	show("v2 after v1", stage(t, world.Registry, store, esp, name("v2"), 0), Figure{})
}
