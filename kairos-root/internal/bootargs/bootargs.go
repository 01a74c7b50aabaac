// Package bootargs parses the arguments of the kernel command line for kairos-root,
// which kairos-root(8) documents.
package bootargs

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/kernelargs"
)

// FsckMode is the value of fsck.mode=: systemd-fsck(8).
type FsckMode string

const (
	FsckAuto  FsckMode = "auto"  // check file systems that need it
	FsckForce FsckMode = "force" // check all file systems
	FsckSkip  FsckMode = "skip"  // check none
)

// FsckRepair is the value of fsck.repair=: systemd-fsck(8).
type FsckRepair string

const (
	RepairPreen FsckRepair = "preen" // repair what can be repaired without a question
	RepairYes   FsckRepair = "yes"   // answer every question with yes
	RepairNo    FsckRepair = "no"    // repair nothing
)

// Args are the arguments of the kernel command line.
type Args struct {
	Image       string        // kairos.image: digest of the image, 64 hex digits
	Verity      bool          // fs-verity enforces the digest; false with kairos.image=?…
	Store       string        // kairos.store: partition label of the store
	Timeout     time.Duration // kairos.timeout: how long to wait for a partition
	RebootDelay time.Duration // kairos.reboot_delay: time between a failure and the reboot
	Shell       bool          // rd.kairos.shell: a shell instead of the reboot
	Break       bool          // rd.break: dracut's own shell
	Debug       bool          // kairos.debug: log every mount
	Fsck        FsckMode      // fsck.mode
	Repair      FsckRepair    // fsck.repair

	// Volumes are the node's encrypted volumes (kairos.crypt); nil where the boot entry
	// does not name them.
	Volumes deployment.Volumes
}

// Defaults.
const (
	DefaultTimeout     = 60 * time.Second
	LiveTimeout        = 3 * time.Minute // a drive spins up, and nothing else could boot
	DefaultRebootDelay = 30 * time.Second
)

// unset is a time that no argument has set.
const unset time.Duration = -1

// maxSeconds is the maximum of a time, so that a typing error does not stop a node for
// ever.
const maxSeconds = 24 * 60 * 60

// Parse parses a kernel command line. Beside an error it returns the arguments that are
// valid: handling a failure must not depend on a valid line.
func Parse(line string) (Args, error) {
	a := Args{
		Store: disk.LabelState, Timeout: unset, RebootDelay: DefaultRebootDelay,
		Fsck: FsckAuto, Repair: RepairPreen,
	}
	var failed error
	image, store := "", ""
	for word := range kernelargs.Words(line) {
		key, value, hasValue := kernelargs.Cut(word)
		var err error
		switch key {
		case "kairos.image":
			if image != "" && image != value {
				err = fmt.Errorf("given twice with different values")
			}
			image = value
		case "kairos.store":
			if store != "" && store != value {
				err = fmt.Errorf("given twice with different values")
				break
			}
			store, a.Store = value, value
			_, err = a.Mode()
		case deployment.VolumesArg:
			var v deployment.Volumes
			switch v, err = deployment.ParseVolumes(value); {
			case err == nil && a.Volumes != nil && !maps.Equal(a.Volumes, v):
				err = fmt.Errorf("given twice with different values")
			case err == nil:
				a.Volumes = v
			}
		case "kairos.timeout":
			a.Timeout, err = seconds(value, a.Timeout)
		case "kairos.reboot_delay":
			a.RebootDelay, err = seconds(value, a.RebootDelay)
		case "rd.kairos.shell":
			a.Shell, err = boolean(value, hasValue)
		case "rd.break":
			a.Break = true
		case "kairos.debug", "rd.immucore.debug":
			a.Debug, err = boolean(value, hasValue)
		case "fsck.mode":
			a.Fsck, err = oneOf(value, a.Fsck, FsckAuto, FsckForce, FsckSkip)
		case "fsck.repair":
			a.Repair, err = oneOf(value, a.Repair, RepairPreen, RepairYes, RepairNo)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("kernel argument %s: %w", word, err))
		}
	}
	if a.Timeout == unset {
		a.Timeout = DefaultTimeout
		if a.Store == disk.LabelLive {
			a.Timeout = LiveTimeout
		}
	}
	if image == "" {
		return a, errors.Join(failed, exit.Hint(errors.New("kernel argument kairos.image is missing"),
			"boot an entry that kairos-upgrade or kairos-install wrote"))
	}
	digest, unverified := strings.CutPrefix(image, "?")
	hex, err := deployment.ParseDigest(digest)
	if err != nil {
		return a, errors.Join(failed, fmt.Errorf("kernel argument kairos.image: %w", err))
	}
	a.Image, a.Verity = hex, !unverified
	return a, failed
}

// Mode returns how the machine was booted, from the label of the store: Active stands
// for Active and Passive.
func (a Args) Mode() (deployment.Mode, error) {
	switch a.Store {
	case disk.LabelState:
		return deployment.Active, nil
	case disk.LabelRecovery:
		return deployment.Recovery, nil
	case disk.LabelLive:
		return deployment.Live, nil
	}
	return "", fmt.Errorf("no store has this label: want %s, %s or %s",
		disk.LabelState, disk.LabelRecovery, disk.LabelLive)
}

// seconds parses a time: a number of seconds, or a number with a unit (90s, 5m).
func seconds(value string, otherwise time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if n, aerr := strconv.Atoi(value); aerr == nil && n <= maxSeconds {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < 0 || d > maxSeconds*time.Second {
		return otherwise, errors.New("want a number of seconds, a day at most")
	}
	return d, nil
}

func boolean(value string, hasValue bool) (bool, error) {
	if !hasValue {
		return true, nil
	}
	switch strings.ToLower(value) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, errors.New("want yes or no")
}

func oneOf[T ~string](value string, otherwise T, allowed ...T) (T, error) {
	var names []string
	for _, a := range allowed {
		if value == string(a) {
			return a, nil
		}
		names = append(names, string(a))
	}
	return otherwise, fmt.Errorf("want one of %s", strings.Join(names, ", "))
}
