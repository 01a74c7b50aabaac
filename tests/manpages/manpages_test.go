// Package manpages holds the manual pages against the programs: every command
// and option that --help shows stands in the page, and the page names no
// option that the program doesn't have.
package manpages

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const top = "../.."

func TestPagesMatchPrograms(t *testing.T) {
	programs, err := filepath.Glob(filepath.Join(top, "build/bin/kairos*"))
	if err != nil || len(programs) == 0 {
		t.Skip("no programs in build/bin: run make build first")
	}
	for _, program := range programs {
		name := filepath.Base(program)
		t.Run(name, func(t *testing.T) {
			page := render(t, filepath.Join(top, "man", name+".8"))
			known := map[string]bool{}
			check(t, program, nil, page, known)
			for _, option := range options.FindAllString(synopsis(page), -1) {
				if !known[option] {
					t.Errorf("the page's synopsis names %s, which no command has", option)
				}
			}
			for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "FILES", "EXAMPLES", "SEE ALSO"} {
				if !strings.Contains(page, "\n"+section+"\n") {
					t.Errorf("the page has no section %s", section)
				}
			}
		})
	}
}

var (
	options     = regexp.MustCompile(`--[a-z][a-z0-9-]*`)
	commandLine = regexp.MustCompile(`^ {3,}([a-z][a-z0-9-]*)(?:, [a-z-]+)* {2,}\S`)
)

// universal options stand in kairos(7), not in every page.
var universal = []string{"--help", "--version"}

// check holds the help of a command, and of its subcommands, against the page.
func check(t *testing.T, program string, command []string, page string, known map[string]bool) {
	t.Helper()
	out, err := exec.Command(program, append(slices.Clone(command), "--help")...).Output()
	if err != nil {
		t.Fatalf("%s %s --help: %v", filepath.Base(program), strings.Join(command, " "), err)
	}
	section := ""
	for line := range strings.Lines(string(out)) {
		line = strings.TrimRight(line, "\n")
		if line != "" && line[0] != ' ' {
			section = strings.TrimSuffix(line, ":")
			continue
		}
		switch section {
		case "COMMANDS":
			if match := commandLine.FindStringSubmatch(line); match != nil {
				sub := append(slices.Clone(command), match[1])
				if !strings.Contains(page, strings.Join(sub, " ")) {
					t.Errorf("command %q is not in the page", strings.Join(sub, " "))
				}
				if filepath.Base(program) != "kairos" || match[1] == "status" { // its others are the tools
					check(t, program, sub, page, known)
				}
			}
		case "OPTIONS", "GLOBAL OPTIONS":
			for _, option := range options.FindAllString(strings.SplitN(line, "   ", 3)[min(1, strings.Count(line, "   "))], -1) {
				known[option] = true
				if !slices.Contains(universal, option) && !strings.Contains(page, option) {
					t.Errorf("option %s of %q is not in the page", option, fmt.Sprint(command))
				}
			}
		}
	}
}

// render returns a page as plain text.
func render(t *testing.T, page string) string {
	t.Helper()
	if _, err := os.Stat(page); err != nil {
		t.Fatalf("no manual page: %v", err)
	}
	out, err := exec.Command("mandoc", "-T", "ascii", "-O", "width=500", page).Output()
	if err != nil {
		t.Fatalf("mandoc %s: %v", page, err)
	}
	return regexp.MustCompile(`.\x08`).ReplaceAllString(string(out), "")
}

func synopsis(page string) string {
	_, rest, _ := strings.Cut(page, "\nSYNOPSIS\n")
	text, _, _ := strings.Cut(rest, "\nDESCRIPTION\n")
	return text
}
