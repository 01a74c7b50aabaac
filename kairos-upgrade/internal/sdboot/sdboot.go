package sdboot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"

	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/efivars"
)

// Dir is where a system carries the programs of systemd-boot.
const Dir = "usr/lib/systemd/boot/efi"

// efiNames are UEFI's names of architectures (UEFI specification, 3.5.1.1).
var efiNames = map[string]string{
	"amd64": "x64", "386": "ia32", "arm64": "aa64", "arm": "arm", "riscv64": "riscv64", "loong64": "loongarch64",
}

// paths are the files of one architecture on the ESP.
type paths struct{ source, main, previous, fallback string }

func pathsOf(arch string) paths {
	return paths{
		source:   "systemd-boot" + arch + ".efi",
		main:     "EFI/systemd/systemd-boot" + arch + ".efi",
		previous: "EFI/systemd/systemd-boot" + arch + ".previous.efi",
		fallback: "EFI/BOOT/BOOT" + strings.ToUpper(arch) + ".EFI",
	}
}

// Action is what there is to do.
type Action string

const (
	None    Action = "none"    // all is as new as it can be, or not ours
	Hold    Action = "hold"    // there is something newer, which must not be installed
	Install Action = "install" // to systemd's path
	Finish  Action = "finish"  // to the fallback path: the installed one has booted
)

// Status is the boot loader of a machine. Versions are "" where there is none,
// or none of systemd-boot.
type Status struct {
	Running    string `json:"running"`     // version that this boot came through
	Image      string `json:"image"`       // path on the ESP of what the firmware started
	Installed  string `json:"installed"`   // version on systemd's path
	Previous   string `json:"previous"`    // version that was there before
	Fallback   string `json:"fallback"`    // version on the fallback path
	Available  string `json:"available"`   // version that the running deployment carries
	SecureBoot bool   `json:"secure_boot"` // the firmware starts only what it has a key for
	Action     Action `json:"action"`
	Reason     string `json:"reason"`
}

// Target is where a boot loader lives.
type Target struct {
	ESP    *os.Root // the mounted EFI system partition
	System *os.Root // the root of the running deployment
	Vars   efivars.Vars
	// Proven says that the running deployment was found good.
	Proven bool
	// Force installs what is carried, though it is older, damaged or on trial.
	Force bool
}

// loader is a status and the programs it tells of.
type loader struct {
	Status
	paths
	named           bool // a boot option of the firmware names systemd's path
	signed          bool // what is available
	available, main []byte
}

// Status tells what is there, and what there is to do.
func (m Target) Status() (Status, error) {
	l, err := m.look()
	return l.Status, err
}

func (m Target) look() (*loader, error) {
	l := &loader{}
	if err := m.readVariables(l); err != nil {
		return l, fmt.Errorf("read the boot loader: %w", err)
	}
	if err := m.read(l); err != nil {
		return l, fmt.Errorf("read the boot loader: %w", err)
	}
	l.Action, l.Reason = l.decide(m.Proven, m.Force)
	return l, nil
}

// readVariables reads what the firmware and the running loader have said.
func (m Target) readVariables(l *loader) error {
	info, err := m.Vars.LoaderInfo()
	if err != nil && !errors.Is(err, efivars.ErrNotSet) {
		return err
	}
	l.Running = versionOf(info)
	if l.Image, err = m.Vars.LoaderImage(); err != nil && !errors.Is(err, efivars.ErrNotSet) {
		return err
	}
	l.Image = strings.TrimPrefix(l.Image, "/")
	if l.SecureBoot, err = m.Vars.SecureBoot(); err != nil {
		return err
	}
	l.paths = pathsOf(efiNames[runtime.GOARCH])
	// A 32-bit firmware can start a 64-bit system.
	for _, arch := range efiNames {
		if p := pathsOf(arch); strings.EqualFold(l.Image, p.main) || strings.EqualFold(l.Image, p.fallback) {
			l.paths = p
		}
	}
	l.named, err = m.Vars.BootOption("/" + l.paths.main)
	return err
}

// read reads the programs.
func (m Target) read(l *loader) error {
	// What is signed is preferred, as bootctl(1) does.
	for _, suffix := range []string{".signed", ""} {
		data, p, err := program(m.System, path.Join(Dir, l.source+suffix))
		if err != nil {
			return err
		}
		if l.available == nil && p.Version != "" {
			l.available, l.Available, l.signed = data, p.Version, p.Signed
		}
	}
	for name, version := range map[string]*string{
		l.paths.main: &l.Installed, l.paths.previous: &l.Previous, l.paths.fallback: &l.Fallback,
	} {
		data, p, err := program(m.ESP, name)
		if err != nil {
			return err
		}
		*version = p.Version
		if name == l.paths.main {
			l.main = data
		}
	}
	return nil
}

// program reads a boot loader; none is nil, and a foreign one has no version.
func program(root *os.Root, name string) ([]byte, Program, error) {
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Program{}, nil
	}
	if err != nil {
		return nil, Program{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxProgram+1))
	if err != nil {
		return nil, Program{}, fmt.Errorf("read %s: %w", name, err)
	}
	p, err := Parse(data)
	if errors.Is(err, ErrForeign) {
		return data, Program{}, nil
	}
	return data, p, err
}

// decide says what there is to do, and why.
func (l *loader) decide(proven, force bool) (Action, string) {
	switch {
	case l.Available == "":
		return None, "the running deployment carries no systemd-boot"
	case l.main == nil || l.Installed == "" && !force:
		return None, l.paths.main + " is not a systemd-boot that could be upgraded"
	case force && !bytes.Equal(l.main, l.available):
		return Install, "forced"
	case bls.CompareVersions(l.Available, l.Installed) <= 0:
		return l.decideFallback(proven || force)
	case !proven:
		return Hold, "the running deployment has not been found good yet"
	case l.SecureBoot && !l.signed:
		return Hold, "Secure Boot is on, and the systemd-boot of the running deployment is not signed"
	}
	return Install, "the running deployment carries a newer one"
}

// decideFallback says what there is to do about the fallback path.
func (l *loader) decideFallback(proven bool) (Action, string) {
	switch {
	case l.Fallback == "" || bls.CompareVersions(l.Installed, l.Fallback) <= 0:
		return None, "it is up to date"
	case strings.EqualFold(l.Image, l.paths.fallback) && l.named:
		return Hold, "the firmware has started the fallback path: it may not start " + l.Installed
	case !proven:
		return Hold, "the running deployment has not been found good yet"
	case strings.EqualFold(l.Image, l.paths.fallback):
		return Finish, "the firmware knows the fallback path only"
	case strings.EqualFold(l.Image, l.paths.main) && l.Running == l.Installed:
		return Finish, "the machine has booted through it"
	}
	return None, "the fallback path follows when the machine has booted through " + l.Installed
}
