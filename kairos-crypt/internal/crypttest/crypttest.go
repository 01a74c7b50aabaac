// Package crypttest gives tests the real programs: cryptsetup and swtpm, the
// host's or those of the tests' tools root.
package crypttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Programs puts programs into PATH: those of the tools root, because the
// host's may be old, else the host's. It skips the test where one is missing.
func Programs(t testing.TB, names ...string) {
	t.Helper()
	tools := filepath.Join(project(t), "tests/tools")
	bin := t.TempDir()
	for _, name := range names {
		if err := exec.Command(tools, "sh", "-c", "command -v "+name).Run(); err != nil {
			if _, err := exec.LookPath(name); err == nil {
				continue
			}
			t.Skipf("no %s: run tests/setup", name)
		}
		script := fmt.Sprintf("#!/bin/sh\nexec %s %s \"$@\"\n", tools, name)
		if err := os.WriteFile(filepath.Join(bin, filepath.Base(name)), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

// project returns the project's absolute path: tests run in their package's
// folder.
func project(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "tests/tools")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no tests/tools in or above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

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
