package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// result is how a step ended.
type result struct {
	step    step
	began   time.Duration // since the start
	lasted  time.Duration
	failed  string // why, empty if it didn't
	tests   []testResult
	machine time.Duration // that virtual machines ran
}

type runner struct {
	top, logs string
	out       *printer
}

// run runs the steps, each as soon as those before it have ended.
func (r *runner) run(ctx context.Context, p plan) []result {
	results := make([]result, len(p))
	ended := map[string]chan struct{}{}
	index := map[string]int{}
	for i, s := range p {
		ended[s.name], index[s.name] = make(chan struct{}), i
	}
	var running sync.WaitGroup
	for i, s := range p {
		running.Go(func() {
			defer close(ended[s.name])
			results[i].step = s
			for _, name := range append(s.after, s.requires...) {
				if p.has(name) {
					<-ended[name]
				}
			}
			for _, name := range s.requires {
				if p.has(name) && results[index[name]].failed != "" {
					results[i].failed = "not run: it needs " + name + ", which failed"
				}
			}
			if ctx.Err() != nil {
				results[i].failed = "not run: interrupted"
			}
			if results[i].failed != "" {
				return
			}
			r.step(ctx, &results[i])
		})
	}
	running.Wait()
	return results
}

func (r *runner) step(ctx context.Context, result *result) {
	s, began := result.step, time.Now()
	result.began = began.Sub(r.out.start)
	r.out.line("", "=== "+s.name)
	var err error
	if len(s.groups) > 0 {
		err = r.test(ctx, result)
	} else {
		err = r.command(ctx, s)
	}
	result.lasted = time.Since(began)
	ending := "done"
	if err != nil {
		result.failed, ending = err.Error(), "FAILED: "+err.Error()
	}
	r.out.line("", fmt.Sprintf("=== %s: %s, %.0f s", s.name, ending, result.lasted.Seconds()))
}

// command runs a step that is one command, and shows what it prints.
func (r *runner) command(ctx context.Context, s step) error {
	log, err := os.Create(filepath.Join(r.logs, s.name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	mark := ""
	if s.beside {
		mark = s.name
	}
	shown := &lines{each: func(line string) { r.out.line(mark, line) }}
	cmd := command(ctx, r.top, s.env, s.command)
	// One writer for both: what it prints stays in order, and a child that goes on holds nothing up.
	cmd.Stdout = io.MultiWriter(log, shown)
	cmd.Stderr = cmd.Stdout
	err = cmd.Run()
	shown.flush()
	if err != nil {
		return fmt.Errorf("%w (all of it is in %s)", err, filepath.Join("build", "log", s.name+".log"))
	}
	return nil
}

// command is a command that is interrupted, not killed, when the context ends: tests stop their
// machines then.
func command(ctx context.Context, dir string, env, argv []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	return cmd
}

// lines calls a function for each line that is written.
type lines struct {
	each func(string)
	rest string
}

func (l *lines) Write(p []byte) (int, error) {
	l.rest += string(p)
	for {
		line, rest, found := strings.Cut(l.rest, "\n")
		if !found {
			return len(p), nil
		}
		l.each(line)
		l.rest = rest
	}
}

func (l *lines) flush() {
	if l.rest != "" {
		l.each(l.rest)
	}
	l.rest = ""
}

// printer writes whole lines, whoever prints them.
type printer struct {
	start time.Time
	mu    sync.Mutex
}

func (p *printer) line(mark, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if mark != "" {
		text = "[" + mark + "] " + text
	}
	fmt.Println(text)
}

// exitStatus says how a command ended, for people.
func exitStatus(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.Error()
	}
	return fmt.Sprint(err)
}
