// Command runtests runs the project's tests: check, test, all, or the one step that is named.
//
// Steps run one after the other where they compute, and beside each other where one of them waits.
// A failure stops only what cannot run without the step that failed. The end is a table of what took
// how long, and the names of what failed; the exit status is 1 if anything did.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

func run(ctx context.Context, args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: runtests check | test | all | unit | e2e")
		return 2
	}
	top, err := project()
	if err != nil {
		fmt.Fprintln(os.Stderr, "runtests:", err)
		return 1
	}
	plan, err := planOf(args[0], top)
	if err != nil {
		fmt.Fprintln(os.Stderr, "runtests:", err)
		return 2
	}
	out := &printer{start: time.Now()}
	r := &runner{top: top, out: out, logs: filepath.Join(top, "build", "log")}
	if err := os.MkdirAll(r.logs, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, "runtests:", err)
		return 1
	}
	plan.announce(out)
	results := r.run(ctx, plan)
	return report(out, results)
}

// project returns the absolute path of the project: the first folder, from the working directory
// upwards, that holds tests/setup.
func project() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "tests", "setup")); err == nil {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", fmt.Errorf("no tests/setup here or above")
		}
		dir = filepath.Dir(dir)
	}
}
