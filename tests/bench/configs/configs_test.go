// Package configs measures what kairos-config costs on an ordinary config of
// 200 lines, beside its limits and beside Kairos' own programs on the same
// files, the library that collects them and yip, which applies them: `make
// bench`. Nothing here asserts a time.
package configs

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/measuretest"
	"github.com/kairos-io/toolkit/tests/workspace"
)

const runs = 20

// cost is what a program takes, the median of some runs.
type cost struct {
	cpu    float64 // seconds, user and system
	memory float64 // bytes, resident, at most
	wall   float64 // seconds
}

func measure(t *testing.T, argv ...string) (cost, []byte) {
	t.Helper()
	return measureEach(t, func() {}, argv...)
}

// measureEach is measure with something to do before each run.
func measureEach(t *testing.T, before func(), argv ...string) (cost, []byte) {
	t.Helper()
	var cpu, memory, wall []float64
	var out []byte
	for range runs {
		before()
		u, err := measuretest.Run(exec.Command(argv[0], argv[1:]...))
		if err != nil || u.Status != 0 {
			t.Fatalf("%v: %v, exit status %d\n%s", argv, err, u.Status, u.Stderr)
		}
		cpu, memory, wall, out = append(cpu, u.CPU), append(memory, u.Memory), append(wall, u.Seconds), u.Stdout
	}
	slices.Sort(cpu)
	slices.Sort(memory)
	slices.Sort(wall)
	return cost{cpu[runs/2], memory[runs/2], wall[runs/2]}, out
}

// build builds a peer, a module of its own.
func build(t *testing.T, dir string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), filepath.Base(dir))
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = filepath.Join(workspace.Top(), dir)
	build.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", dir, err, out)
	}
	return program
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
	peer := build(t, "tests/peer")

	root := t.TempDir()
	oem := filepath.Join(root, "oem")
	if err := os.Mkdir(oem, 0o755); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(top, "kairos-config/testdata/200-lines.yaml")
	if err := os.WriteFile(filepath.Join(oem, "90_custom.yaml"), read(t, config), 0o600); err != nil {
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
	info, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	limit("size of kairos-config: bytes", float64(info.Size()), 10e6)
	limit("collect and merge 200 lines: CPU seconds", show.cpu, maxCPU)
	limit("collect and merge 200 lines: resident bytes", show.memory, maxMemory)
	limit("validate 200 lines: CPU seconds", validate.cpu, maxCPU)
	limit("validate 200 lines: resident bytes", validate.memory, maxMemory)
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Printf("  %-58s %12.6g       load of the machine: %s\n", "collect and merge 200 lines: seconds", show.wall, strings.TrimSpace(string(load)))
	fmt.Printf("  %-58s %12.6g       kairos-sdk: %.6g, ratio %.2f\n", "collect and merge 200 lines: CPU seconds", show.cpu, scan.cpu, show.cpu/scan.cpu)
	fmt.Printf("  %-58s %12.6g       kairos-sdk: %.6g, ratio %.2f\n", "collect and merge 200 lines: resident bytes", show.memory, scan.memory, show.memory/scan.memory)
}

// TestBenchStage applies a stage of the same config to an empty root, by
// kairos-config and by yip, both with that root as theirs.
func TestBenchStage(t *testing.T) {
	if os.Getenv("KAIROS_BENCH") != "1" {
		t.Skip("benchmarks are skipped: run make bench")
	}
	data := read(t, filepath.Join(workspace.Top(), "kairos-config/testdata/200-lines.yaml"))
	run := func(program string, args ...string) (cost, map[string]string) {
		root := t.TempDir()
		for _, dir := range []string{"bin", "etc", "oem", "run", "tmp"} {
			if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for path, content := range map[string][]byte{"bin/program": read(t, program), "oem/90_custom.yaml": data} {
			if err := os.WriteFile(filepath.Join(root, path), content, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		afresh := func() {
			made, err := filepath.Glob(filepath.Join(root, "etc/*"))
			for _, path := range made {
				err = errors.Join(err, os.RemoveAll(path))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		c, _ := measureEach(t, afresh, append([]string{"/usr/sbin/chroot", root, "/bin/program"}, args...)...)
		return c, configFiles(t, root)
	}
	ours, wrote := run(filepath.Join(workspace.Top(), "build/bin/kairos-config"), "run-stage", "--quiet", "fs")
	theirs, wroteToo := run(build(t, "tests/peer/stages"), "--stage", "fs", "/oem")
	if len(wrote) == 0 || !maps.Equal(wrote, wroteToo) {
		t.Fatalf("the programs did not do the same: %q and %q", wrote, wroteToo)
	}
	fmt.Printf("  %-58s %12.6g       limit 0.05; yip: %.6g, ratio %.2f\n", "run a stage of 200 lines: CPU seconds", ours.cpu, theirs.cpu, ours.cpu/theirs.cpu)
	fmt.Printf("  %-58s %12.6g       limit 3e+07; yip: %.6g, ratio %.2f\n", "run a stage of 200 lines: resident bytes", ours.memory, theirs.memory, ours.memory/theirs.memory)
}

// configFiles returns what the steps wrote, and with which mode.
func configFiles(t *testing.T, root string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "etc/app*/*"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		found[strings.TrimPrefix(path, root)] = info.Mode().String() + " " + strings.TrimSpace(string(read(t, path)))
	}
	return found
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
