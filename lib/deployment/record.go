// Package deployment holds the files about deployments that several tools share: the
// record of a deployment, the description of the running system, and the quarantine.
package deployment

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/lib/bounded"
)

// Format is the version of the record format written.
const Format = 1

// maxRecord bounds a record file, in bytes.
const maxRecord = 4 << 20

// Record describes a deployment: deployments/<id>.json in a store.
type Record struct {
	Format         int    `json:"format"`
	ID             string `json:"id"`                        // <serial>-<first 12 hex of the image digest>
	Serial         uint64 `json:"serial"`                    // larger than that of every earlier deployment
	ImageDigest    string `json:"image_digest"`              // sha256:<hex>: fs-verity digest of the composefs image
	Verity         bool   `json:"verity"`                    // whether the store has fs-verity
	ManifestDigest string `json:"manifest_digest,omitempty"` // sha256:<hex> of the image manifest, "" for a plain directory
	Reference      string `json:"reference"`                 // the source as the caller named it
	// InsecureRegistry is the host of the reference that was accepted without TLS, and
	// is accepted so when an upgrade is looked for and files are restored.
	InsecureRegistry string    `json:"insecure_registry,omitempty"`
	Version          string    `json:"version,omitempty"`      // org.opencontainers.image.version, else VERSION_ID
	OS               string    `json:"os,omitempty"`           // PRETTY_NAME of os-release
	Kernel           string    `json:"kernel,omitempty"`       // kernel release
	Architecture     string    `json:"architecture"`           // GOARCH
	Created          time.Time `json:"created"`                // time of staging
	Origin           string    `json:"origin"`                 // "stage", "auto", "rollback" or "install"
	Boot             []File    `json:"boot"`                   // boot files on the ESP
	Options          string    `json:"options"`                // kernel command line
	NodeOptions      []string  `json:"node_options,omitempty"` // the part of Options that belongs to the node, not to the image
	NodeTitle        string    `json:"node_title,omitempty"`   // the node's title for the boot menu, "" for OS and version
	Layers           []string  `json:"layers,omitempty"`       // DiffIDs, lowest first
	Objects          int       `json:"objects"`                // number of distinct objects of the image
	Bytes            int64     `json:"bytes"`                  // sum of the sizes of its objects
	Pinned           bool      `json:"pinned,omitempty"`       // kept until it is unpinned
}

// File is a boot file of a deployment.
type File struct {
	Kind   string `json:"kind"`   // "linux", "initrd" or "uki"
	Path   string `json:"path"`   // path on the ESP, without leading slash
	Digest string `json:"digest"` // hex fs-verity digest: the name of its object
	Size   int64  `json:"size"`   // in bytes
}

// EntryBase returns the base name of the deployment's boot entry.
func (r Record) EntryBase() string { return "kairos-" + r.ID }

// Dir is the directory of the records in a store.
const Dir = "deployments"

// Path returns the path of a record in a store.
func Path(id string) string { return path.Join(Dir, id+".json") }

// NewID returns the id of a deployment.
func NewID(serial uint64, imageDigest string) string {
	hex := strings.TrimPrefix(imageDigest, "sha256:")
	return fmt.Sprintf("%d-%s", serial, hex[:min(12, len(hex))])
}

var idForm = regexp.MustCompile(`^[1-9][0-9]{0,18}-[0-9a-f]{12}$`)

// ParseID checks the form of an id and returns its serial.
func ParseID(id string) (serial uint64, err error) {
	if !idForm.MatchString(id) {
		return 0, fmt.Errorf("deployment id %q: not of the form SERIAL-HEX", id)
	}
	number, _, _ := strings.Cut(id, "-")
	return strconv.ParseUint(number, 10, 64)
}

// ResetEntry is the base name of the boot entry that starts a reset, see
// kairos-reset(8). It boots the image that the recovery system had when the reset was
// armed.
const ResetEntry = "kairos-reset"

// IDOfEntry returns the id of the deployment that the base name of a boot entry belongs
// to; ok is false for other entries (that of the recovery system, those of other
// systems).
func IDOfEntry(base string) (id string, ok bool) {
	id, ok = strings.CutPrefix(base, "kairos-")
	if !ok {
		return "", false
	}
	_, err := ParseID(id)
	return id, err == nil
}

// Parse parses and validates a record, which may come from a damaged disk.
func Parse(data []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return r, err
	}
	if r.Format != Format {
		return r, fmt.Errorf("record format %d, this program knows %d", r.Format, Format)
	}
	if _, err := ParseDigest(r.ImageDigest); err != nil {
		return r, fmt.Errorf("image digest: %w", err)
	}
	if r.ManifestDigest != "" {
		if _, err := ParseDigest(r.ManifestDigest); err != nil {
			return r, fmt.Errorf("manifest digest: %w", err)
		}
	}
	if r.ID != NewID(r.Serial, r.ImageDigest) || r.Serial == 0 {
		return r, fmt.Errorf("id %q does not belong to serial %d and image %s", r.ID, r.Serial, r.ImageDigest)
	}
	for _, f := range r.Boot {
		if _, err := ParseDigest("sha256:" + f.Digest); err != nil {
			return r, fmt.Errorf("boot file %s: %w", f.Path, err)
		}
		if !fs.ValidPath(f.Path) {
			return r, fmt.Errorf("boot file %q: not a path on the ESP", f.Path)
		}
	}
	return r, nil
}

// ParseDigest validates the form sha256:<64 lower-case hex> and returns the hexadecimal
// digits.
func ParseDigest(s string) (string, error) {
	h, ok := strings.CutPrefix(s, "sha256:")
	if _, err := hex.DecodeString(h); !ok || err != nil || len(h) != 64 || h != strings.ToLower(h) {
		return "", fmt.Errorf("digest %q: not of the form sha256:HEX", s)
	}
	return h, nil
}

// Records are the records of a store.
type Records struct {
	Readable   []Record // oldest first
	Unreadable error    // says which others there are, nil when these are all
}

// ReadAll returns the records of a store.
func ReadAll(store *os.Root) (all Records) {
	dir, err := store.Open(Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return all
	}
	if err != nil {
		return Records{Unreadable: fmt.Errorf("list deployments: %w", err)}
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return Records{Unreadable: fmt.Errorf("list deployments: %w", err)}
	}
	for _, name := range names {
		id, ok := strings.CutSuffix(name, ".json")
		if _, err := ParseID(id); !ok || err != nil {
			continue
		}
		r, err := Read(store, id)
		if err != nil {
			all.Unreadable = errors.Join(all.Unreadable, err)
			continue
		}
		all.Readable = append(all.Readable, r)
	}
	slices.SortFunc(all.Readable, func(a, b Record) int {
		switch {
		case a.Serial < b.Serial:
			return -1
		case a.Serial > b.Serial:
			return 1
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

// Read returns the record of one deployment.
func Read(store *os.Root, id string) (Record, error) {
	data, err := bounded.In(store, Path(id), maxRecord)
	if err != nil {
		return Record{}, fmt.Errorf("read deployment %s: %w", id, err)
	}
	r, err := Parse(data)
	if err == nil && r.ID != id {
		err = fmt.Errorf("file holds the record of %s", r.ID)
	}
	if err != nil {
		return Record{}, fmt.Errorf("read deployment %s: %w", id, err)
	}
	return r, nil
}
