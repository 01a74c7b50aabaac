package deployment

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/kairos-io/toolkit/lib/bounded"
)

// BootedPath is the file in which kairos-root describes the running system.
const BootedPath = "/run/kairos/booted.json"

// StoreMount is where the store of the running system is mounted, read-only.
const StoreMount = "/run/kairos/store"

// Mode is how the machine was booted.
type Mode string

const (
	Active   Mode = "active"   // the newest deployment that is not bad
	Passive  Mode = "passive"  // an older one, after a fallback or by hand
	Recovery Mode = "recovery" // the recovery store
	Live     Mode = "live"     // from a medium
)

// Booted describes the running system: /run/kairos/booted.json.
type Booted struct {
	ID             string `json:"id"`              // deployment id, "" when no record matches
	Mode           Mode   `json:"mode"`            // active, passive, recovery or live
	Store          string `json:"store"`           // label of the store
	ImageDigest    string `json:"image_digest"`    // sha256:<hex>
	ManifestDigest string `json:"manifest_digest"` // from the record, "" when unknown
	Reference      string `json:"reference"`       // from the record, "" when unknown
	Version        string `json:"version"`         // from the record, "" when unknown
	Verity         bool   `json:"verity"`          // fs-verity checks file contents
	Device         string `json:"device"`          // device of the store: /dev/vda4
	Disk           string `json:"disk"`            // kernel name of its disk: vda
	ESP            string `json:"esp"`             // partition UUID of the ESP, "" when unknown
	Entry          string `json:"entry"`           // base name of the boot entry, "" when unknown
	BootID         string `json:"boot_id"`         // kernel's boot id
	// Foreign are the labels of the partitions that hold something else than the node's
	// encrypted volume.
	Foreign string `json:"foreign,omitempty"`
}

// ErrNotBooted says that the running system is no deployment.
var ErrNotBooted = errors.New("this system was not booted from a deployment")

// ReadBooted reads BootedPath.
func ReadBooted(file string) (Booted, error) {
	var b Booted
	data, err := bounded.File(file, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return b, ErrNotBooted
	}
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal(data, &b); err != nil {
		return b, fmt.Errorf("read %s: %w", file, err)
	}
	return b, nil
}
