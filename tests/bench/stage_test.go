package bench

import (
	"testing"

	"github.com/kairos-io/toolkit/lib/measuretest"
	"github.com/kairos-io/toolkit/tests/story"
)

// TestBenchStaging stages v1, v1 again and v2 from the registry into a store
// on this machine, whose file system may lack fs-verity.
func TestBenchStaging(t *testing.T) {
	world := theWorld(t)
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

	store, esp := t.TempDir(), t.TempDir()
	show("v1 into an empty store", stage(t, world.Registry, store, esp, name("v1"), 0), Figure{})
	again := stage(t, world.Registry, store, esp, name("v1"), 3)
	show("v1 again", again, Figure{Limit: 0.3})
	show("v2 after v1", stage(t, world.Registry, store, esp, name("v2"), 0), Figure{})
}

// rounds is how often a first staging is measured.
const rounds = 3

// TestBenchFirstStaging stages an image of 400 MB into an empty store, beside
// the least that has to be done with its layers, and once more.
func TestBenchFirstStaging(t *testing.T) {
	d := theDebian(t)
	for _, compression := range []string{chunked, gzip} {
		name := repository(compression) + ":" + release
		what := "a first staging, " + compression
		// In turn, and the fastest of each: what else the machine does costs
		// time, and never saves any.
		var ours, plain measuretest.Usage
		var store, esp string
		for i := range rounds {
			store, esp = folder(t), folder(t)
			p := pipeline(t, d.registry, repository(compression), release)
			s := stage(t, d.registry, store, esp, name, 0)
			if i == 0 {
				ours, plain = s.Usage, p
			}
			ours.Seconds, ours.CPU = min(ours.Seconds, s.Seconds), min(ours.CPU, s.CPU)
			plain.Seconds, plain.CPU = min(plain.Seconds, p.Seconds), min(plain.CPU, p.CPU)
			ours.Memory = max(ours.Memory, s.Memory)
		}
		const by = "curl, zstd or gzip, sha256sum, tar -x"
		report(Figure{What: what + ": time", Value: ours.Seconds, Unit: "s", Limit: 1.5 * plain.Seconds, Peer: plain.Seconds, By: by})
		report(Figure{What: what + ": time of processors", Value: ours.CPU, Unit: "s", Peer: plain.CPU, By: by})
		report(Figure{What: what + ": peak resident memory", Value: ours.Memory, Unit: "B", Limit: 128 << 20})
		again := stage(t, d.registry, store, esp, name, 3)
		report(Figure{What: what + ", again: time", Value: again.Seconds, Unit: "s", Limit: 0.3})
		report(Figure{What: what + ", again: time of processors", Value: again.CPU, Unit: "s"})
		report(Figure{What: what + ", again: layers fetched", Value: float64(again.layers()), Unit: ""})
	}
}
