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

// QuarantineDir is where a store keeps the digests that failed.
const QuarantineDir = "quarantine"

// Quarantine says that an image failed on this node:
// quarantine/<hex of the manifest digest>.json in a store.
type Quarantine struct {
	ManifestDigest string    `json:"manifest_digest"` // sha256:<hex>
	ImageDigest    string    `json:"image_digest,omitempty"`
	Deployment     string    `json:"deployment,omitempty"` // the id that failed
	Reference      string    `json:"reference,omitempty"`
	Cause          Cause     `json:"cause"`
	Attempts       int       `json:"attempts,omitempty"` // deployments of it that ended without a verdict
	Reason         string    `json:"reason"`
	Time           time.Time `json:"time"`
}

// Cause says of what kind a quarantine is.
type Cause string

const (
	// Failed is an image that a check, or somebody, found bad. It is refused until
	// somebody forces it.
	Failed Cause = "failed"
	// NoVerdict is one whose boots all ended before anybody could judge it: it may
	// be a good one under a flickering supply. It is tried once more.
	NoVerdict Cause = "no_verdict"
	// Discarded is one that somebody did not want to boot. Only the automation
	// leaves it alone.
	Discarded Cause = "discarded"
)

// maxAttempts is how many deployments of an image may end without a verdict.
const maxAttempts = 2

// Refuses reports whether the image is refused to everybody who does not force it.
func (q *Quarantine) Refuses() bool {
	return q != nil && q.Cause != Discarded && (q.Cause != NoVerdict || q.Attempts >= maxAttempts)
}

// QuarantinePath returns where the quarantine of a manifest digest lives.
func QuarantinePath(manifestDigest string) (string, error) {
	hex, err := ParseDigest(manifestDigest)
	if err != nil {
		return "", err
	}
	return path.Join(QuarantineDir, hex+".json"), nil
}

// Quarantined returns the quarantine of a manifest digest, nil when there is
// none. A damaged file counts as a quarantine: what failed once is not tried
// again because of a bad sector.
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

// QuarantineList returns the quarantines of a store, oldest first: what failed,
// and what had no verdict.
func QuarantineList(store *os.Root) ([]Quarantine, error) {
	list, err := QuarantineAll(store)
	return slices.DeleteFunc(list, func(q Quarantine) bool { return q.Cause == Discarded }), err
}

// QuarantineAll is QuarantineList, with what somebody discarded.
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
