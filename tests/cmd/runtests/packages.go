package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// group is some packages of one module, tested by one `go test`.
type group struct {
	module   string
	packages []string // relative to the module
	race     bool
	verbose  bool     // what the tests print is shown as it comes
	flags    []string // of go test
	args     []string // of the test program
	size     int      // bytes of tests, to begin with the largest
}

// starts finds code that starts goroutines, guards code that several of them use: what makes the race detector
// worth its cost.
var (
	starts = regexp.MustCompile(`\bgo (func\b|[\w.]+\()|\berrgroup\.|\.Go\(func`)
	guards = regexp.MustCompile(`\bsync\.[MRWCP]|\bsynctest\.`)
)

// testscripts finds tests that start their own program again and again, as the commands that they test.
// With the race detector each start costs many times what the command does: one package took 187 seconds
// instead of 11.
var testscripts = regexp.MustCompile(`\btestscript\.Main\(`)

// testGroups returns the packages with tests: what runs on any machine, one group for each module
// with the race detector and one without, the largest first; and the packages of module tests that
// need virtual machines.
//
// With the race detector run the packages that start goroutines, but for testscripts. Everywhere adds those, and
// the packages that guard what they share, or have goroutines in their tests alone.
func testGroups(top string, everywhere bool) (units []group, machines []string, err error) {
	modules, err := filepath.Glob(filepath.Join(top, "*", "go.mod"))
	if err != nil {
		return nil, nil, err
	}
	wanted := strings.Fields(os.Getenv("MODULES")) // make unit MODULES="lib kairos-root"
	for _, mod := range modules {
		dir := filepath.Dir(mod)
		if len(wanted) > 0 && !slices.Contains(wanted, filepath.Base(dir)) {
			continue
		}
		plain, race := group{module: filepath.Base(dir)}, group{module: filepath.Base(dir), race: true}
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return err
			}
			if entry.Name() == "testdata" {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && path != dir {
				return fs.SkipDir
			}
			tests, product, err := source(path)
			if err != nil || len(tests) == 0 {
				return err
			}
			relative, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			name := strings.TrimSuffix("./"+filepath.ToSlash(relative), "/.")
			switch {
			case bytes.Contains(tests, []byte("KAIROS_E2E")):
				machines = append(machines, name)
			case name == "./differential" && plain.module == "tests": // compiles yip: make test-all
			case strings.HasPrefix(name, "./bench") && plain.module == "tests":
				plain.add(name, len(tests)) // measures: nothing of it runs here
			case everywhere && slices.ContainsFunc([][]byte{product, tests}, func(text []byte) bool { return starts.Match(text) || guards.Match(text) }),
				starts.Match(product) && !testscripts.Match(tests):
				race.add(name, len(tests))
				// Tests that start too many processes for it skip themselves with it.
				if _, err := os.Stat(filepath.Join(path, "norace_test.go")); err == nil {
					plain.add(name, len(tests))
				}
			default:
				plain.add(name, len(tests))
			}
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
		for _, g := range []group{race, plain} {
			if len(g.packages) > 0 {
				units = append(units, g)
			}
		}
	}
	slices.SortStableFunc(units, func(a, b group) int { return b.size - a.size })
	return units, machines, nil
}

func (g *group) add(name string, size int) {
	g.packages = append(g.packages, name)
	g.size += size
}

// source returns the tests of a folder, and its other Go files.
func source(dir string) (tests, product []byte, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, nil, err
		}
		if strings.HasSuffix(name, "_test.go") {
			tests = append(tests, text...)
		} else {
			product = append(product, text...)
		}
	}
	return tests, product, nil
}
