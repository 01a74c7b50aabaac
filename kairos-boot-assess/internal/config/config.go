// Package config reads the settings of the assessment: boot-assess.conf and
// its drop-ins, in the form of systemd's configuration files.
package config

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/checks"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

// DefaultTimeout is the time that a check may take.
const DefaultTimeout = time.Minute

// Severity says what a failed unit means.
type Severity string

const (
	Required Severity = "required" // the boot is bad
	Wanted   Severity = "wanted"   // a warning
	Off      Severity = "off"      // nothing
)

func (s *Severity) set(value string) error {
	if !slices.Contains([]Severity{Required, Wanted, Off}, Severity(value)) {
		return fmt.Errorf("%q: not required, wanted or off", value)
	}
	*s = Severity(value)
	return nil
}

// Config is the settings.
type Config struct {
	Timeout      time.Duration            // of checks that have none of their own
	FailedUnits  Severity                 // of the built-in check of units
	ConfigStages Severity                 // of the built-in check of the node's config
	Ignore       []string                 // patterns of units that may fail
	Timeouts     map[string]time.Duration // by name of the check
}

// TimeoutOf returns the time that a check may take.
func (c Config) TimeoutOf(check string) time.Duration {
	if t, ok := c.Timeouts[check]; ok {
		return t
	}
	return c.Timeout
}

// Main file and drop-in directories, beneath the root of the system. Of
// drop-ins with the same name the one in /etc counts; later names win.
const (
	mainFile  = "etc/kairos/boot-assess.conf"
	dropinEtc = "etc/kairos/boot-assess.conf.d"
	dropinUsr = "usr/lib/kairos/boot-assess.conf.d"
)

// Load reads the settings of the system beneath root. What is wrong in a file
// is an error beside the settings that could be understood: a typing error
// must not make a boot bad.
func Load(root string) (Config, error) {
	c := Config{
		Timeout: DefaultTimeout, FailedUnits: Required, ConfigStages: Required,
		Ignore: slices.Clone(checks.IgnoredUnits), Timeouts: map[string]time.Duration{},
	}
	var failed error
	for _, file := range files(root) {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = c.parse(data)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", file, err))
		}
	}
	return c, failed
}

// files returns the files to read, in order.
func files(root string) []string {
	dropins := map[string]string{}
	for _, dir := range []string{dropinUsr, dropinEtc} {
		found, _ := filepath.Glob(filepath.Join(root, dir, "*.conf"))
		for _, f := range found {
			dropins[filepath.Base(f)] = f
		}
	}
	list := []string{filepath.Join(root, mainFile)}
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

// parse adds the settings of one file, and returns what is wrong with it.
func (c *Config) parse(data []byte) error {
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
		err := errors.New("neither a [section] nor KEY=VALUE")
		if ok {
			err = c.set(section, strings.TrimSpace(key), strings.TrimSpace(value))
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("line %d: %w", n, err))
		}
	}
	return errors.Join(failed, lines.Err())
}

func (c *Config) set(section, key, value string) (err error) {
	name, isCheck := strings.CutPrefix(section, "Check ")
	switch {
	case isCheck && key == "TimeoutSec":
		var t time.Duration
		if t, err = ParseTimeSpan(value); err == nil {
			c.Timeouts[strings.TrimSpace(name)] = t
		}
	case section == "Assess" && key == "TimeoutSec":
		var t time.Duration
		if t, err = ParseTimeSpan(value); err == nil {
			c.Timeout = t
		}
	case section == "Assess" && key == "FailedUnits":
		err = c.FailedUnits.set(value)
	case section == "Assess" && key == "ConfigStages":
		err = c.ConfigStages.set(value)
	case section == "Assess" && key == "IgnoreFailedUnits":
		return c.ignore(value)
	default:
		err = fmt.Errorf("unknown in section [%s]", section)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", key, err)
	}
	return cmdline.Hint(err, "kairos-boot-assess(8) lists the settings")
}

// ignore adds patterns; an empty value forgets all, the built-in ones too.
func (c *Config) ignore(value string) error {
	if value == "" {
		c.Ignore = nil
	}
	for pattern := range strings.FieldsSeq(value) {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("IgnoreFailedUnits: pattern %q: %w", pattern, err)
		}
		c.Ignore = append(c.Ignore, pattern)
	}
	return nil
}
