package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// listed is how long, in seconds, a test or package takes at least to have a line of its own.
const listed = 1.0

// report prints the table and what failed, and returns the exit status.
func report(out *printer, results []result) int {
	var text strings.Builder
	passed, failed, skipped := 0, 0, 0
	var failures []string
	for _, r := range results {
		rows := r.tests
		if !slices.ContainsFunc(r.step.groups, func(g group) bool { return g.verbose }) {
			rows = slices.DeleteFunc(slices.Clone(rows), func(t testResult) bool { return t.test != "" })
		} else {
			rows = slices.DeleteFunc(slices.Clone(rows), func(t testResult) bool { return t.test == "" })
		}
		table(&text, r.step.name, rows)
		broken := map[string]bool{} // packages with a failed test
		for _, t := range r.tests {
			if t.test == "" {
				continue
			}
			switch t.outcome {
			case "pass":
				passed++
			case "skip":
				skipped++
			case "fail":
				failed++
				broken[t.pkg] = true
				failures = append(failures, r.step.name+": "+t.pkg+" "+t.test)
			}
		}
		for _, t := range r.tests {
			if t.test == "" && t.outcome == "fail" && !broken[t.pkg] {
				failed++
				broken[t.pkg] = true
				failures = append(failures, r.step.name+": "+t.pkg)
			}
		}
		if r.failed != "" && len(broken) == 0 {
			failed++
			failures = append(failures, r.step.name+": "+r.failed)
		}
	}
	phases(&text, results)
	fmt.Fprintf(&text, "\n%-50s %8.0f s\n", "all of it", time.Since(out.start).Seconds())
	if len(failures) > 0 {
		text.WriteString("\nfailed:\n  " + strings.Join(failures, "\n  ") + "\n")
	}
	fmt.Fprintf(&text, "\n%d passed, %d failed, %d skipped", passed, failed, skipped)
	out.line("", text.String())
	if failed > 0 {
		return 1
	}
	return 0
}

func table(text *strings.Builder, name string, rows []testResult) {
	if len(rows) == 0 {
		return
	}
	slices.SortStableFunc(rows, func(a, b testResult) int { return cmp.Compare(b.seconds, a.seconds) })
	fmt.Fprintf(text, "\n%-50s %8s\n", name, "seconds")
	others, rest := 0, 0.0
	for _, t := range rows {
		if t.seconds < listed && t.outcome != "fail" {
			others++
			rest += t.seconds
			continue
		}
		label := t.test
		if label == "" {
			label = t.pkg
		}
		note := ""
		if t.outcome != "pass" {
			note = "  " + t.outcome
		}
		if t.race {
			note += "  race detector"
		}
		if t.cached {
			note += "  cached"
		}
		fmt.Fprintf(text, "  %-48s %8.1f%s\n", label, t.seconds, note)
	}
	if others > 0 {
		fmt.Fprintf(text, "  %-48s %8.1f\n", fmt.Sprintf("%d others", others), rest)
	}
}

// phases prints the sums. Phases that run beside each other are counted each.
func phases(text *strings.Builder, results []result) {
	fmt.Fprintf(text, "\n%-50s %8s\n", "phase", "seconds")
	var names []string
	sums, beside, machine := map[string]float64{}, map[string]bool{}, 0.0
	for _, r := range results {
		name := r.step.phase
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		sums[name] += r.lasted.Seconds()
		beside[name] = beside[name] || r.step.beside
		machine += r.machine.Seconds()
	}
	for _, name := range names {
		note := ""
		if beside[name] {
			note = "  beside others"
		}
		fmt.Fprintf(text, "  %-48s %8.1f%s\n", name, sums[name], note)
	}
	if machine > 0 {
		fmt.Fprintf(text, "  %-48s %8.1f  of the end-to-end and fault tests\n", "machine", machine)
	}
}
