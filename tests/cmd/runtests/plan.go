package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// step is one thing to run.
type step struct {
	name  string
	phase string // what the table sums it under
	lasts string // how long it takes on two cores, for who waits
	// after are steps that must have ended, requires those that must have succeeded. Steps that are
	// not part of the plan count as ended well.
	after, requires []string
	beside          bool     // it waits more than it computes: its output is marked by its name
	command         []string // at the top of the project
	env             []string
	groups          []group // or tests, instead of a command
}

type plan []step

const (
	phaseSetup   = "setup"
	phaseBuild   = "build"
	phaseLint    = "lint"
	phaseImages  = "images"
	phaseTests   = "unit and command tests"
	phaseE2E     = "end-to-end tests"
	phaseFaults  = "long fault tests"
	phaseFuzz    = "fuzzing"
	phaseMutants = "mutation"
	phaseHost    = "host compared"
)

func makeStep(name, phase, lasts string, target ...string) step {
	return step{name: name, phase: phase, lasts: lasts, command: append([]string{"make", "--no-print-directory"}, target...)}
}

// planOf returns the steps of check, test, all, unit or e2e.
func planOf(name, top string) (plan, error) {
	units, machines, err := testGroups(top, name == "all")
	if err != nil {
		return nil, err
	}
	setup := step{name: "setup", phase: phaseSetup, lasts: "2 min the first time", beside: true, command: []string{"tests/setup"}}
	build := makeStep("build", phaseBuild, "3 min the first time", "build", "build-alone")
	lint := makeStep("lint", phaseLint, "1 min", "lint")
	lint.after = []string{"setup", "build"}
	unit := step{name: "unit", phase: phaseTests, lasts: "4 min", after: []string{"setup", "build", "lint"}, groups: units}
	images := step{name: "images", phase: phaseImages, lasts: "8 min the first time", after: []string{"setup", "lint"},
		requires: []string{"build", "setup"}, beside: true, command: []string{"make", "--no-print-directory", "images"}}
	e2e := step{name: "e2e", phase: phaseE2E, lasts: "16 min", after: []string{"unit"}, requires: []string{"setup", "build", "images"},
		groups: []group{{module: "tests", packages: machines, verbose: true, flags: []string{"-count=1", "-timeout=80m"}}},
		env:    []string{"KAIROS_E2E=1"}}
	switch name {
	case "check":
		return plan{build, lint, unit}, nil
	case "unit":
		return plan{unit}, nil
	case "e2e":
		return plan{images, e2e}, nil
	case "test":
		return plan{setup, build, lint, images, unit, e2e, hostStep("e2e")}, nil
	case "all":
		all := plan{setup, build, lint, images, unit, e2e}
		all = append(all, longSteps()...)
		return append(all, hostStep(all[len(all)-1].name)), nil
	}
	return nil, fmt.Errorf("no plan %q: check, test, all, unit or e2e", name)
}

// longSteps are what `make test` has no time for.
func longSteps() []step {
	systemd := step{name: "setup-systemd", phase: phaseSetup, lasts: "2 min", after: []string{"e2e"}, command: []string{"tests/setup", "--systemd"}}
	// With other versions of systemd here, the tests of kairos-crypt compare with them too.
	versions := step{name: "crypt-systemd", phase: phaseFaults, lasts: "2 min", requires: []string{"setup-systemd"},
		groups: []group{{module: "kairos-crypt", packages: []string{"./internal/tpm"}, flags: []string{"-count=1", "-timeout=30m"}}}}
	// yip and its modules come from the module proxy.
	differential := step{name: "differential", phase: phaseFaults, lasts: "3 min", after: []string{"crypt-systemd"},
		groups: []group{{module: "tests", packages: []string{"./differential"}, verbose: true, flags: []string{"-count=1", "-timeout=30m"}}}}
	kills := step{name: "kills", phase: phaseFaults, lasts: "20 min", after: []string{"differential"},
		groups: []group{{module: "kairos-upgrade", packages: []string{"./cmd"}, verbose: true, flags: []string{
			"-count=1", "-timeout=60m", "-run=^Test((Recovery|Loader)?Killed|DamagedArchives$)"}, args: []string{"-kills", value("KILLS", "100")}}}}
	failures := step{name: "failures", phase: phaseFaults, lasts: "2 h", after: []string{"kills"}, requires: []string{"build", "images"},
		groups: []group{{module: "tests", packages: []string{"./e2e"}, verbose: true, flags: []string{
			"-count=1", "-timeout=240m", "-run=" + value("FAILURES", "^Test(Failures|LoaderUpgrade|UnstableLoader|RecoveryRenewed|Crypt|ExchangedVolume|SecondDisk|ClockOf1970)$")}}},
		env: []string{"KAIROS_E2E=1", "KAIROS_LONG=1"}}
	powercut := step{name: "powercut", phase: phaseFaults, lasts: "5 h", after: []string{"failures"}, requires: []string{"build", "images"},
		groups: []group{{module: "tests", packages: []string{"./powercut"}, verbose: true, flags: []string{
			"-count=1", "-timeout=12h", "-run=^TestPowerCuts$"}}},
		env: []string{"KAIROS_POWERCUT=1"}}
	fuzz := makeStep("fuzz", phaseFuzz, "20 min", "fuzz", "FUZZTIME="+value("FUZZTIME", "10s"))
	fuzz.after = []string{"powercut"}
	mutants := makeStep("mutants", phaseMutants, "20 min", "mutants")
	mutants.after = []string{"fuzz"}
	return []step{systemd, versions, differential, kills, failures, powercut, fuzz, mutants}
}

// hostStep compares the machine with what it was before `make test` began.
func hostStep(after string) step {
	return step{name: "host", phase: phaseHost, lasts: "1 s", after: []string{after}, command: []string{"tests/host", "compare"}}
}

func value(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// announce says what is going to run.
func (p plan) announce(out *printer) {
	for _, s := range p {
		what := strings.Join(s.command, " ")
		if len(s.groups) > 0 {
			packages := 0
			for _, g := range s.groups {
				packages += len(g.packages)
			}
			what = fmt.Sprintf("go test, %d packages", packages)
		}
		out.line("", fmt.Sprintf("%-14s %-22s about %-20s %s", s.name, s.phase, s.lasts, what))
	}
}

func (p plan) has(name string) bool {
	return slices.ContainsFunc(p, func(s step) bool { return s.name == name })
}
