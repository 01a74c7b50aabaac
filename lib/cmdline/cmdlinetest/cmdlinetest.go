// Package cmdlinetest runs the programs of command tests and checks what they print
// with --json against the schema of kairos-json(5).
package cmdlinetest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/report/reporttest"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// Main is cmdline.Main. Output that the schema does not allow is not printed; the
// program ends with a status that no script expects.
func Main(app *cli.App) {
	if !slices.ContainsFunc(os.Args, jsonOption.MatchString) {
		cmdline.Main(app)
	}
	app.Writer = checked{app.Writer, command(os.Args, app)}
	ended := stderrLines()
	status := cmdline.Status(app)
	if err := ended(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 71
	}
	os.Exit(status)
}

// stderrLines checks that all that is written to the file descriptor of stderr,
// by libraries and by programs that are executed as well, is a JSON object a line.
// The function that it returns restores stderr and says what was none.
func stderrLines() (ended func() error) {
	real, err := unix.Dup(2)
	if err != nil {
		return func() error { return err }
	}
	read, write, err := os.Pipe()
	if err == nil {
		err = unix.Dup3(int(write.Fd()), 2, 0)
	}
	if err != nil {
		return func() error { return err }
	}
	write.Close()
	wrong := make(chan error, 1)
	go func() {
		var found error
		lines := bufio.NewScanner(read)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			var object map[string]any
			if err := json.Unmarshal(lines.Bytes(), &object); err != nil || object["message_type"] == nil {
				found = errors.Join(found, fmt.Errorf("with --json, stderr has a line that is no object with a message_type: %q", lines.Text()))
			}
			unix.Write(real, append(bytes.Clone(lines.Bytes()), '\n'))
		}
		wrong <- errors.Join(found, lines.Err())
	}()
	return func() error {
		if err := unix.Dup3(real, 2, 0); err != nil {
			return err
		}
		return <-wrong
	}
}

// jsonOption matches the spellings of --json.
var jsonOption = regexp.MustCompile(`^--?json(=true)?$|^--?output=json$`)

// command returns the words of the command that the arguments name. A program without a
// command is its status.
func command(args []string, app *cli.App) []string {
	words, commands := []string{filepath.Base(args[0])}, app.Commands
	for _, arg := range args[1:] {
		if i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(arg) }); i >= 0 {
			words, commands = append(words, commands[i].Name), commands[i].Subcommands
		}
	}
	if len(words) == 1 && !hasJSON(app.Flags) {
		words = append(words, "status")
	}
	return words
}

func hasJSON(flags []cli.Flag) bool {
	return slices.ContainsFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), "json") })
}

type checked struct {
	io.Writer
	command []string
}

// Write expects one whole object in each call, as programs write it.
func (c checked) Write(text []byte) (int, error) {
	if err := reporttest.Check(text, c.command...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(70)
	}
	return c.Writer.Write(text)
}

// Definitions checks that the schema defines what each command with --json prints.
func Definitions(t *testing.T, app *cli.App) {
	t.Helper()
	var all func(words []string, flags []cli.Flag, commands []*cli.Command)
	all = func(words []string, flags []cli.Flag, commands []*cli.Command) {
		if hasJSON(flags) {
			if _, err := reporttest.Definition(words...); err != nil {
				t.Errorf("%s: %v", strings.Join(words, " "), err)
			}
		}
		for _, c := range commands {
			all(append(slices.Clone(words), c.Name), c.Flags, c.Subcommands)
		}
	}
	all([]string{app.Name}, app.Flags, app.Commands)
}
