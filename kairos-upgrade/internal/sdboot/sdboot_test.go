package sdboot

import (
	"bytes"
	"encoding/binary"
	"errors"

	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/sdboot/sdboottest"
	"github.com/kairos-io/toolkit/lib/efivars"
)

// What these tests cannot prove: how FAT behaves in a power cut, and that a
// firmware boots the result. The end-to-end tests boot it.

func TestParse(t *testing.T) {
	for _, want := range []Program{{"257.9-1~deb13u1", false}, {"258", true}} {
		if got, err := Parse(sdboottest.Program(want.Version, want.Signed)); err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	whole := sdboottest.Program("257", false)
	sections := slices.Clone(whole)
	binary.LittleEndian.PutUint16(sections[0x46:], 60000)
	symbols := slices.Clone(whole)
	binary.LittleEndian.PutUint32(symbols[0x50:], 1<<30)
	for name, program := range map[string][]byte{
		"empty": nil, "grub": []byte("MZ" + strings.Repeat("x", 100)), "cut": whole[:len(whole)-4], "too large": make([]byte, maxProgram+1),
		"no version": sdboottest.Program("", false), "escape": sdboottest.Program("2\x1b[31m", false), "sections": sections, "symbols": symbols,
	} {
		if got, err := Parse(program); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sdboottest.Program("257.9-1", true))
	f.Add(sdboottest.Program("", false)[:100])
	f.Add([]byte("MZ"))
	f.Fuzz(func(t *testing.T, program []byte) {
		if p, err := Parse(program); err == nil && !plain(p.Version) {
			t.Errorf("version %q", p.Version)
		}
	})
}

// realPrograms are those of the distributions that the project is tested with,
// where they have been fetched.
func realPrograms(t testing.TB) (files []string) {
	for _, pattern := range []string{"*/tree", "*/updated"} {
		found, err := filepath.Glob(filepath.Join("../../../.cache/images", pattern, Dir, "systemd-bootx64.efi"))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		t.Skip("no images in .cache: tests/setup fetches them")
	}
	return files
}

// bootctl reads the same versions out of real programs.
func TestRealPrograms(t *testing.T) {
	bootctl, err := exec.LookPath("bootctl")
	for _, file := range realPrograms(t) {
		data, readErr := os.ReadFile(file)
		if readErr != nil {
			t.Fatal(readErr)
		}
		p, parseErr := Parse(data)
		if parseErr != nil {
			t.Fatalf("%s: %v", file, parseErr)
		}
		t.Logf("%s: %+v", file, p)
		if err != nil {
			continue // no bootctl
		}
		esp := t.TempDir()
		put(t, esp, "EFI/systemd/systemd-bootx64.efi", data)
		cmd := exec.Command(bootctl, "--esp-path="+esp, "status")
		cmd.Env = append(os.Environ(), "SYSTEMD_RELAX_ESP_CHECKS=1", "LC_ALL=C")
		out, _ := cmd.CombinedOutput()
		if !strings.Contains(string(out), "(systemd-boot "+p.Version+")") {
			t.Errorf("%s: version %q; bootctl says\n%s", file, p.Version, out)
		}
	}
}

func put(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDecide(t *testing.T) {
	x64 := pathsOf("x64")
	type given struct {
		available, installed, fallback, running, image string
		named, secure, signed, trial, force            bool
	}
	for name, c := range map[string]struct {
		given
		want Action
	}{
		"newer":                      {given{"258", "257", "257", "257", x64.main, true, false, false, false, false}, Install},
		"newer, on trial":            {given{"258", "257", "257", "257", x64.main, true, false, false, true, false}, Hold},
		"newer, on trial, forced":    {given{"258", "257", "257", "257", x64.main, true, false, false, true, true}, Install},
		"same":                       {given{"257", "257", "257", "257", x64.main, true, false, false, false, false}, None},
		"older":                      {given{"252.39-1", "257", "257", "257", x64.main, true, false, false, false, false}, None},
		"older, forced":              {given{"252.39-1", "257", "257", "257", x64.main, true, false, false, false, true}, Install},
		"10 after 9":                 {given{"257.10", "257.9", "257.9", "257.9", x64.main, true, false, false, false, false}, Install},
		"a candidate":                {given{"258~rc1", "258", "258", "258", x64.main, true, false, false, false, false}, None},
		"unsigned, Secure Boot":      {given{"258", "257", "257", "257", x64.main, true, true, false, false, false}, Hold},
		"signed, Secure Boot":        {given{"258", "257", "257", "257", x64.main, true, true, true, false, false}, Install},
		"none carried":               {given{"", "257", "257", "257", x64.main, true, false, false, false, false}, None},
		"another loader installed":   {given{"258", "", "", "", "EFI/debian/shimx64.efi", true, false, false, false, false}, None},
		"installed, not yet booted":  {given{"258", "258", "257", "257", x64.main, true, false, false, false, false}, None},
		"installed and booted":       {given{"258", "258", "257", "258", x64.main, true, false, false, false, false}, Finish},
		"booted, on trial":           {given{"258", "258", "257", "258", x64.main, true, false, false, true, false}, Hold},
		"fallback is another loader": {given{"258", "258", "", "258", x64.main, true, false, false, false, false}, None},
		"refused by the firmware":    {given{"258", "258", "257", "257", x64.fallback, true, false, false, false, false}, Hold},
		"fallback is all there is":   {given{"258", "258", "257", "257", x64.fallback, false, false, false, false, false}, Finish},
		"the firmware does not say":  {given{"258", "258", "257", "", "", false, false, false, false, false}, None},
	} {
		l := &loader{paths: x64, named: c.named, signed: c.signed, main: []byte(c.installed), available: []byte(c.available)}
		l.Status = Status{Running: c.running, Image: strings.ToUpper(c.image), Installed: c.installed, Fallback: c.fallback,
			Available: c.available, SecureBoot: c.secure}
		if got, reason := l.decide(!c.trial, c.force); got != c.want {
			t.Errorf("%s: %s (%s), want %s", name, got, reason, c.want)
		}
	}
}

// machine is one that has 257 on both paths, and a deployment with another.
type machine struct {
	Target
	t       testing.TB
	esp     string
	efivars string
	paths
}

func newMachine(t testing.TB, available []byte) *machine {
	m := &machine{t: t, esp: t.TempDir(), efivars: t.TempDir(), paths: pathsOf("x64")}
	m.Proven = true
	system := t.TempDir()
	put(t, system, filepath.Join(Dir, m.source), available)
	for _, name := range []string{m.main, m.fallback} {
		put(t, m.esp, name, sdboottest.Program("257", false))
	}
	for dir, root := range map[string]**os.Root{m.esp: &m.ESP, system: &m.System} {
		r, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		*root = r
	}
	m.Vars = efivars.At(m.efivars)
	m.boots(m.main)
	return m
}

// boots makes the machine one that was started from a path.
func (m *machine) boots(name string) {
	m.t.Helper()
	p, err := Parse(m.content(name))
	if err != nil {
		m.t.Fatal(err)
	}
	if err := sdboottest.Boot(m.efivars, p.Version, name); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) content(name string) []byte {
	m.t.Helper()
	data, err := os.ReadFile(filepath.Join(m.esp, name))
	if err != nil {
		m.t.Fatal(err)
	}
	return data
}

// upgrade does what there is to do, and says how often there was something.
func (m *machine) upgrade() (done int) {
	m.t.Helper()
	_, steps, err := m.Steps()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, s := range steps {
		if err := s.Do(); err != nil {
			m.t.Fatal(err)
		}
	}
	return len(steps)
}

func (m *machine) want(main, previous, fallback string) {
	m.t.Helper()
	s, err := m.Status()
	if err != nil || s.Installed != main || s.Previous != previous || s.Fallback != fallback {
		m.t.Errorf("%+v, %v; want %s, %s before, %s to fall back to", s, err, main, previous, fallback)
	}
}

func TestUpgrade(t *testing.T) {
	m := newMachine(t, sdboottest.Program("258", false))
	m.Proven = false
	if m.upgrade() != 0 {
		t.Error("it was installed while the deployment is on trial")
	}
	m.Proven = true
	if m.upgrade() != 2 || m.upgrade() != 0 {
		t.Error("not one installation")
	}
	m.want("258", "257", "257")
	m.boots(m.main)
	if m.upgrade() != 1 || m.upgrade() != 0 {
		t.Error("the fallback path did not follow")
	}
	m.want("258", "257", "258")

	// What never booted does not take the place of what did.
	put(t, m.System.Name(), filepath.Join(Dir, m.source), sdboottest.Program("259", false))
	m.upgrade()
	m.want("259", "258", "258")
	put(t, m.System.Name(), filepath.Join(Dir, m.source), sdboottest.Program("260", false))
	m.upgrade()
	m.want("260", "258", "258")
	if left, err := filepath.Glob(filepath.Join(m.esp, "EFI/*/*.new")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestSignedIsPreferred(t *testing.T) {
	m := newMachine(t, sdboottest.Program("258", false))
	put(t, m.System.Name(), filepath.Join(Dir, m.source+".signed"), sdboottest.Program("258", true))
	m.upgrade()
	if p, err := Parse(m.content(m.main)); err != nil || !p.Signed {
		t.Errorf("%+v, %v", p, err)
	}
}

// A link on the ESP, or in the deployment, leads nowhere else.
func TestNothingOutside(t *testing.T) {
	m := newMachine(t, sdboottest.Program("258", false))
	outside := filepath.Join(t.TempDir(), "victim")
	put(t, filepath.Dir(outside), "victim", sdboottest.Program("257", false))
	if err := os.Remove(filepath.Join(m.esp, m.main)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(m.esp, m.main)); err != nil {
		t.Fatal(err)
	}
	if s, err := m.Status(); err == nil {
		t.Errorf("followed: %+v", s)
	}
}

// Whatever step an upgrade is cut at, with the new file whole, torn or missing,
// both paths are whole, and the next attempt comes to the same end.
func TestCutAtEachStep(t *testing.T) {
	torn := sdboottest.Program("258", false)[:100]
	for cut := range 4 {
		for _, leftover := range [][]byte{nil, torn, sdboottest.Program("258", false)} {
			m := newMachine(t, sdboottest.Program("258", false))
			m.boots(m.main)
			for range cut {
				_, steps, err := m.Steps()
				if err != nil {
					t.Fatal(err)
				}
				if len(steps) == 0 {
					m.boots(m.main)
					continue
				}
				if err := steps[0].Do(); err != nil {
					t.Fatal(err)
				}
			}
			if leftover != nil {
				for _, name := range []string{m.main, m.previous, m.fallback} {
					put(t, m.esp, name+".new", leftover)
				}
			}
			for _, name := range []string{m.main, m.fallback} {
				if _, err := Parse(m.content(name)); err != nil {
					t.Errorf("cut %d: %s: %v", cut, name, err)
				}
			}
			for m.upgrade() > 0 {
			}
			m.boots(m.main)
			for m.upgrade() > 0 {
			}
			m.want("258", "257", "258")
		}
	}
}

// Real programs: 252 is replaced by 257, byte for byte.
func TestUpgradeReal(t *testing.T) {
	var programs []Program
	var contents [][]byte
	for _, file := range realPrograms(t) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(programs, p) {
			programs, contents = append(programs, p), append(contents, data)
		}
	}
	if len(programs) < 2 {
		t.Skip("two versions of systemd-boot are needed")
	}
	older, newer := contents[0], contents[1]
	if programs[0].Version > programs[1].Version {
		older, newer = newer, older
	}
	m := newMachine(t, newer)
	for _, name := range []string{m.main, m.fallback} {
		put(t, m.esp, name, older)
	}
	m.boots(m.main)
	m.upgrade()
	m.boots(m.main)
	m.upgrade()
	for name, want := range map[string][]byte{m.main: newer, m.fallback: newer, m.previous: older} {
		if !bytes.Equal(m.content(name), want) {
			t.Errorf("%s is another one", name)
		}
	}
}
