package cmd

// The command tests run the program against a machine made of files and
// programs that only note what they were called with. What systemd-repart
// really makes of the definitions is tested in internal/layout, and that the
// result boots, end to end.

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-install/internal/target"
	"github.com/kairos-io/toolkit/kairos-install/internal/target/fakemachine"
	"github.com/kairos-io/toolkit/lib/cmdline/cmdlinetest"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/efivars"
	"github.com/kairos-io/toolkit/lib/mountns"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kairos-install": func() { cmdlinetest.Main(App(machineFromEnvironment())) },
		"in-a-namespace": inANamespace,
	})
}

// machineFromEnvironment is the machine in $MACHINE.
func machineFromEnvironment() Machine {
	dir := os.Getenv("MACHINE")
	there := func(name string) bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }
	return Machine{
		Target: target.System{
			Disk: disk.System{Sys: dir + "/sys", Dev: dir + "/dev", Vars: efivars.At(dir + "/efivars")},
			Proc: dir + "/proc",
			Claim: func(node string) error {
				if there("claimed/" + filepath.Base(node)) {
					return unix.EBUSY
				}
				return nil
			},
		},
		Root:        dir + "/root",
		Booted:      dir + "/booted.json",
		Store:       "/run/kairos/store",
		Definitions: []string{dir + "/absent", dir + "/repart.d"},
		Loaders:     dir + "/loaders/*.efi",
		Work:        dir + "/work",
		Lock:        dir + "/lock",
		Console:     dir + "/console",
		Hostname:    "node-7",
		Enter:       func(work string) error { return errors.Join(os.RemoveAll(work), os.MkdirAll(work, 0o700)) },
		Admin:       !there("not-root"),
		Verity:      !there("no-verity"),
		EFI:         !there("no-efi"),
		Variables:   !there("no-efi"),
	}
}

func TestScripts(t *testing.T) {
	bin, err := filepath.Abs("testdata/bin")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			dir := filepath.Join(env.WorkDir, "machine")
			m := fakemachine.New(dir)
			m.File("loaders/systemd-bootx64.efi", "")
			m.File("repart.d/10-esp.conf", "")
			m.File("booted.json", `{"id":"1-0123456789ab","mode":"live","store":"COS_LIVE"}`)
			m.Disk("vda", 8192)
			m.System()
			env.Values["machine"] = m
			env.Setenv("MACHINE", dir)
			env.Setenv("LOG", filepath.Join(env.WorkDir, "log"))
			env.Setenv("PATH", strings.Join([]string{bin, env.WorkDir + "/bin", env.Getenv("PATH")}, ":"))
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "namespaces" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			return exec.Command("unshare", "--mount", "true").Run() == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"machine":   machineCommand,
			"performed": performedCommand,
			"appears":   appearsCommand,
		},
	})
}

// The schema of kairos-json(5) defines what each command prints.
func TestSchema(t *testing.T) { cmdlinetest.Definitions(t, App(Machine{})) }

// inANamespace enters a mount namespace with its argument as work directory, and
// prints what it finds there.
func inANamespace() {
	work := os.Args[1]
	if err := mountns.Enter(work); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	err := errors.Join(os.WriteFile(work+"/seen-inside", nil, 0o600),
		os.Mkdir(work+"/below", 0o700),
		unix.Mount("tmpfs", work+"/below", "tmpfs", 0, ""))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	fmt.Printf("%s\n%v %q %q\n", mounts, err, os.Getenv("KAIROS_MOUNT_NAMESPACE"), os.Args[2:])
}

// machineCommand changes the machine of a script: "machine disk vdb 9000
// label:100", "machine mount vdb1 /mnt", "machine file NAME [CONTENT]".
func machineCommand(ts *testscript.TestScript, _ bool, args []string) {
	m := ts.Value("machine").(*fakemachine.Machine)
	switch args[0] {
	case "disk":
		size, err := strconv.ParseInt(args[2], 10, 64)
		ts.Check(err)
		m.Disk(args[1], size, args[3:]...)
	case "mount":
		m.Mount(args[1], args[2], "ext4", "/dev/"+args[1])
	case "file":
		m.File(args[1], strings.Join(args[2:], " "))
	default:
		ts.Fatalf("machine %s: unknown", args[0])
	}
	m.System()
}

// performedCommand checks that the commands of a printed plan are those of the
// log, in the order of the plan: "performed PLAN LOG".
func performedCommand(ts *testscript.TestScript, _ bool, args []string) {
	var planned []string
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		command, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "      ")
		if name, more, given := strings.Cut(command, "='"); given && strings.ToUpper(name) == name { // a variable of its environment
			_, command, _ = strings.Cut(more, "' ")
		}
		program, _, _ := strings.Cut(command, " ")
		if _, err := os.Stat(filepath.Join("testdata/bin", program)); ok && err == nil {
			command, _, _ = strings.Cut(command, " (") // what is said about it
			planned = append(planned, command)
		}
	}
	// Which volumes are expected is known once they are made, and what is ext4: the plan says so.
	performed := regexp.MustCompile(` --crypt=[A-Z_]+:[0-9a-f-]{36}|,noinit_itable`).ReplaceAllString(ts.ReadFile(args[1]), "")
	done := strings.Split(strings.TrimSpace(performed), "\n")
	if len(planned) == 0 || strings.Join(planned, "\n") != strings.Join(done, "\n") {
		ts.Fatalf("planned:\n%s\ndone:\n%s", strings.Join(planned, "\n"), strings.Join(done, "\n"))
	}
}

// appearsCommand waits until a program in the background has made a file.
func appearsCommand(ts *testscript.TestScript, _ bool, args []string) {
	for range 1000 {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("%s did not appear", args[0])
}
