package powercut_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/tests/powercut"
	"github.com/kairos-io/toolkit/tests/powercut/judge"
	"github.com/kairos-io/toolkit/tests/powercut/record"
	"github.com/kairos-io/toolkit/tests/story"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// recordings are all operations, and how often the power is cut in each.
var recordings = []struct {
	make func(context.Context, *story.World) (*record.Recording, error)
	cuts map[string]int
}{
	{record.Upgrades, map[string]int{
		"stage": 320, "blessing": 200, "stage with gc": 320, "rollback": 160, "config stage": 160, "recovery renewal": 400,
	}},
	{record.Loader, map[string]int{"boot loader upgrade": 200}},
	{record.Reset, map[string]int{"reset": 400}},
	{record.Install, map[string]int{"install": 300}},
}

const (
	minimum = 2000 // cuts in all
	seed    = 1
	samples = 1  // cuts of each operation that are booted, when all are judged
	repeats = 15 // cuts of each operation after which it is done again on this host
)

// TestPowerCuts cuts the power at least 2,000 times, and shows a table. It takes hours, and runs only with
// KAIROS_POWERCUT=1 (make test-powercut). KAIROS_POWERCUT_ONLY names one operation.
//
// What it can't prove: anything about a disk that lies about flushes, or that damages what it is not
// writing.
func TestPowerCuts(t *testing.T) {
	if os.Getenv("KAIROS_POWERCUT") != "1" {
		t.Skip("set KAIROS_POWERCUT=1")
	}
	only := os.Getenv("KAIROS_POWERCUT_ONLY")
	world, err := story.NewWorld(t.Context(), func(what string) { fmt.Println("world:", what) })
	if err != nil {
		t.Fatal(err)
	}
	defer world.Close()
	// The machines first: what comes after needs none.
	made := make([]*record.Recording, len(recordings))
	for i, r := range recordings {
		if only != "" && r.cuts[only] == 0 {
			continue
		}
		if made[i], err = r.make(t.Context(), world); err != nil {
			t.Error(err)
		}
	}
	fmt.Println("all is recorded")
	var results []*powercut.Result
	var boots []func()
	booted := map[string]int{}
	for i, recording := range made {
		if recording == nil {
			continue
		}
		for _, o := range recording.Operations {
			cuts := recordings[i].cuts[o.Name]
			if only != "" && o.Name != only {
				continue
			}
			t.Run(o.Name, func(t *testing.T) {
				result, err := powercut.Run(t.Context(), recording, o, powercut.Options{Cuts: cuts, Seed: seed, Again: repeats, Report: report(t)})
				if err != nil {
					t.Fatal(err)
				}
				results = append(results, result)
				boots = append(boots, func() {
					t.Run("boot after "+o.Name, func(t *testing.T) { booted[o.Name] = boot(t, world, recording, o, result) })
				})
				fmt.Printf("%s: %d cuts, %d bad\n", o.Name, len(result.Cuts), result.Count(judge.Bad))
			})
		}
	}
	fmt.Println()
	powercut.Table(os.Stdout, results, booted)
	for _, boot := range boots {
		boot()
	}
	fmt.Println()
	powercut.Table(os.Stdout, results, booted)
	cuts := 0
	for _, r := range results {
		cuts += len(r.Cuts)
	}
	if only == "" && cuts < minimum {
		t.Errorf("%d cuts were judged, not %d", cuts, minimum)
	}
}

// report fails the test for each bad cut, and says which.
func report(t *testing.T) func(powercut.Judged) {
	return func(j powercut.Judged) {
		if j.State == judge.Bad {
			t.Errorf("%s:\n  %s", j.Cut, strings.Join(j.Why, "\n  "))
		}
	}
}

// boot really boots some of the cuts. An installation that was cut leaves nothing that would.
func boot(t *testing.T, world *story.World, r *record.Recording, o record.Operation, result *powercut.Result) (booted int) {
	if o.Again == "" {
		return 0
	}
	for i := range samples {
		cut := result.Cuts[(2*i+1)*len(result.Cuts)/(2*samples)].Cut
		dir := workspace.Cache("powercut", strings.ReplaceAll(o.Name, " ", "-"), fmt.Sprint(i))
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := powercut.Boot(t.Context(), world, r, o, cut, dir); err != nil {
			t.Error(err)
			continue
		}
		booted++
	}
	return booted
}
