package target

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/lib/terminal"
)

// Judgement says whether a disk is suitable for an installation, and why not.
type Judgement struct {
	Disk    Disk
	Refusal string // why the disk must not be used, "" when it may
	Small   bool   // the only reason is its size
	// Automatic is why --device auto never chooses the disk, though --device may name
	// it; "" when it may be chosen.
	Automatic string
}

// Suitable reports whether --device auto may choose the disk.
func (j Judgement) Suitable() bool { return j.Refusal == "" && j.Automatic == "" }

// Why returns the reason against the disk, "" when there is none.
func (j Judgement) Why() string {
	if j.Refusal != "" {
		return j.Refusal
	}
	return j.Automatic
}

// Judge judges all disks of the machine for an installation that needs a number of
// bytes: largest first, disks of equal size by name.
func (s System) Judge(need int64) ([]Judgement, error) {
	disks, err := s.Disks()
	if err != nil {
		return nil, err
	}
	uses, err := s.Uses()
	if err != nil {
		return nil, err
	}
	var all []Judgement
	for _, d := range disks {
		all = append(all, s.judge(d, uses[d.Name], need))
	}
	slices.SortStableFunc(all, func(a, b Judgement) int {
		switch {
		case a.Disk.Size > b.Disk.Size:
			return -1
		case a.Disk.Size < b.Disk.Size:
			return 1
		}
		return strings.Compare(a.Disk.Name, b.Disk.Name)
	})
	return all, nil
}

func (s System) judge(d Disk, uses []Use, need int64) Judgement {
	j := Judgement{Disk: d, Automatic: automatic(d)}
	j.Refusal = s.refusal(d, uses)
	if j.Refusal == "" && d.Size < need {
		j.Small = true
		j.Refusal = fmt.Sprintf("it is too small: %s, %s needed", terminal.Bytes(d.Size), terminal.Bytes(need))
	}
	return j
}

// refusal returns why a disk must not be used, whatever its size.
func (s System) refusal(d Disk, uses []Use) string {
	for _, u := range uses {
		if u.Running {
			return fmt.Sprintf("the running system is on it: %s", u)
		}
	}
	if len(uses) > 0 {
		const shown = 3
		var list []string
		for _, u := range uses[:min(shown, len(uses))] {
			list = append(list, u.String())
		}
		if more := len(uses) - shown; more > 0 {
			list = append(list, fmt.Sprintf("%d more", more))
		}
		return "it is in use: " + strings.Join(list, ", ")
	}
	switch {
	case d.Size == 0:
		return "there is no medium in it"
	case d.Kind == Optical:
		return "it is an optical drive"
	case d.Kind == Firmware:
		return "it is a firmware area"
	case d.Kind == Mapped:
		return "it is a device-mapper device, on which the kernel finds no partitions"
	case d.ReadOnly:
		return "it is read-only"
	}
	switch err := s.Claim(d.Path); {
	case errors.Is(err, unix.EBUSY):
		return "it is in use: another program or a file system in another mount namespace has claimed it"
	case err != nil:
		return fmt.Sprintf("it cannot be opened: %v", unwrapPath(err))
	}
	return ""
}

// automatic returns why --device auto never chooses a disk.
func automatic(d Disk) string {
	switch {
	case d.Removable:
		return "it is removable"
	case d.USB:
		return "it is attached over USB"
	case d.Kind != Physical:
		return "it is a " + string(d.Kind)
	}
	return ""
}

// Choose returns the largest suitable disk, with the reason for the choice.
func Choose(all []Judgement) (d Disk, why string, err error) {
	var suitable []Judgement
	for _, j := range all {
		if j.Suitable() {
			suitable = append(suitable, j)
		}
	}
	switch len(suitable) {
	case 0:
		return Disk{}, "", ErrNoDisk
	case 1:
		why = "the only suitable disk"
	default:
		why = fmt.Sprintf("the largest of %d suitable disks", len(suitable))
		if suitable[1].Disk.Size == suitable[0].Disk.Size {
			why = fmt.Sprintf("the first of the largest among %d suitable disks", len(suitable))
		}
	}
	return suitable[0].Disk, why, nil
}

// ErrNoDisk is returned where --device auto finds no suitable disk.
var ErrNoDisk = errors.New("no suitable disk")
