// Package namespacetest lets tests mount in a private mount namespace.
package namespacetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// inside marks the process that runs in the namespace.
const inside = "KAIROS_NAMESPACETEST"

// Main runs the tests of a package, as root in a private mount namespace; call it from
// TestMain.
func Main(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case errors.Is(err, syscall.EPERM):
		// Root without the right to mount, in a container.
		os.Exit(m.Run())
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Need skips a test where these file systems cannot be mounted.
func Need(t testing.TB, filesystems ...string) {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skip("mounting needs root and a mount namespace")
	}
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		t.Fatal(err)
	}
	for _, fs := range filesystems {
		if !slices.Contains(strings.Fields(string(known)), fs) {
			t.Skipf("the kernel here has no %s", fs)
		}
	}
}
