// Package automation decides whether and when a node stages an upgrade automatically,
// from kairos-upgrade.conf(5) and the history of the node.
package automation

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/lib/settings"
)

// Mode is how much of an upgrade is automatic.
type Mode string

const (
	Off   Mode = "off"   // nothing happens
	Check Mode = "check" // only look for upgrades
	Stage Mode = "stage" // and made the next boot
	Apply Mode = "apply" // and booted
)

// Follow selects the images that count as an upgrade.
type Follow string

const (
	FollowTag    Follow = "tag"        // the image of the tag, unless it is older
	FollowAlways Follow = "tag-always" // the image of the tag, even if it is older
	FollowSemver Follow = "semver"     // the newest tag within a range
)

// Config is the settings.
type Config struct {
	Mode        Mode
	Reference   string // REPOSITORY or REPOSITORY:TAG; "" is where the running deployment came from
	Follow      Follow
	Range       *semver.Constraints // of FollowSemver, nil for all
	Prerelease  bool                // whether FollowSemver takes these, too
	Windows     Windows             // none: at any time
	RebootDelay time.Duration       // between the announcement and the reboot
	Recovery    Recovery
	// AllowUnverified stages in a store that has lost fs-verity.
	AllowUnverified bool
	// Wrong is the error about invalid settings, nil when all are valid.
	Wrong error
}

// Recovery is the section [Recovery]: the automatic actions of the recovery system.
type Recovery struct {
	Repair   bool // repair the installed system, and boot it
	Attempts int  // how often, before a person has to look
}

// DefaultAttempts is how often the recovery system tries a repair: once, and once more
// in case that an attempt was interrupted.
const DefaultAttempts = 2

// DefaultRebootDelay leaves a person that is logged in the time to object.
const DefaultRebootDelay = time.Minute

// ErrSettings says that something in the settings is wrong.
var ErrSettings = errors.New("settings")

// Load reads the settings beneath root. Any invalid setting is an error: automatic
// upgrades do nothing with incomplete settings.
func Load(root string) (Config, error) {
	c := Read(root)
	if c.Wrong != nil {
		return Config{}, c.Wrong
	}
	return c, nil
}

// Read reads the settings as far as they can be understood, to show them: see
// Config.Wrong.
func Read(root string) Config {
	c := Config{Mode: Off, Follow: FollowTag, RebootDelay: DefaultRebootDelay, Recovery: Recovery{Attempts: DefaultAttempts}}
	err := settings.Load(root, "upgrade", c.set)
	if err == nil {
		err = c.check()
	}
	if err != nil {
		c.Wrong = fmt.Errorf("%w: %w", ErrSettings, err)
	}
	return c
}

func (c *Config) set(section, key, value string) (err error) {
	switch section {
	case "Upgrade":
	case "Recovery":
		return c.Recovery.set(key, value)
	default:
		return fmt.Errorf("%s: unknown in section [%s]", key, section)
	}
	switch key {
	case "Mode":
		c.Mode, err = oneOf(value, Off, Check, Stage, Apply)
	case "Reference":
		if value != "" {
			if _, ok := source.Repository(value); !ok {
				err = fmt.Errorf("%q: not of the form REGISTRY/REPOSITORY or REGISTRY/REPOSITORY:TAG", value)
			}
		}
		c.Reference = value
	case "Follow":
		c.Follow, err = oneOf(value, FollowTag, FollowAlways, FollowSemver)
	case "Range":
		c.Range = nil
		if value != "" {
			c.Range, err = semver.NewConstraint(value)
		}
	case "Prerelease":
		c.Prerelease, err = parseBool(value)
	case "Window":
		if value == "" {
			c.Windows = nil
			break
		}
		var w Window
		if w, err = ParseWindow(value); err == nil {
			c.Windows = append(c.Windows, w)
		}
	case "AllowUnverified":
		c.AllowUnverified, err = parseBool(value)
	case "RebootDelaySec":
		c.RebootDelay = 0
		if value != "0" {
			c.RebootDelay, err = settings.ParseTimeSpan(value)
		}
	default:
		return fmt.Errorf("%s: unknown in section [%s]", key, section)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", key, err)
	}
	return err
}

func (r *Recovery) set(key, value string) (err error) {
	switch key {
	case "Repair":
		r.Repair, err = parseBool(value)
	case "Attempts":
		var n uint64
		if n, err = strconv.ParseUint(value, 10, 8); err != nil || n == 0 {
			err = fmt.Errorf("%q: not a number from 1 to 255", value)
		}
		r.Attempts = int(n)
	default:
		return fmt.Errorf("%s: unknown in section [Recovery]", key)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", key, err)
	}
	return err
}

// check holds the settings against each other.
func (c *Config) check() error {
	if c.Follow != FollowSemver && (c.Range != nil || c.Prerelease) {
		return errors.New("Range= and Prerelease= need Follow=semver")
	}
	return nil
}

func oneOf[T ~string](value string, values ...T) (T, error) {
	if slices.Contains(values, T(value)) {
		return T(value), nil
	}
	var names []string
	for _, v := range values {
		names = append(names, string(v))
	}
	return values[0], fmt.Errorf("%q: not one of %s", value, strings.Join(names, ", "))
}

// parseBool reads a boolean as systemd does (systemd.syntax(7)).
func parseBool(value string) (bool, error) {
	switch strings.ToLower(value) {
	case "1", "yes", "true", "on", "y", "t":
		return true, nil
	case "0", "no", "false", "off", "n", "f":
		return false, nil
	}
	return false, fmt.Errorf("%q: neither yes nor no", value)
}
