// Package packaging tests what packagers use: the makefile's targets and
// variables, versions, and the lists of files of the packages. Nothing is built.
package packaging

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/tests/workspace"
)

// run executes a program at the top of the repository.
func run(t *testing.T, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = workspace.Top()
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "VERSION=")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(argv, " "), err, out, &errs)
	}
	return string(out)
}

// install runs "make install" with programs that are none, and returns the paths
// of the files in the directory.
func install(t *testing.T, variables ...string) (dest string, paths []string) {
	t.Helper()
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("make is missing")
	}
	build, dest := t.TempDir(), t.TempDir()
	mains, err := filepath.Glob(filepath.Join(workspace.Top(), "kairos*/main.go"))
	if err != nil {
		t.Fatal(err)
	}
	parts, err := filepath.Glob(filepath.Join(workspace.Top(), "kairos*/kairos-*/main.go"))
	if err != nil {
		t.Fatal(err)
	}
	for dir, all := range map[string][]string{"bin": mains, "lib": parts} {
		if err := os.MkdirAll(filepath.Join(build, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, main := range all {
			if err := os.WriteFile(filepath.Join(build, dir, filepath.Base(filepath.Dir(main))), []byte("program"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(build, "share"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(build, "share/cloud-config.schema.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, append([]string{"make", "-s", "install", "BUILD=" + build, "DESTDIR=" + dest}, variables...)...)
	err = filepath.WalkDir(dest, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, strings.TrimPrefix(path, dest+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dest, paths
}

// PREFIX, BINDIR and LIBDIR reach each file that names another.
func TestRelocated(t *testing.T) {
	dest, paths := install(t, "PREFIX=/opt/kairos", "BINDIR=/opt/bin")
	wrong := regexp.MustCompile(`/usr/bin/kairos-|/usr/lib/kairos`)
	seen := ""
	for _, path := range paths {
		if !strings.HasPrefix(path, "opt/bin/kairos") && !strings.HasPrefix(path, "opt/kairos/") {
			t.Errorf("%s is installed", path)
		}
		data, err := os.ReadFile(filepath.Join(dest, path))
		if err != nil {
			continue // a link to a unit of systemd
		}
		if found := wrong.Find(data); found != nil {
			t.Errorf("%s names %s", path, found)
		}
		seen += string(data)
	}
	for _, want := range []string{
		"ExecStart=/opt/bin/kairos-upgrade stage %I", "ExecStart=/opt/kairos/lib/kairos/kairos-crypt-bus",
		"ExecCondition=/opt/bin/kairos-boot-assess status --counted", "\nbindir=/opt/bin\n", "settings=/opt/kairos/lib/kairos/node",
	} {
		if !strings.Contains(seen, want) {
			t.Errorf("no file has %q", want)
		}
	}
	flags := run(t, "make", "-n", "build", "PREFIX=/opt/kairos", "BINDIR=/opt/bin")
	for _, want := range []string{"buildinfo.BinDir=/opt/bin ", "buildinfo.LibDir=/opt/kairos/lib/kairos'"} {
		if !strings.Contains(flags, want) {
			t.Errorf("make build has no %s", want)
		}
	}
}

// Each file that is installed is in one package, of both kinds, and no list names
// what isn't there.
func TestFilesOfPackages(t *testing.T) {
	_, paths := install(t)
	for kind, lists := range map[string]map[string][]string{"deb": debian(t), "rpm": spec(t)} {
		used := map[string]bool{}
		for _, path := range paths {
			var in []string
			for name, patterns := range lists {
				owns := false
				for _, pattern := range patterns {
					exclude := strings.HasPrefix(pattern, "!")
					if covers(strings.TrimPrefix(pattern, "!"), path) {
						used[pattern] = true
						owns = !exclude
					}
				}
				if owns {
					in = append(in, name)
				}
			}
			if len(in) != 1 {
				t.Errorf("%s: %s is in %d packages %q", kind, path, len(in), in)
			}
		}
		for name, patterns := range lists {
			for _, pattern := range patterns {
				if !used[pattern] {
					t.Errorf("%s: %s names %s, which is not installed", kind, name, pattern)
				}
			}
		}
	}
}

// covers reports whether a pattern, or the directory that it names, has a path.
func covers(pattern, path string) bool {
	for ; path != "."; path = filepath.Dir(path) {
		if ok, err := filepath.Match(pattern, path); ok && err == nil {
			return true
		}
	}
	return false
}

// debian returns the patterns of each debian/*.install that are about installed
// files.
func debian(t *testing.T) map[string][]string {
	lists := map[string][]string{}
	files, err := filepath.Glob(filepath.Join(workspace.Top(), "debian/*.install"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "usr/") {
				lists[filepath.Base(file)] = append(lists[filepath.Base(file)], line)
			}
		}
	}
	return lists
}

// spec returns the patterns of each %files of the spec.
func spec(t *testing.T) map[string][]string {
	data, err := os.ReadFile(filepath.Join(workspace.Top(), "packaging/kairos.spec"))
	if err != nil {
		t.Fatal(err)
	}
	lists := map[string][]string{}
	name := ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if section, ok := strings.CutPrefix(line, "%files"); ok {
			name = strings.TrimSpace(section)
			continue
		}
		exclude := ""
		if rest, ok := strings.CutPrefix(line, "%exclude "); ok {
			line, exclude = rest, "!"
		}
		if name != "" && strings.HasPrefix(line, "/usr/") {
			lists[name] = append(lists[name], exclude+strings.TrimPrefix(line, "/"))
		}
	}
	return lists
}

// make alone builds, and versions sort as they follow each other.
func TestMake(t *testing.T) {
	if alone := run(t, "make", "-n"); !strings.Contains(alone, "build") || strings.Contains(alone, "awk -F ':.*## '") {
		t.Errorf("make alone does: %s", alone)
	}
	for tag, want := range map[string]string{
		"v0.2.0-rc.1":             "0.2.0~rc.1",
		"v0.2.0":                  "0.2.0",
		"v0.2.0-rc.1-14-gabcdef0": "0.2.0~rc.1+14+gabcdef0",
		"v0.2.0-3-gabcdef0-dirty": "0.2.0+3+gabcdef0+dirty",
		"abcdef0":                 "0~git.abcdef0",
		"abcdef0-dirty":           "0~git.abcdef0+dirty",
		"v1.0.0-beta.2":           "1.0.0~beta.2",
	} {
		if have := strings.TrimSpace(run(t, "packaging/version", tag)); have != want {
			t.Errorf("%s: %s, want %s", tag, have, want)
		}
	}
}
