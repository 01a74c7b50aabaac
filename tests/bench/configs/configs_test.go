// Package configs measures what kairos-config costs on an ordinary config of
// 200 lines, beside its limits and beside Kairos' own library on the same
// files: `make bench`. Nothing here asserts a time.
package configs

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kairos-io/toolkit/lib/measuretest"
	"github.com/kairos-io/toolkit/tests/workspace"
)

const runs = 20

// cost is what a program takes, the median of some runs.
type cost struct {
	cpu    float64 // seconds, user and system
	memory float64 // bytes, resident, at most
}

func measure(t *testing.T, argv ...string) (cost, []byte) {
	t.Helper()
	var cpu, memory []float64
	var out []byte
	for range runs {
		u, err := measuretest.Run(exec.Command(argv[0], argv[1:]...))
		if err != nil || u.Status != 0 {
			t.Fatalf("%v: %v, exit status %d\n%s", argv, err, u.Status, u.Stderr)
		}
		cpu, memory, out = append(cpu, u.CPU), append(memory, u.Memory), u.Stdout
	}
	slices.Sort(cpu)
	slices.Sort(memory)
	return cost{cpu[runs/2], memory[runs/2]}, out
}

func TestMain(m *testing.M) {
	measuretest.Main()
	os.Exit(m.Run())
}

func TestBenchConfigs(t *testing.T) {
	if os.Getenv("KAIROS_BENCH") != "1" {
		t.Skip("benchmarks are skipped: run make bench")
	}
	top := workspace.Top()
	program := filepath.Join(top, "build/bin/kairos-config")
	peer := filepath.Join(t.TempDir(), "peer")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", peer, ".")
	build.Dir = filepath.Join(top, "tests/peer")
	build.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the peer: %v\n%s", err, out)
	}

	root := t.TempDir()
	oem := filepath.Join(root, "oem")
	if err := os.Mkdir(oem, 0o755); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(top, "kairos-config/testdata/200-lines.yaml")
	data, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(oem, "90_custom.yaml"), data, 0o600); err != nil {
		t.Fatal(err)
	}

	show, ours := measure(t, program, "show", "--json", "--offline", "--root", root)
	scan, theirs := measure(t, peer, oem)
	var a, b map[string]any
	if err := json.Unmarshal(ours, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(theirs, &b); err != nil || len(a) == 0 || len(a["stages"].(map[string]any)) != len(b["stages"].(map[string]any)) {
		t.Fatalf("the programs did not read the same: %v\n%s\n%s", err, ours, theirs)
	}
	validate, _ := measure(t, program, "validate", config)

	const maxCPU, maxMemory = 0.050, 30e6
	limit := func(what string, value, most float64) {
		note := ""
		if value > most {
			note = ": EXCEEDED"
		}
		fmt.Printf("  %-58s %12.6g       limit %.6g%s\n", what, value, most, note)
	}
	limit("collect and merge 200 lines: CPU seconds", show.cpu, maxCPU)
	limit("collect and merge 200 lines: resident bytes", show.memory, maxMemory)
	limit("validate 200 lines: CPU seconds", validate.cpu, maxCPU)
	limit("validate 200 lines: resident bytes", validate.memory, maxMemory)
	fmt.Printf("  %-58s %12.6g       kairos-sdk: %.6g, ratio %.2f\n", "collect and merge 200 lines: CPU seconds", show.cpu, scan.cpu, show.cpu/scan.cpu)
	fmt.Printf("  %-58s %12.6g       kairos-sdk: %.6g, ratio %.2f\n", "collect and merge 200 lines: resident bytes", show.memory, scan.memory, show.memory/scan.memory)
}
