package checks

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Greenboot runs the scripts of green.d after a good verdict and those of red.d
// after a bad one.
const (
	Green = "green.d"
	Red   = "red.d"
)

var aftermath = family{etc: "etc/greenboot", usr: "usr/lib/greenboot", scripts: true}

// Aftermath returns greenboot's scripts for a verdict, Green or Red, in the
// order of their names. The verdict is given: what they end with only warns.
func Aftermath(root, dir string, timeout func(name string) time.Duration, env []string) ([]Check, error) {
	files, err := aftermath.files(root, dir)
	if err != nil {
		return nil, err
	}
	var found []Check
	for _, file := range files {
		name := strings.TrimSuffix(dir, ".d") + "/" + filepath.Base(file)
		found = append(found, Check{
			Name: name, Source: file, Timeout: timeout(name),
			Do: program{path: filepath.Join(root, file), bash: true, env: env}.run,
		})
	}
	slices.SortFunc(found, func(a, b Check) int { return cmp.Compare(a.Name, b.Name) })
	return found, nil
}
