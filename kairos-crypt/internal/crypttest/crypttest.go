// Package crypttest gives tests the real programs: cryptsetup, swtpm, clevis and tang,
// of the tools root or of the host.
package crypttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inside is set in the environment of a test program that runs in the tools root.
const inside = "KAIROS_CRYPTTEST_INSIDE"

// Main runs the tests of a package that uses Programs; call it from TestMain.
func Main(m *testing.M) {
	Enter()
	os.Exit(m.Run())
}

// Enter executes the test program again within the tools root, if there is one, because
// the host's programs may be old. To move the test once costs less than to move each of
// the hundreds of programs that it runs. Enter does nothing where testscript runs the
// test program as a command.
func Enter() {
	if filepath.Ext(os.Args[0]) != ".test" {
		return
	}
	if os.Getenv(inside) == "" {
		if err := start(); err != nil {
			fmt.Fprintf(os.Stderr, "the tests use the host's programs: %v\n", err)
		}
	}
	if top, err := project(); err == nil {
		bin := filepath.Join(top, "kairos-crypt/internal/crypttest/bin")
		if path := os.Getenv("PATH"); !slices.Contains(filepath.SplitList(path), bin) {
			os.Setenv("PATH", bin+":"+path)
		}
	}
}

// start returns only when the tools root cannot be entered.
func start() error {
	top, err := project()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	tools := filepath.Join(top, "tests/tools")
	if out, err := exec.Command(tools, "test", "-x", self).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", tools, err, out)
	}
	if err := os.Setenv(inside, "1"); err != nil {
		return err
	}
	return syscall.Exec(tools, append([]string{tools, self}, os.Args[1:]...), os.Environ())
}

// Programs skips the test where one of the programs is missing.
func Programs(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("no %s: run tests/setup", name)
		}
		if filepath.Base(name) == "cryptsetup" && exec.Command(name, "--version").Run() != nil {
			t.Skip("no cryptsetup: run tests/setup") // but the script of the tests
		}
	}
}

// project returns the absolute path of the checkout: tests start in their package's
// directory.
var project = sync.OnceValues(func() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if unix.Access(filepath.Join(dir, "tests/tools"), unix.X_OK) == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no tests/tools in or above the working directory")
		}
		dir = filepath.Dir(dir)
	}
})

// Disk returns an empty file that is large enough for a LUKS2 volume.
func Disk(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 32<<20); err != nil {
		t.Fatal(err)
	}
	return name
}
