// Package config reads crypt.conf and its drop-ins: see kairos-crypt.conf(5).
package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/settings"
)

// Config holds the settings.
type Config struct {
	// PCRs and Bank are the binding of a TPM key slot where there is no key for signed
	// policies.
	PCRs []int
	Bank string
	// NetworkTimeout is how long a request to a server may take.
	NetworkTimeout time.Duration
	// Kinds are the kinds of key slots that unlock tries; all when empty.
	Kinds []volume.Kind
	// Patience is how long unlock waits for an answer of a person in a boot on trial,
	// when the previous deployment would have opened the volume.
	Patience time.Duration
	// Measure says that the volume key is measured into PCR 15 after a volume was
	// opened.
	Measure bool
}

// Load reads the settings beneath root. Its error reports what is wrong in the files;
// all valid settings apply, since a typing error must not keep a node from its data.
func Load(root string) (Config, error) {
	c := Config{PCRs: []int{7}, Bank: "sha256", NetworkTimeout: 30 * time.Second, Patience: 2 * time.Minute, Measure: true}
	return c, settings.Load(root, "crypt", c.set)
}

func (c *Config) set(section, key, value string) (err error) {
	switch section + "/" + key {
	case "Enroll/PCRs":
		var pcrs []int
		if pcrs, err = PCRs(value); err == nil {
			c.PCRs = pcrs
		}
	case "Enroll/Bank":
		if !slices.Contains([]string{"sha1", "sha256", "sha384", "sha512"}, value) {
			err = fmt.Errorf("%q: not sha1, sha256, sha384 or sha512", value)
			break
		}
		c.Bank = value
	case "Unlock/NetworkTimeoutSec":
		var t time.Duration
		if t, err = settings.ParseTimeSpan(value); err == nil {
			c.NetworkTimeout = t
		}
	case "Unlock/TrialAskTimeoutSec":
		var t time.Duration
		if t, err = settings.ParseTimeSpan(value); err == nil {
			c.Patience = t
		}
	case "Unlock/KeySlots":
		err = c.kinds(value)
	case "Unlock/Measure":
		if value != "yes" && value != "no" {
			err = fmt.Errorf("%q: not yes or no", value)
		}
		c.Measure = value != "no"
	default:
		err = fmt.Errorf("unknown in section [%s]", section)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", key, err)
	}
	return exit.Hint(err, "kairos-crypt.conf(5) lists the settings")
}

func (c *Config) kinds(value string) error {
	var kinds []volume.Kind
	for word := range strings.FieldsSeq(value) {
		if !slices.Contains(volume.Kinds, volume.Kind(word)) {
			return fmt.Errorf("%q is none of %v", word, volume.Kinds)
		}
		kinds = append(kinds, volume.Kind(word))
	}
	c.Kinds = kinds
	return nil
}

// PCRs parses a list of PCRs in systemd's form: 7 or 7+11; "" for none.
func PCRs(text string) ([]int, error) {
	numbers := []int{}
	if text == "" {
		return numbers, nil
	}
	for word := range strings.SplitSeq(text, "+") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 0 || n > 23 {
			return nil, fmt.Errorf("PCR %q: not a number from 0 to 23; a list is written 7+11", word)
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	return slices.Compact(numbers), nil
}
