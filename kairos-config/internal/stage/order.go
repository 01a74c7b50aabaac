package stage

import (
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
)

// order sorts the steps of one part of a stage so that each comes behind those
// that its after: names; otherwise they stay as they are. Steps on a cycle get
// an error and are not run, and so are those behind them: nobody can say what
// was meant.
func order(steps []Step) []Step {
	waits := make([][]int, len(steps)) // for steps with these numbers
	for i := range steps {
		for _, dep := range steps[i].Spec.After {
			found := named(steps, i, dep.Name)
			if len(found) == 0 {
				steps[i].Problems.Warnf(steps[i].Spec.Pos, "after: no step of %s has the name %q", steps[i].Part, dep.Name)
			}
			waits[i] = append(waits[i], found...)
		}
	}
	var sorted []Step
	done := make([]bool, len(steps))
	for len(sorted) < len(steps) {
		next := -1
		for i := range steps {
			if !done[i] && !slices.ContainsFunc(waits[i], func(w int) bool { return !done[w] }) {
				next = i
				break
			}
		}
		if next < 0 {
			return append(sorted, cyclic(steps, done)...)
		}
		done[next] = true
		sorted = append(sorted, steps[next])
	}
	return sorted
}

// cyclic returns the steps that wait for each other, with the error.
func cyclic(steps []Step, done []bool) []Step {
	var names []string
	var left []Step
	for i, s := range steps {
		if !done[i] {
			names = append(names, s.Name)
			left = append(left, s)
		}
	}
	for i := range left {
		var problems diag.List
		problems.Errorf(left[i].Spec.Pos, "after: these steps wait for each other: %s", strings.Join(names, ", "))
		left[i].Problems = append(left[i].Problems, problems...)
		left[i].Spec.Unclear = true
	}
	return left
}

// named returns the numbers of the steps that a name means to step i: those of
// its own config, or else those of any; a name with a config's before it (its
// name:, its file or its path), as in 90_custom.STEP, means that config's.
func named(steps []Step, i int, name string) []int {
	var own, any []int
	for k, s := range steps {
		switch {
		case k == i:
		case s.Name == name && s.Source == steps[i].Source:
			own = append(own, k)
		case s.Name == name, configName(s.Source)+"."+s.Name == name, s.Source+"."+s.Name == name, s.Config != "" && s.Config+"."+s.Name == name:
			any = append(any, k)
		}
	}
	if len(own) > 0 {
		return own
	}
	return any
}

// configName is the file name of a config without its ending.
func configName(source string) string {
	name := source[strings.LastIndexByte(source, '/')+1:]
	return strings.TrimSuffix(strings.TrimSuffix(name, ".yaml"), ".yml")
}
