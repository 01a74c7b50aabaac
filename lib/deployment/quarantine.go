package deployment

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/lib/bounded"
)

// QuarantineDir is the directory of a store with the quarantine, one file for each
// manifest digest.
const QuarantineDir = "quarantine"

// Quarantine is the entry of an image that failed on this node: quarantine/<hex of the
// manifest digest>.json in a store.
type Quarantine struct {
	ManifestDigest string    `json:"manifest_digest"` // sha256:<hex>
	ImageDigest    string    `json:"image_digest,omitempty"`
	Deployment     string    `json:"deployment,omitempty"` // id of the deployment that failed
	Reference      string    `json:"reference,omitempty"`
	Cause          Cause     `json:"cause"`
	Attempts       int       `json:"attempts,omitempty"` // deployments of the image that ended without a verdict
	Reason         string    `json:"reason"`
	Time           time.Time `json:"time"`
}

// Cause is why an image is in the quarantine.
type Cause string

const (
	// Failed: a health check or an operator found the image bad. It is refused unless
	// it is forced.
	Failed Cause = "failed"
	// NoVerdict: all boots of the image ended before there was a verdict. The cause may
	// be an unstable power supply, so the image is tried once more.
	NoVerdict Cause = "no_verdict"
	// Discarded: an operator discarded the image before it booted. Only automatic
	// upgrades skip it.
	Discarded Cause = "discarded"
)

// maxAttempts is how many deployments of an image may end without a verdict before the
// image is refused.
const maxAttempts = 2

// Refuses reports whether the image is refused unless it is forced.
func (q *Quarantine) Refuses() bool {
	return q != nil && q.Cause != Discarded && (q.Cause != NoVerdict || q.Attempts >= maxAttempts)
}

// QuarantinePath returns the path in a store of the quarantine entry of a manifest
// digest.
func QuarantinePath(manifestDigest string) (string, error) {
	hex, err := ParseDigest(manifestDigest)
	if err != nil {
		return "", err
	}
	return path.Join(QuarantineDir, hex+".json"), nil
}

// Quarantined returns the quarantine entry of a manifest digest, nil when there is
// none. A damaged file counts as an entry, so that a bad sector doesn't release an
// image that failed.
func Quarantined(store *os.Root, manifestDigest string) (*Quarantine, error) {
	name, err := QuarantinePath(manifestDigest)
	if err != nil {
		return nil, err
	}
	data, err := bounded.In(store, name, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read quarantine: %w", err)
	}
	q := Quarantine{}
	if err := json.Unmarshal(data, &q); err != nil {
		q = Quarantine{Reason: "unknown: the record is damaged"}
	}
	if q.Cause == "" { // written before there were causes, or damaged
		q.Cause = Failed
	}
	q.ManifestDigest = manifestDigest
	return &q, nil
}

// QuarantineList returns the entries of images that failed or had no verdict, oldest
// first.
func QuarantineList(store *os.Root) ([]Quarantine, error) {
	list, err := QuarantineAll(store)
	return slices.DeleteFunc(list, func(q Quarantine) bool { return q.Cause == Discarded }), err
}

// QuarantineAll returns the entries of QuarantineList and those of discarded images,
// oldest first.
func QuarantineAll(store *os.Root) ([]Quarantine, error) {
	dir, err := store.Open(QuarantineDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list quarantine: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list quarantine: %w", err)
	}
	var list []Quarantine
	for _, name := range names {
		hex, ok := strings.CutSuffix(name, ".json")
		if _, err := ParseDigest("sha256:" + hex); !ok || err != nil {
			continue
		}
		q, err := Quarantined(store, "sha256:"+hex)
		if err != nil {
			return nil, err
		}
		if q != nil {
			list = append(list, *q)
		}
	}
	slices.SortFunc(list, func(a, b Quarantine) int { return a.Time.Compare(b.Time) })
	return list, nil
}
