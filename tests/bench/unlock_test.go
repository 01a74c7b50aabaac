package bench

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"

	"github.com/kairos-io/toolkit/tests/crypt"
)

// unlocks is how often each program opens the volume.
const unlocks = 15

// TestBenchUnlock measures from start to unlocked, by the same key slot of the TPM, in the same boot of a
// virtual machine, in turn.
func TestBenchUnlock(t *testing.T) {
	lab, err := crypt.NewLab(t.Context(), t.TempDir())
	must(t, err)
	steps := []string{"format"}
	for range unlocks {
		steps = append(steps, "unlock", "close", "attach", "close")
	}
	out, err := lab.Boot(t.Context(), t.TempDir(), steps...)
	must(t, err)
	took := map[string][]float64{}
	for _, match := range regexp.MustCompile(`guest: (kairos-crypt|systemd-cryptsetup) (\d+) us`).FindAllStringSubmatch(out, -1) {
		us, err := strconv.ParseFloat(match[2], 64)
		must(t, err)
		took[match[1]] = append(took[match[1]], us/1e6)
	}
	ours, theirs := took["kairos-crypt"], took["systemd-cryptsetup"]
	if len(ours) != unlocks || len(theirs) != unlocks {
		t.Fatalf("%d and %d unlocks: %s", len(ours), len(theirs), out)
	}
	fmt.Printf("  seconds to unlocked: kairos-crypt %.2f, systemd-cryptsetup %.2f\n", ours, theirs)
	report(Figure{What: "unlock by the TPM, median", Value: median(ours), Unit: "s", Peer: median(theirs), By: "systemd-cryptsetup"})
	report(Figure{What: "ratio of the two", Value: median(ours) / median(theirs), Unit: "", Limit: 1.1})
}
