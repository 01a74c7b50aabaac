// Package layout computes the sizes of partitions for systemd-repart, which creates
// them.
//
// The definitions of the partitions are files, so that a site can override them. Sizes
// that depend on the image are written as drop-ins beside them. The result is always
// queried from systemd-repart, and never computed a second time here.
package layout

import (
	"fmt"

	"github.com/kairos-io/toolkit/kairos-install/internal/bytesize"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// Image has the properties of an image on which the sizes depend.
type Image struct {
	Bytes     int64 // size in an empty store
	BootBytes int64 // kernel and initrd, or the unified kernel image; 0 when unknown
}

// Bounds are the sizes that an image needs, in bytes.
type Bounds struct {
	ESP         int64 // minimum, whatever the definition says
	RecoveryMin int64
	RecoveryMax int64
	StateMin    int64
	StateMax    int64
}

// Parts of the bounds.
const (
	// espDefault is the size in the shipped definition: smaller needs write no drop-in.
	espDefault = 1 * bytesize.GiB
	// espDeployments is how many deployments have boot files at the same time: booted,
	// the newest good one, the staged one, recovery, and one that is pinned.
	espDeployments = 5
	espSlack       = 64 * bytesize.MiB // boot loaders, entries, metadata of FAT

	// Space for the file system itself: inodes and the journal.
	recoverySlack = 256 * bytesize.MiB
	stateSlack    = 512 * bytesize.MiB
	// stateImages is how many unrelated images must fit: booted, the newest good one,
	// and the one that is being staged.
	stateImages = 3
	// stateMaxImages limits the share of COS_STATE on large disks.
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

// Explain explains the bounds in one line.
func (b Bounds) Explain() string {
	return fmt.Sprintf("COS_RECOVERY at least %s (1.3 × image + %s), COS_STATE at least %s (%d × image + %s)",
		terminal.Bytes(b.RecoveryMin), terminal.Bytes(recoverySlack),
		terminal.Bytes(b.StateMin), stateImages, terminal.Bytes(stateSlack))
}
