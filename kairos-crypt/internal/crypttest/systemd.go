package crypttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Systemd is one version of systemd's programs, in a root of its own.
type Systemd struct {
	Version int
	root    string
	tools   string
}

// Systemds returns the available versions: that of the tools root, and those that
// "tests/setup --systemd" unpacked. It skips the test where there are none.
func Systemds(t testing.TB) []Systemd {
	t.Helper()
	top, err := project()
	if err != nil {
		t.Fatal(err)
	}
	roots, _ := filepath.Glob(filepath.Join(top, ".cache/systemd-*"))
	var found []Systemd
	for _, root := range append(roots, filepath.Join(top, ".cache/tools")) {
		s := Systemd{root: root, tools: filepath.Join(top, "tests/tools")}
		out, err := s.Command(t, "systemd-cryptenroll", "--version").Output()
		if err != nil {
			t.Logf("%s: systemd-cryptenroll: %v", root, err)
			continue
		}
		if _, err := fmt.Sscanf(string(out), "systemd %d", &s.Version); err != nil {
			t.Fatalf("%s: systemd-cryptenroll --version: %q", root, out)
		}
		found = append(found, s)
	}
	if len(found) == 0 {
		t.Skip("no systemd-cryptenroll: run tests/setup")
	}
	return found
}

// Command returns a command of this version.
func (s Systemd) Command(t testing.TB, name string, arguments ...string) *exec.Cmd {
	if s.here() {
		return exec.CommandContext(t.Context(), name, arguments...)
	}
	command := exec.CommandContext(t.Context(), s.tools, append([]string{name}, arguments...)...)
	command.Env = append(os.Environ(), "KAIROS_TOOLS_ROOT="+s.root)
	return command
}

// here reports whether the test program runs in this version's root.
func (s Systemd) here() bool {
	return os.Getenv(inside) != "" && filepath.Base(s.root) == "tools"
}

// Provide installs a file where the programs search for it, until the end of the test.
func (s Systemd) Provide(t testing.TB, name string, contents []byte) {
	t.Helper()
	path := filepath.Join(s.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Skipf("the root can't be written to: %v", err)
	}
	if err := os.WriteFile(path, contents, 0o644); err != nil {
		t.Skipf("the root can't be written to: %v", err)
	}
	t.Cleanup(func() { os.Remove(path) })
}
