package store

import (
	"encoding/json"
	"errors"
	"io/fs"
	"slices"

	"github.com/kairos-io/toolkit/lib/bounded"
	"github.com/kairos-io/toolkit/lib/deployment"
)

// BootNeed is what an image boots with, which is known only once it has been
// fetched: remembered of images for which there was no room on the ESP, so that
// the next attempt need not fetch them again to find that out.
type BootNeed struct {
	ManifestDigest string            `json:"manifest_digest"`
	Boot           []deployment.File `json:"boot"`
}

const (
	bootNeedFile = "boot-need.json"
	maxBootNeed  = 64 << 10 // bytes
	maxBootNeeds = 8
)

// BootNeed returns the boot files of a manifest, none when they are not known.
// A damaged file knows nothing.
func (s *Store) BootNeed(manifestDigest string) []deployment.File {
	for _, n := range s.bootNeeds() {
		if n.ManifestDigest == manifestDigest {
			return n.Boot
		}
	}
	return nil
}

func (s *Store) bootNeeds() (all []BootNeed) {
	data, err := bounded.In(s.root, bootNeedFile, maxBootNeed)
	if err != nil || json.Unmarshal(data, &all) != nil {
		return nil
	}
	return all
}

// PutBootNeed remembers the boot files of a manifest; nil forgets them.
func (s *Store) PutBootNeed(manifestDigest string, boot []deployment.File) error {
	had := s.bootNeeds()
	all := slices.DeleteFunc(slices.Clone(had), func(n BootNeed) bool { return n.ManifestDigest == manifestDigest })
	if boot != nil {
		all = append(all, BootNeed{manifestDigest, boot})
	} else if len(all) == len(had) {
		return nil
	}
	all = all[max(0, len(all)-maxBootNeeds):]
	if len(all) == 0 {
		if err := s.root.Remove(bootNeedFile); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return s.writeJSON(bootNeedFile, all)
}
