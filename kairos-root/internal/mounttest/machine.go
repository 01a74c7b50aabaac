package mounttest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/efivars"
	"github.com/kairos-io/toolkit/lib/efivars/efivarstest"
)

// Machine is a simulated machine with its own /sys, /dev and loader variables.
type Machine struct {
	t   testing.TB
	dir string
}

// NewMachine returns a machine without disks.
func NewMachine(t testing.TB) Machine {
	m := Machine{t, t.TempDir()}
	for _, dir := range []string{"sys/class/block", "sys/devices", "dev/disk/by-label", "vars"} {
		if err := os.MkdirAll(filepath.Join(m.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// System returns the machine as lib/disk sees it.
func (m Machine) System() disk.System {
	return disk.System{Sys: filepath.Join(m.dir, "sys"), Dev: m.Dev(""), Vars: efivars.At(filepath.Join(m.dir, "vars"))}
}

// Dev returns the path of a device node.
func (m Machine) Dev(name string) string { return filepath.Join(m.dir, "dev", name) }

// Add adds a partition: Add("vda", "2", "COS_STATE"). Its UUID is UUID("vda2").
func (m Machine) Add(diskName, number, label string) {
	m.t.Helper()
	name := diskName + number
	dir := filepath.Join(m.dir, "sys/devices", diskName, name)
	uevent := "DEVTYPE=partition\nPARTN=" + number + "\nPARTNAME=" + label + "\nPARTUUID=" + UUID(name) + "\n"
	err := errors.Join(
		os.MkdirAll(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "uevent"), []byte(uevent), 0o644),
		os.Symlink(dir, filepath.Join(m.dir, "sys/class/block", name)),
	)
	if err != nil {
		m.t.Fatal(err)
	}
}

// Drive makes a CD drive, "sr0". What is in it is the file Dev("sr0").
func (m Machine) Drive(name string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Join(m.dir, "sys/class/block", name), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

// Alike gives a partition the UUID of another.
func (m Machine) Alike(name, other string) {
	m.t.Helper()
	file := filepath.Join(m.dir, "sys/class/block", name, "uevent")
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte(strings.Replace(string(text), UUID(name), UUID(other), 1)), 0o644)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// UUID returns the partition UUID of a partition.
func UUID(name string) string {
	const form = "00000000-0000-4000-8000-000000000000"
	hex := ""
	for _, c := range []byte(name) {
		hex += string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15])
	}
	return form[:len(form)-len(hex)] + hex
}

// Variable sets a variable of the boot loader to NUL-terminated strings.
func (m Machine) Variable(name string, values ...string) {
	m.t.Helper()
	text := ""
	for _, value := range values {
		text += value + "\x00"
	}
	if err := efivarstest.Set(filepath.Join(m.dir, "vars"), name, text); err != nil {
		m.t.Fatal(err)
	}
}
