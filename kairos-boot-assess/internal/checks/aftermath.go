package checks

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/lib/buildinfo"
)

// Greenboot runs the scripts of green.d after a good verdict and those of red.d
// after a bad one.
const (
	Green = "green.d"
	Red   = "red.d"
)

var aftermath = family{etc: "etc/greenboot", usr: "usr/lib/greenboot", scripts: true}

// Aftermath returns greenboot's scripts for a verdict, Green or Red, sorted by name.
// Their failures only cause warnings.
func Aftermath(root, dir string, timeout func(name string) time.Duration, env []string) ([]Check, error) {
	return aftermath.programs(root, dir, timeout, program{bash: true, env: env})
}

// fallback is the directory of programs that run after a fallback.
const fallback = "fallback.d"

var hooks = family{etc: "etc/kairos", usr: buildinfo.Lib("")}

// FallbackHooks returns the programs that run after a fallback, sorted by name. Each
// reads event on stdin.
func FallbackHooks(root string, timeout func(name string) time.Duration, env []string, event []byte) ([]Check, error) {
	return hooks.programs(root, fallback, timeout, program{env: env, in: event})
}

// programs returns the programs in a sub-directory, with the settings of like.
func (f family) programs(root, dir string, timeout func(name string) time.Duration, like program) ([]Check, error) {
	files, err := f.files(root, dir)
	if err != nil {
		return nil, err
	}
	var found []Check
	for _, file := range files {
		name := strings.TrimSuffix(dir, ".d") + "/" + filepath.Base(file)
		like.path = filepath.Join(root, file)
		found = append(found, Check{Name: name, Source: file, Timeout: timeout(name), Do: like.run})
	}
	slices.SortFunc(found, func(a, b Check) int { return cmp.Compare(a.Name, b.Name) })
	return found, nil
}
