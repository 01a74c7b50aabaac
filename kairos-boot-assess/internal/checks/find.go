package checks

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/lib/buildinfo"
)

// family is a pair of directories of checks: a file in the first replaces one of the
// same name in the second.
type family struct {
	etc, usr string
	required string // name of the sub-directory
	wanted   string
	scripts  bool // greenboot's: only *.sh are checks, and bash runs them
}

var families = []family{
	{etc: "etc/kairos/checks", usr: buildinfo.Lib("checks"), required: "required.d", wanted: "wanted.d"},
	{etc: "etc/greenboot/check", usr: "usr/lib/greenboot/check", required: "required.d", wanted: "wanted.d", scripts: true},
}

// Find returns the installed checks beneath root, in the order in which they run: by
// name, required ones before wanted ones of the same name. timeout returns the time
// limit of a check.
func Find(root string, timeout func(name string) time.Duration, env []string) ([]Check, error) {
	var found []Check
	for _, f := range families {
		for _, sub := range []string{f.required, f.wanted} {
			files, err := f.files(root, sub)
			if err != nil {
				return nil, err
			}
			for _, file := range files {
				name := filepath.Base(file)
				c := Check{Name: name, Source: file, Required: sub == f.required, Timeout: timeout(name)}
				c.Do = program{path: filepath.Join(root, file), bash: f.scripts, env: env}.run
				found = append(found, c)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b Check) int { return cmp.Compare(a.Name, b.Name) })
	return found, nil
}

// files returns the paths of the checks in one sub-directory, from the root of
// the system.
func (f family) files(root, sub string) ([]string, error) {
	byName := map[string]string{}
	for _, dir := range []string{f.usr, f.etc} { // the later hides the earlier
		entries, err := os.ReadDir(filepath.Join(root, dir, sub))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name := e.Name()
			if e.IsDir() || !f.counts(name) {
				continue
			}
			file := filepath.Join("/", dir, sub, name)
			if target, err := os.Readlink(filepath.Join(root, file)); err == nil && target == "/dev/null" {
				file = ""
			}
			byName[name] = file
		}
	}
	var files []string
	for _, file := range byName {
		if file != "" {
			files = append(files, file)
		}
	}
	return files, nil
}

// counts reports whether a file is a check, by its name: files of editors and package
// managers are not.
func (f family) counts(name string) bool {
	if f.scripts {
		return strings.HasSuffix(name, ".sh")
	}
	return name != "README" && !strings.HasPrefix(name, ".") && !slices.ContainsFunc(leftovers,
		func(suffix string) bool { return strings.HasSuffix(name, suffix) })
}

var leftovers = []string{"~", ".bak", ".dpkg-dist", ".dpkg-new", ".dpkg-old", ".rpmnew", ".rpmorig", ".rpmsave"}

// program is an executable check.
type program struct {
	path string
	bash bool // run it with bash when it is not executable
	env  []string
	in   []byte // its input on stdin
}

func (p program) run(ctx context.Context, out, problem io.Writer) error {
	argv := []string{p.path}
	info, err := os.Stat(p.path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("not a regular file")
	case info.Mode()&0o111 == 0 && p.bash:
		argv = []string{"bash", p.path}
	case info.Mode()&0o111 == 0:
		return errors.New("not executable")
	}
	var in io.Reader // nothing
	if p.in != nil {
		in = bytes.NewReader(p.in)
	}
	return execute(ctx, argv, p.env, in, out, problem)
}
