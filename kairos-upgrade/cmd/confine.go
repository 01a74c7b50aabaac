package cmd

import (
	"errors"
	"os/exec"
	"slices"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/confine"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// readCommand is the process without rights that reads images for the others: see
// package border. Nobody but this program runs it.
func readCommand() *cli.Command {
	return &cli.Command{
		Name:   "read",
		Hidden: true,
		Action: func(c *cli.Context) error { return deploy.Read(c.Context, explain) },
	}
}

// apart is how that process is started: this program, whatever has become of its
// file since.
func (m machine) apart() *deploy.Apart {
	return &deploy.Apart{
		Command: func() *exec.Cmd {
			return &exec.Cmd{Path: "/proc/self/exe", Args: []string{"kairos-upgrade", "read"}}
		},
		Scratch: m.scratch,
	}
}

// confine takes from this process what a command does not need that reads images
// and changes nothing but what lies below some directories: see package confine.
// Not where a source needs more itself: a containers-storage is mounted to be read.
func (m machine) confine(sources, write []string, keep ...uintptr) error {
	if slices.ContainsFunc(sources, source.Mounts) {
		return nil
	}
	keep = append(keep, unix.CAP_DAC_READ_SEARCH) // trees and archives may be others' files
	err := confine.Process(slices.Concat(write, m.scratch), keep...)
	if errors.Is(err, confine.ErrThreads) { // a build for tests
		return nil
	}
	return err
}

// ofOwners are the capabilities to give files to their owners.
var ofOwners = []uintptr{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_SETFCAP}
