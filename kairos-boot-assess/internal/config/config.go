// Package config reads the settings of the assessment: boot-assess.conf and its
// drop-ins, see kairos-boot-assess(8).
package config

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/checks"
	"github.com/kairos-io/toolkit/lib/settings"
)

// DefaultTimeout is the default time limit of a check.
const DefaultTimeout = time.Minute

// Severity says what a failure means for the boot.
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

// Config holds the settings.
type Config struct {
	Timeout      time.Duration            // time limit of checks without their own
	FailedUnits  Severity                 // severity of the built-in check of units
	ConfigStages Severity                 // severity of the built-in check of the node's config
	Writable     Severity                 // severity of the built-in check of writable paths
	Unlock       Severity                 // severity of the built-in check of encrypted volumes
	Ignore       []string                 // patterns of units that may fail
	Timeouts     map[string]time.Duration // by name of the check
	Wrong        error                    // says what is wrong in the files: for that, the defaults hold
}

// TimeoutOf returns the time limit of a check.
func (c Config) TimeoutOf(check string) time.Duration {
	if t, ok := c.Timeouts[check]; ok {
		return t
	}
	return c.Timeout
}

// Load reads the settings beneath root. Its error reports what is wrong in the files;
// all valid settings apply, since a typing error must not make a boot bad.
//
// By default the check of writable paths is only wanted: a data disk that was pulled
// out after the initrd, or a config that unmounts a path, is no fault of the image, and
// a fallback would not help.
func Load(root string) Config {
	c := Config{
		Timeout: DefaultTimeout, FailedUnits: Required, ConfigStages: Required, Writable: Wanted, Unlock: Required,
		Ignore: slices.Clone(checks.IgnoredUnits), Timeouts: map[string]time.Duration{},
	}
	c.Wrong = settings.Load(root, "boot-assess", c.set)
	return c
}

func (c *Config) set(section, key, value string) (err error) {
	name, isCheck := strings.CutPrefix(section, "Check ")
	switch {
	case isCheck && key == "TimeoutSec":
		var t time.Duration
		if t, err = settings.ParseTimeSpan(value); err == nil {
			c.Timeouts[strings.TrimSpace(name)] = t
		}
	case section == "Assess" && key == "TimeoutSec":
		var t time.Duration
		if t, err = settings.ParseTimeSpan(value); err == nil {
			c.Timeout = t
		}
	case section == "Assess" && key == "FailedUnits":
		err = c.FailedUnits.set(value)
	case section == "Assess" && key == "ConfigStages":
		err = c.ConfigStages.set(value)
	case section == "Assess" && key == "WritablePaths":
		err = c.Writable.set(value)
	case section == "Assess" && key == "Unlock":
		err = c.Unlock.set(value)
	case section == "Assess" && key == "IgnoreFailedUnits":
		return c.ignore(value)
	default:
		err = fmt.Errorf("unknown in section [%s]", section)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", key, err)
	}
	return err
}

// ignore adds patterns; an empty value removes all, including the built-in ones.
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
