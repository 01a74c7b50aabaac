// Package cmd implements the command line of kairos. It imports no tool: it executes
// them.
package cmd

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/kairos-io/toolkit/lib/argv"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/urfave/cli/v2"
)

const prefix = "kairos-"

// tools are the tools that kairos executes, in the order of a node's life.
var tools = []struct{ name, usage string }{
	{"install", "install an image on a disk"},
	{"upgrade", "stage an image as the next boot, and keep the store of deployments"},
	{"config", "validate, stage and apply the node's cloud-config"},
	{"boot-assess", "decide whether this boot is good"},
	{"crypt", "manage encrypted volumes"},
	{"reset", "bring the node back to its factory state"},
	{"root", "mount the immutable root, in the initrd"},
}

// find returns the path of a tool: beside this program, or in PATH.
func find(tool string) (program string, ok bool) {
	if tool == "" || strings.ContainsAny(tool, "/.") {
		return "", false
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), prefix+tool)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return beside, true
		}
	}
	program, err := exec.LookPath(prefix + tool)
	return program, err == nil
}

// delegate returns the tool that a command line names, with its arguments; "" for a
// command of kairos itself.
func delegate(words []string) (program string, args []string) {
	if len(words) == 0 {
		return "", nil
	}
	tool, rest := words[0], words[1:]
	switch {
	case tool == argv.Completion && len(rest) > 1: // behind the name of a tool
		tool, rest = rest[0], append([]string{argv.Completion}, rest[1:]...)
	case tool == "help" && len(rest) > 0:
		tool, rest = rest[0], append(slices.Clone(rest[1:]), "--help")
	}
	if tool == "status" || strings.HasPrefix(tool, "-") {
		return "", nil
	}
	if program, ok := find(tool); ok {
		return program, append([]string{prefix + tool}, rest...)
	}
	return "", nil
}

// Run runs kairos with the arguments of the process. It executes a tool in its own
// place.
func Run(args []string) int { return runOn(args, deployment.BootedPath) }

// runOn is Run with another file that describes the running system.
func runOn(args []string, booted string) int {
	if program, argv := delegate(args[1:]); program != "" {
		err := syscall.Exec(program, argv, os.Environ())
		exit.Print(os.Stderr, "kairos", fmt.Errorf("execute %s: %w", program, err), slices.Contains(argv, "--json"))
		return exit.Failed
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return cmdline.Run(ctx, app(booted), args)
}

func app(booted string) *cli.App {
	a := cmdline.New("kairos", "show the state of the node, and execute the tools of the toolkit")
	a.Commands = []*cli.Command{statusCommand(booted, a.Writer)}
	for _, t := range tools {
		if _, there := find(t.name); there {
			// Never run from here, but listed, completed and suggested.
			a.Commands = append(a.Commands, &cli.Command{Name: t.name, Usage: t.usage, ArgsUsage: "[ARGUMENT...]", Action: func(*cli.Context) error {
				return exit.Usagef("%s comes after options, which belong to a tool: write kairos %s OPTION…", t.name, t.name)
			}})
		}
	}
	return a
}
