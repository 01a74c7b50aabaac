package cmd

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/efivars"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kairos-reset": func() { cmdline.Main(App(machineFromEnvironment())) },
	})
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
