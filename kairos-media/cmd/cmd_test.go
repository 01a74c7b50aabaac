package cmd

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/cmdline/cmdlinetest"
	"github.com/rogpeppe/go-internal/testscript"
)

// programs are the toolkit's that kairos-media executes: the real ones.
var programs = []string{"kairos-upgrade", "kairos-config"}

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kairos-media": func() { cmdlinetest.Main(App()) },
	})
}

// The schema of kairos-json(5) defines what each command prints.
func TestSchema(t *testing.T) { cmdlinetest.Definitions(t, App()) }

// toolkit builds programs, and returns the directory that has them.
func toolkit(t *testing.T, programs ...string) string {
	t.Helper()
	bin := t.TempDir()
	for _, program := range programs {
		cmd := exec.Command("go", "build", "-trimpath", "-tags", "containers_image_openpgp exclude_graphdriver_btrfs urfave_cli_no_docs", "-o", bin, ".")
		cmd.Dir = filepath.Join("..", "..", program)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", program, err, out)
		}
	}
	return bin
}

func TestScripts(t *testing.T) {
	bin := toolkit(t, programs...)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("TZ", "UTC")
			e.Setenv("LANG", "C.UTF-8")
			e.Setenv("PATH", e.Getenv("PATH")+":"+bin+":/usr/sbin:/sbin")
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name == "grub" { // GRUB for BIOS on this machine, and what makes it
				_, err := exec.LookPath("grub-mkimage")
				_, missing := os.Stat("/usr/lib/grub/i386-pc/boot.img")
				return err == nil && missing == nil, nil
			}
			return false, fmt.Errorf("unknown condition %s", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit": exitCommand, "blob": blobCommand, "flip": flipCommand, "same": sameCommand,
		},
	})
}

// exit STATUS PROGRAM ARGUMENT… wants an exit status.
func exitCommand(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	have := 0
	if err != nil {
		have = -1
		var ended *exec.ExitError
		if e, ok := err.(*exec.ExitError); ok {
			ended = e
			have = ended.ExitCode()
		}
	}
	if strconv.Itoa(have) != args[0] {
		ts.Fatalf("exit status %d (%v), want %s", have, err, args[0])
	}
}

// blob FILE SIZE … makes files of arbitrary content, each with its own.
func blobCommand(ts *testscript.TestScript, _ bool, args []string) {
	for i := 0; i+1 < len(args); i += 2 {
		size, err := strconv.Atoi(args[i+1])
		ts.Check(err)
		file := ts.MkAbs(args[i])
		ts.Check(os.MkdirAll(filepath.Dir(file), 0o755))
		ts.Check(os.WriteFile(file, []byte(strings.Repeat(args[i]+"\n", size/(len(args[i])+1)+1))[:size], 0o644))
	}
}

// flip FILE TEXT N changes one bit of a file, in the Nth place that has the text.
func flipCommand(ts *testscript.TestScript, _ bool, args []string) {
	file := ts.MkAbs(args[0])
	data, err := os.ReadFile(file)
	ts.Check(err)
	nth, err := strconv.Atoi(args[2])
	ts.Check(err)
	at, text := 0, string(data)
	for ; nth > 0; nth-- {
		i := strings.Index(text[at:], args[1])
		if i < 0 {
			ts.Fatalf("%s has not so many %q", args[0], args[1])
		}
		at += i + 1
	}
	data[at] ^= 1
	ts.Check(os.WriteFile(file, data, 0o644))
}

// same FILE FILE wants files of equal content, however large.
func sameCommand(ts *testscript.TestScript, neg bool, args []string) {
	var sums []string
	for _, name := range args {
		f, err := os.Open(ts.MkAbs(name))
		ts.Check(err)
		data, err := io.ReadAll(f)
		f.Close()
		ts.Check(err)
		sums = append(sums, string(data))
	}
	if (sums[0] == sums[1]) == neg {
		ts.Fatalf("%s and %s: equal is %v", args[0], args[1], neg)
	}
}
