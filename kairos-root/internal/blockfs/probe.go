// Package blockfs recognizes the file systems of a node on block devices, and checks
// them with e2fsck where needed.
package blockfs

import (
	"errors"
	"fmt"

	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/ext4"
)

// Content is the content of a device.
type Content struct {
	Type  string // as the kernel names it: ext4, xfs, btrfs, vfat
	Dirty bool   // ext4: the superblock records errors
	// Torn describes a superblock of ext4 that a power cut has torn; nil where it is
	// intact.
	Torn *ext4.Tear
}

// ErrLocked says that a device is encrypted and locked.
var ErrLocked = errors.New("encrypted with LUKS and locked")

// Probe recognizes the content of a device from its superblock. It only reads.
func Probe(device string) (Content, error) {
	kind, err := disk.Probe(device)
	switch {
	case err != nil:
		return Content{}, err
	case kind == disk.LUKSVolume:
		return Content{}, exit.Hint(fmt.Errorf("%s: %w", device, ErrLocked), "it was not unlocked: see the log above")
	case kind == "":
		return Content{}, exit.Hint(fmt.Errorf("%s: not a known file system", device), "known are ext4, xfs, btrfs and vfat")
	case kind != disk.Ext4:
		return Content{Type: kind}, nil
	}
	s, err := ext4.Read(device)
	if errors.Is(err, ext4.ErrNone) { // the magic number is there, and the rest makes no sense
		return Content{Type: kind, Dirty: true}, nil
	}
	if err != nil {
		return Content{}, err
	}
	return Content{Type: kind, Dirty: s.Errors, Torn: s.Torn}, nil
}
