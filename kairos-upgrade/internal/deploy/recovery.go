package deploy

import (
	"strings"

	"github.com/kairos-io/toolkit/lib/disk"
)

// Recovery is the recovery system as its boot entry describes it. Its store is not
// read, since that would need a mount.
type Recovery struct {
	Entry       string `json:"entry"`
	Title       string `json:"title"`
	ImageDigest string `json:"image_digest"` // "" when the entry does not name it
}

// Recovery returns the recovery system beside this store, nil when there is
// none.
func (n *Node) Recovery() (*Recovery, error) {
	base, _ := fixedEntry(disk.LabelRecovery)
	if n.Label == disk.LabelRecovery {
		return nil, nil
	}
	entries, err := n.Loader.Entries()
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !strings.EqualFold(e.Name.Base, base) {
			continue
		}
		r := &Recovery{Entry: e.Name.String(), Title: e.Title}
		r.ImageDigest, _ = boots(e)
		return r, nil
	}
	return nil, nil
}
