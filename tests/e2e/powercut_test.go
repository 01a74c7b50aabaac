package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/tests/powercut"
	"github.com/kairos-io/toolkit/tests/powercut/judge"
	"github.com/kairos-io/toolkit/tests/powercut/record"
	"github.com/kairos-io/toolkit/tests/powercut/writelog"
)

// TestPowerCuts cuts the power of a node a hundred times while it stages an image that takes the place of
// another. Each time the node is whole, and what boots is old or new. Had the node not flushed, it would not
// be so. `make test-powercut` goes through all operations, and really boots some of the cuts.
func TestPowerCuts(t *testing.T) {
	turn(t, 130)
	recording, err := record.Collecting(t.Context(), world)
	must(t, err)
	o := recording.Operations[0]
	result, err := powercut.Run(t.Context(), recording, o, powercut.Options{Cuts: 110, Seed: 1, Again: 2})
	must(t, err)
	powercut.Table(os.Stdout, []*powercut.Result{result}, nil)
	if len(result.Cuts) < 100 || result.Count(judge.Old) == 0 || result.Count(judge.New) == 0 {
		t.Errorf("%d cuts, of which %d left the old and %d the new", len(result.Cuts), result.Count(judge.Old), result.Count(judge.New))
	}
	for _, cut := range result.Cuts {
		if cut.State == judge.Bad {
			t.Errorf("%s:\n  %s", cut.Cut, strings.Join(cut.Why, "\n  "))
		}
	}
	careless, err := powercut.Run(t.Context(), recording, o, powercut.Options{Cuts: 20, Seed: 1, Change: (*writelog.Log).ForgetFlushes})
	must(t, err)
	if careless.Count(judge.Bad) == 0 {
		t.Error("a node that never flushes is safe from power cuts: the judge sees nothing")
	}
	if os.Getenv("KAIROS_LONG") != "1" {
		return
	}
	must(t, powercut.Boot(t.Context(), world, recording, o, result.Cuts[len(result.Cuts)/2].Cut, folder(t)))
}
