// Command mutants asks whether the tests notice when the code is wrong: it changes one place at a time
// (a comparison, a condition, a return, a sum) of the packages that decide, runs the package's tests,
// and prints a table of the mutants that they killed and of those that live.
//
//	mutants [-n 5] [-seed 1] [-limit 10m] [module/package …]
//
// The choice is random, and the same for the same seed. The files of the project stay as they are: the
// compiler is given the changed text (go build -overlay). A living mutant that means the same, or that
// no test can reach, is named with its reason in the file alive, and is not counted.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// deciding are the packages that decide what boots, what is kept and what is refused.
var deciding = []string{
	"kairos-upgrade/internal/deploy", "kairos-upgrade/internal/store", "kairos-upgrade/internal/boot",
	"kairos-upgrade/internal/automation", "kairos-upgrade/internal/policy",
	"kairos-boot-assess/internal/assess", "kairos-boot-assess/internal/history",
	"kairos-install/internal/plan", "kairos-root/internal/plan", "lib/bls",
}

func main() {
	n := flag.Int("n", 5, "mutants of each package")
	seed := flag.Uint64("seed", 1, "of the choice")
	limit := flag.Duration("limit", 20*time.Minute, "no mutant is begun after this time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	alive, err := run(ctx, *n, *seed, *limit, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
	if alive > 0 {
		os.Exit(1)
	}
}

var errCompile = errors.New("the mutant does not compile")

// row is a line of the table.
type row struct {
	pkg                             string
	places, killed, alive, excepted int
}

func run(ctx context.Context, n int, seed uint64, limit time.Duration, packages []string) (alive int, err error) {
	top, err := filepath.Abs("..") // it runs in module tests
	if err != nil {
		return 0, err
	}
	reasons, err := readReasons(filepath.Join(top, "tests", "cmd", "mutants", "alive"))
	if err != nil {
		return 0, err
	}
	if len(packages) == 0 {
		packages = deciding
	}
	began := time.Now()
	var rows []row
	for _, pkg := range packages {
		if _, err := os.Stat(filepath.Join(top, pkg)); errors.Is(err, os.ErrNotExist) {
			continue
		}
		places, err := find(top, pkg)
		if err != nil {
			return alive, err
		}
		random := rand.New(rand.NewPCG(seed, uint64(len(places))))
		random.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
		r := row{pkg: pkg, places: len(places)}
		t := tests{top: top, pkg: pkg}
		if err := t.prepare(ctx); err != nil {
			return alive, err
		}
		for _, m := range places {
			if r.killed+r.alive+r.excepted == n {
				break
			}
			if time.Since(began) > limit {
				fmt.Printf("  %v are over: the rest is not tried\n", limit)
				break
			}
			survived, err := t.survives(ctx, m)
			switch {
			case errors.Is(err, errCompile): // says nothing about the tests
			case err != nil:
				return alive, err
			case !survived:
				r.killed++
				fmt.Println("  killed", m)
			case reasons[m.key()] != "":
				r.excepted++
				fmt.Println("  lives ", m, "—", reasons[m.key()])
			default:
				r.alive++
				fmt.Println("  ALIVE ", m)
			}
		}
		t.end()
		rows = append(rows, r)
		alive += r.alive
	}
	fmt.Printf("\n%-42s %7s %7s %7s %12s\n", "package", "places", "killed", "alive", "with reason")
	for _, r := range rows {
		fmt.Printf("%-42s %7d %7d %7d %12d\n", r.pkg, r.places, r.killed, r.alive, r.excepted)
	}
	return alive, nil
}

// readReasons reads the living mutants that are known, a line each: key, a tab, the reason.
func readReasons(name string) (map[string]string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	reasons := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, reason, found := strings.Cut(strings.TrimSpace(line), "\t")
		if found && !strings.HasPrefix(key, "#") {
			reasons[key] = strings.TrimSpace(reason)
		}
	}
	return reasons, nil
}

// tests runs the tests of a package against one mutant after the other.
type tests struct {
	top, pkg, dir string
	slowest       time.Duration
}

// prepare runs the tests once without a change: they must pass, and what they take says when a mutant
// hangs.
func (t *tests) prepare(ctx context.Context) (err error) {
	if t.dir, err = os.MkdirTemp("", "mutants-"); err != nil {
		return err
	}
	began := time.Now()
	if out, err := t.run(ctx, 10*time.Minute); err != nil {
		return fmt.Errorf("the tests of %s fail without a change: %w\n%s", t.pkg, err, out)
	}
	t.slowest = 5*time.Since(began) + 30*time.Second
	return nil
}

func (t *tests) end() { os.RemoveAll(t.dir) }

func (t *tests) survives(ctx context.Context, m mutant) (bool, error) {
	changed := filepath.Join(t.dir, "changed.go")
	if err := os.WriteFile(changed, m.changed(), 0o600); err != nil {
		return false, err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{m.file: changed}})
	if err != nil {
		return false, err
	}
	name := filepath.Join(t.dir, "overlay.json")
	if err := os.WriteFile(name, overlay, 0o600); err != nil {
		return false, err
	}
	out, err := t.run(ctx, t.slowest, "-overlay="+name)
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case bytes.Contains(out, []byte("[build failed]")):
		return false, errCompile
	}
	return err == nil, nil // tests that fail, or hang, notice it
}

func (t *tests) run(ctx context.Context, limit time.Duration, flags ...string) ([]byte, error) {
	module, pkg, _ := strings.Cut(t.pkg, "/")
	args := append([]string{"test", "-trimpath", "-vet=off", "-failfast", "-timeout=" + limit.String(),
		"-tags", "containers_image_openpgp exclude_graphdriver_btrfs urfave_cli_no_docs"}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+pkg)...)
	cmd.Dir = filepath.Join(t.top, module)
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly -buildvcs=false")
	return cmd.CombinedOutput()
}
