// Package bench measures what the project claims, each figure beside its limit
// or a peer in the same run: `make bench`. A table goes to the terminal, the
// same as JSON to build/bench.json. Nothing here asserts a time.
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kairos-io/toolkit/lib/measuretest"
	"github.com/kairos-io/toolkit/tests/story"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// Figure is one measured number.
type Figure struct {
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Limit float64 `json:"limit,omitempty"` // what it should not exceed
	Peer  float64 `json:"peer,omitempty"`  // the same, done by somebody else
	By    string  `json:"by,omitempty"`    // who that is
}

var figures []Figure

func report(f Figure) {
	figures = append(figures, f)
	var notes []string
	if f.Limit != 0 {
		notes = append(notes, fmt.Sprintf("limit %.6g", f.Limit))
		if f.Value > f.Limit {
			notes = append(notes, "EXCEEDED")
		}
	}
	if f.By != "" {
		notes = append(notes, fmt.Sprintf("%s: %.6g, ratio %.2f", f.By, f.Peer, f.Value/f.Peer))
	}
	note := strings.Join(notes, ", ")
	fmt.Printf("  %-66s %12.6g %-4s  %s\n", f.What, f.Value, f.Unit, note)
}

var shared struct {
	sync.Once
	world *story.World
	err   error
}

// theWorld makes the images of the tests and their registry when they are first
// asked for.
func theWorld(t *testing.T) *story.World {
	t.Helper()
	shared.Do(func() {
		shared.world, shared.err = story.NewWorld(context.Background(), func(what string) { fmt.Println("world:", what) })
	})
	must(t, shared.err)
	return shared.world
}

func TestMain(m *testing.M) {
	measuretest.Main()
	if os.Getenv("KAIROS_BENCH") != "1" {
		fmt.Println("benchmarks are skipped: run make bench")
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	defer func() {
		if shared.world != nil {
			shared.world.Close()
		}
		closeDebian()
	}()
	status := m.Run()
	data, err := json.MarshalIndent(figures, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(workspace.Top(), "build/bench.json"), append(data, '\n'), 0o644)
	}
	if err != nil {
		fmt.Println("write build/bench.json:", err)
		return 1
	}
	return status
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
