// Package layout decides how large partitions have to be and says it to
// systemd-repart, which makes them.
//
// The definitions of the partitions are files, so that a site can override
// them. What depends on the image, its size, is written beside them as
// drop-ins. What comes of both is always asked of systemd-repart itself, and
// never computed twice.
package layout

import (
	"fmt"

	"github.com/kairos-io/toolkit/kairos-install/internal/bytesize"
)

// Image is what the sizes depend on.
type Image struct {
	Bytes     int64 // what it takes in an empty store
	BootBytes int64 // kernel and initrd, or the unified kernel image; 0 when unknown
}

// Bounds are the sizes that an image asks for, in bytes.
type Bounds struct {
	ESP         int64 // at least, whatever the definition says
	RecoveryMin int64
	RecoveryMax int64
	StateMin    int64
	StateMax    int64
}

// What the bounds are made of.
const (
	// espDefault is what the shipped definition gives: no drop-in below it.
	espDefault = 1 * bytesize.GiB
	// espDeployments is how many deployments keep boot files at once: booted,
	// the newest good one, the staged one, recovery, and one that is pinned.
	espDeployments = 5
	espSlack       = 64 * bytesize.MiB // boot loaders, entries, FAT

	// What the file system takes for itself: inodes and its journal.
	recoverySlack = 256 * bytesize.MiB
	stateSlack    = 512 * bytesize.MiB
	// stateImages is how many images that share nothing fit at least: booted,
	// the newest good one, and the one being staged.
	stateImages = 3
	// stateMaxImages bounds the share of COS_STATE on large disks.
	stateMaxImages = 8
	stateMaxFloor  = 8 * bytesize.GiB

	granule = 32 * bytesize.MiB
)

// For returns the bounds for an image.
func For(image Image) Bounds {
	once := image.Bytes + image.Bytes*3/10
	return Bounds{
		ESP:         max(espDefault, bytesize.RoundUp(espDeployments*image.BootBytes+espSlack, granule)),
		RecoveryMin: bytesize.RoundUp(once+recoverySlack, granule),
		// Room for two, where the disk has it: a recovery is renewed without
		// a moment that has none.
		RecoveryMax: bytesize.RoundUp(2*once+2*recoverySlack, granule),
		StateMin:    bytesize.RoundUp(stateImages*image.Bytes+stateSlack, granule),
		StateMax:    max(stateMaxFloor, bytesize.RoundUp(stateMaxImages*image.Bytes, bytesize.GiB)),
	}
}

// Explain says in a line how the bounds come about.
func (b Bounds) Explain() string {
	return fmt.Sprintf("COS_RECOVERY at least %s (1.3 × image + %s), COS_STATE at least %s (%d × image + %s)",
		bytesize.Format(b.RecoveryMin), bytesize.Format(recoverySlack),
		bytesize.Format(b.StateMin), stateImages, bytesize.Format(stateSlack))
}
