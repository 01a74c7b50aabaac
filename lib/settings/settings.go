// Package settings reads configuration files in systemd's form: sections, KEY=VALUE
// lines, and drop-ins.
//
// The main file is /etc/kairos/NAME.conf; drop-ins are *.conf in
// /etc/kairos/NAME.conf.d and /usr/lib/kairos/NAME.conf.d. A drop-in in /etc replaces
// one of the same name in /usr/lib. The main file is read first, then the drop-ins
// sorted by name: later settings take precedence.
package settings

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/bounded"
	"github.com/kairos-io/toolkit/lib/buildinfo"
)

// Set applies one setting. Its error is reported with file and line.
type Set func(section, key, value string) error

// maxFile is how large a file may be, in bytes.
const maxFile = 1 << 20

// Load reads the settings called name beneath root and calls set for each, in order of
// increasing precedence. Its error reports what is wrong in the files; all other
// settings were applied. Files may be missing.
func Load(root, name string, set Set) error {
	var failed error
	for _, file := range files(root, name) {
		data, err := bounded.File(file, maxFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = parse(data, set)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", file, err))
		}
	}
	return failed
}

// files returns the paths of the files, in the order of reading.
func files(root, name string) []string {
	main := filepath.Join(root, "etc/kairos", name+".conf")
	dropins := map[string]string{}
	for _, dir := range []string{filepath.Join(root, buildinfo.Lib(name+".conf.d")), main + ".d"} {
		found, _ := filepath.Glob(filepath.Join(dir, "*.conf"))
		for _, f := range found {
			dropins[filepath.Base(f)] = f
		}
	}
	list := []string{main}
	names := make([]string, 0, len(dropins))
	for name := range dropins {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		list = append(list, dropins[name])
	}
	return list
}

// parse calls set for the settings of one file, and returns what is wrong with it.
func parse(data []byte, set Set) error {
	var failed error
	section := ""
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' && line[len(line)-1] == ']' {
			section = line[1 : len(line)-1]
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		err := errors.New("not a [section] or KEY=VALUE")
		if ok {
			err = set(section, strings.TrimSpace(key), strings.TrimSpace(value))
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("line %d: %w", n, err))
		}
	}
	return errors.Join(failed, lines.Err())
}
