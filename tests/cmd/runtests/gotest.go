package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// tags are those of the Makefile: make exports them.
var tags = value("GO_TAGS", "containers_image_openpgp exclude_graphdriver_btrfs urfave_cli_no_docs")

// testResult is what became of a test, or of a package (the test's name is empty).
type testResult struct {
	pkg, test string
	seconds   float64
	outcome   string // pass, fail, skip
	cached    bool
	race      bool
}

// event is a line of `go test -json`: see `go doc test2json`, and for ImportPath and FailedBuild
// `go help buildjson`.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	FailedBuild string
	Test        string
	Elapsed     float64
	Output      string
}

// test runs a step's groups, two at a time: many tests wait for other processes, others compute
// meanwhile.
func (r *runner) test(ctx context.Context, result *result) error {
	log, err := os.Create(filepath.Join(r.logs, result.step.name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	w := &watcher{log: log, out: r.out, result: result, output: map[string][]string{}, waited: map[string]float64{}}
	queue := make(chan group, len(result.step.groups))
	for _, g := range result.step.groups {
		w.packages += len(g.packages)
		queue <- g
	}
	close(queue)
	race := raceDetector(r.top)
	if race != "" {
		r.out.line("", "without the race detector: "+race)
	}
	errs := make([]error, 2)
	var working sync.WaitGroup
	for i := range errs {
		working.Go(func() {
			for g := range queue {
				g.race = g.race && race == ""
				if err := r.group(ctx, w, g, result.step.env); err != nil {
					errs[i] = errors.Join(errs[i], err)
				}
			}
		})
	}
	working.Wait()
	failed := 0
	for _, t := range result.tests {
		if t.test == "" && t.outcome == "fail" {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d packages", failed)
	}
	return errors.Join(errs...)
}

// raceDetector says why it can't be used: it needs cgo.
func raceDetector(top string) string {
	cmd := exec.Command("go", "env", "CC")
	cmd.Dir = top
	cc, err := cmd.Output()
	if err != nil {
		return "go env: " + exitStatus(err)
	}
	if _, err := exec.LookPath(strings.TrimSpace(string(cc))); err != nil {
		return "no C compiler"
	}
	return ""
}

// group runs one `go test -json`.
func (r *runner) group(ctx context.Context, w *watcher, g group, env []string) error {
	argv := []string{"go", "test", "-json", "-trimpath", "-vet=off", "-p=2", "-tags", tags} // vet is lint's
	// Without the workspace and with the flags of `make build`: what was compiled there is used here.
	env = append([]string{"GOWORK=off", "GOFLAGS=-mod=readonly -buildvcs=false", "CGO_ENABLED=0"}, env...)
	if g.race {
		argv, env = append(argv, "-race"), append(env, "CGO_ENABLED=1")
	}
	if !strings.Contains(strings.Join(g.flags, " "), "-timeout") {
		argv = append(argv, "-timeout=20m")
	}
	argv = append(append(append(argv, g.flags...), g.packages...), g.args...)
	cmd := command(ctx, filepath.Join(r.top, g.module), env, argv)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr := &lines{each: func(line string) { w.print(line) }}
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	read := bufio.NewReader(out)
	for {
		line, err := read.ReadBytes('\n')
		if len(line) > 0 {
			w.line(g, line)
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	stderr.flush()
	if err != nil {
		return fmt.Errorf("go test in %s: %s", g.module, exitStatus(err))
	}
	return nil
}

// watcher follows the events of all tests of a step.
type watcher struct {
	mu              sync.Mutex
	log             *os.File
	out             *printer
	result          *result
	packages, ended int
	output          map[string][]string // of tests and packages that run
	waited          map[string]float64  // seconds that a test stood in line, by package and test
}

// machineLine is how an end-to-end test says how long its virtual machine ran.
var machineLine = regexp.MustCompile(`^\s*machine ran ([0-9.]+) s`)

// turnLine is how one says how long it waited until a machine was free for it: that is not its own time.
var turnLine = regexp.MustCompile(`^\s*waited ([0-9.]+) s for the turn of (\S+)`)

func (w *watcher) print(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintln(w.log, line)
	w.out.line("", line)
}

func (w *watcher) line(g group, line []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var e event
	if line[0] != '{' || json.Unmarshal(line, &e) != nil {
		w.out.line("", strings.TrimRight(string(line), "\n"))
		return
	}
	fmt.Fprint(w.log, e.Output)
	if e.Package == "" {
		e.Package = e.ImportPath
	}
	top, _, _ := strings.Cut(e.Test, "/")
	key := fmt.Sprint(e.Package, " ", g.race, " ", top)
	switch e.Action {
	case "build-output":
		w.out.line("", strings.TrimRight(e.Output, "\n"))
	case "output":
		if m := machineLine.FindStringSubmatch(e.Output); m != nil {
			seconds, _ := strconv.ParseFloat(m[1], 64)
			w.result.machine += time.Duration(seconds * float64(time.Second))
		}
		if m := turnLine.FindStringSubmatch(e.Output); m != nil {
			seconds, _ := strconv.ParseFloat(m[1], 64)
			w.waited[e.Package+" "+m[2]] = seconds
		}
		if g.verbose {
			w.out.line("", strings.TrimRight(e.Output, "\n"))
		} else {
			w.output[key] = append(w.output[key], e.Output)
		}
	case "pass", "fail", "skip":
		if top != e.Test {
			return // part of a test
		}
		t := testResult{pkg: short(e.Package), test: e.Test, seconds: e.Elapsed - w.waited[e.Package+" "+e.Test], outcome: e.Action, race: g.race}
		output := w.output[key]
		delete(w.output, key)
		if t.test == "" {
			t.cached = strings.Contains(strings.Join(output, ""), "(cached)")
			w.packageEnded(t, output)
		} else if t.outcome == "fail" && !g.verbose {
			w.show(output)
		}
		w.result.tests = append(w.result.tests, t)
	}
}

func (w *watcher) packageEnded(t testResult, output []string) {
	w.ended++
	word := map[string]string{"pass": "ok  ", "fail": "FAIL", "skip": "?   "}[t.outcome]
	if t.outcome == "fail" {
		w.show(output) // a panic, a data race, a time-out
	}
	notes := ""
	if t.race {
		notes = ", race detector"
	}
	if t.cached {
		notes = ", cached"
	}
	w.out.line("", fmt.Sprintf("%s\t%s\t%.1fs\t(%d of %d%s)", word, t.pkg, t.seconds, w.ended, w.packages, notes))
}

func (w *watcher) show(output []string) {
	for _, line := range output {
		w.out.line("", strings.TrimRight(line, "\n"))
	}
}

func short(pkg string) string {
	return strings.TrimPrefix(pkg, "github.com/kairos-io/toolkit/")
}
