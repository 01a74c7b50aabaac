package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kairos-io/toolkit/lib/cmdline/cmdlinetest"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/efivars"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kairos-reset":  func() { cmdlinetest.Main(App(machineFromEnvironment())) },
		"kairos-config": config,
	})
}

// config answers as kairos-config get --json reset does: with the value of the
// key, with exit status 3 where it has none, with 1 where a config is wrong. The
// real one reads the configs of the machine that the tests run on.
func config() {
	if !slices.Equal(os.Args[1:], []string{"get", "--json", "reset"}) {
		os.Exit(exit.Usage)
	}
	data, err := os.ReadFile(filepath.Join(os.Getenv("MACHINE"), "reset.json"))
	if errors.Is(err, fs.ErrNotExist) {
		os.Exit(exit.Nothing)
	}
	if string(data) == "broken\n" {
		fmt.Fprintln(os.Stderr, "90_custom.yaml:3: reset-oem: not a boolean")
		os.Exit(exit.Failed)
	}
	os.Stdout.Write(data)
}

// machineFromEnvironment is the machine whose files are in $MACHINE.
func machineFromEnvironment() Machine {
	dir := os.Getenv("MACHINE")
	return Machine{
		Disk:    disk.System{Sys: dir + "/sys", Dev: dir + "/dev", Vars: efivars.At(dir + "/efivars")},
		Booted:  dir + "/booted.json",
		Store:   dir + "/store",
		ESP:     dir + "/efi",
		Cmdline: dir + "/cmdline",
		Work:    dir + "/work",
		Enter:   func(work string) error { return os.MkdirAll(work, 0o700) },
		Admin:   os.Getenv("NOT_ROOT") == "",
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			dir := filepath.Join(env.WorkDir, "machine")
			env.Setenv("MACHINE", dir)
			// The disk of the node, as sysfs shows it.
			for i, label := range []string{"COS_GRUB", "COS_OEM", "COS_RECOVERY", "COS_STATE", "COS_PERSISTENT"} {
				name := "vda" + string(rune('1'+i))
				part := filepath.Join(dir, "sys/devices/vda", name)
				class := filepath.Join(dir, "sys/class/block")
				for _, d := range []string{part, class} {
					if err := os.MkdirAll(d, 0o755); err != nil {
						return err
					}
				}
				uevent := "DEVTYPE=partition\nPARTN=" + string(rune('1'+i)) + "\nPARTNAME=" + label + "\nPARTUUID=0000000" + string(rune('1'+i)) + "\n"
				if err := os.WriteFile(filepath.Join(part, "uevent"), []byte(uevent), 0o644); err != nil {
					return err
				}
				if err := os.Symlink(part, filepath.Join(class, name)); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

// The schema of kairos-json(5) defines what each command prints.
func TestSchema(t *testing.T) { cmdlinetest.Definitions(t, App(Machine{})) }
