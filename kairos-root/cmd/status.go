package cmd

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/terminal"

	"github.com/kairos-io/toolkit/kairos-root/internal/cli"
	"github.com/kairos-io/toolkit/kairos-root/internal/initrd"
)

func statusCommand() cli.Command {
	return cli.Command{
		Name: "status", Usage: "show what is mounted, and what is missing",
		Flags: []cli.Flag{
			{Name: "json", Usage: "print the result as one JSON object on stdout"},
			{Name: "check", Usage: "print nothing; exit with 1 when something is missing"},
		},
		Run: runStatus,
	}
}

func runStatus(c *cli.Call) error {
	s, err := initrd.ReadStatus(initrd.RunDir, "/")
	if errors.Is(err, fs.ErrNotExist) {
		err = deployment.ErrNotBooted
	}
	if err != nil {
		return err
	}
	switch {
	case c.Bool("check"):
		if s.Complete() {
			return nil
		}
		return exit.Silent(exit.Failed)
	case c.Bool("json"):
		encoder := json.NewEncoder(c.Out)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(s)
	}
	return printStatus(c.Out, s)
}

// printStatus prints the status for people.
func printStatus(out io.Writer, s *initrd.Status) error {
	var failed error
	line := func(format string, args ...any) {
		if _, err := terminal.Fprintf(out, format+"\n", args...); err != nil {
			failed = err
		}
	}
	verified := "contents are verified by fs-verity"
	if !s.Booted.Verity {
		verified = "contents are NOT verified"
	}
	line("deployment  %s (%s)", orNone(s.Booted.ID), s.Booted.Mode)
	line("image       %s, %s", s.Booted.ImageDigest, verified)
	line("store       %s on %s", s.Booted.Store, s.Booted.Device)
	line("persistent  %s", orNone(s.Persistent))
	if len(s.Mounts) > 0 {
		line("writable paths:")
	}
	for _, m := range s.Mounts {
		note := ""
		if !m.Mounted {
			note = "  NOT MOUNTED"
		}
		line("  %-9s  %s%s", m.Kind, m.Target, note)
	}
	if !s.Writable {
		line("the writable paths are not mounted")
	}
	for _, p := range s.Degraded {
		line("degraded    %s: %s", p.What, p.Reason)
		if p.Hint != "" {
			line("hint:       %s", p.Hint)
		}
	}
	return failed
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
