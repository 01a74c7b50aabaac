package cmd

import (
	"cmp"
	"os"
	"strings"

	"github.com/kairos-io/toolkit/lib/argv"
	"github.com/kairos-io/toolkit/lib/deployment"
)

// completions finds what may stand on the command line, by looking at the store
// as it is: nothing is locked, mounted or written.
func (m machine) completions() argv.Values {
	return argv.Values{"ID": m.completeID, "DIGEST": m.completeDigest, "SOURCE": m.completeSource, "REFERENCE": m.completeSource}
}

// look opens the store that a line is about, nil where it can't be read.
func (m machine) look(a argv.Asked) *os.Root {
	root, err := os.OpenRoot(cmp.Or(a.Options["store"], m.store))
	if err != nil {
		return nil
	}
	return root
}

func (m machine) records(a argv.Asked) []deployment.Record {
	root := m.look(a)
	if root == nil {
		return nil
	}
	defer root.Close()
	return deployment.ReadAll(root).Readable
}

func (m machine) completeID(a argv.Asked) (list []argv.Candidate) {
	booted, _ := deployment.ReadBooted(m.booted)
	for _, r := range m.records(a) {
		if a.Command == "pin" && r.Pinned || a.Command == "unpin" && !r.Pinned {
			continue
		}
		about := []string{cmp.Or(r.Version, r.OS), r.Reference}
		if r.ID == booted.ID {
			about = append([]string{"booted"}, about...)
		}
		list = append(list, argv.Candidate{Word: r.ID, Usage: strings.TrimSpace(strings.Join(about, " "))})
	}
	return list
}

func (m machine) completeDigest(a argv.Asked) (list []argv.Candidate) {
	root := m.look(a)
	if root == nil {
		return nil
	}
	defer root.Close()
	refused, _ := deployment.QuarantineAll(root)
	known := map[string]bool{}
	for _, q := range refused {
		known[q.ManifestDigest] = true
		if a.Command != "quarantine add" {
			list = append(list, argv.Candidate{Word: q.ManifestDigest, Usage: q.Reason})
		}
	}
	if a.Command == "quarantine add" {
		for _, r := range m.records(a) {
			if r.ManifestDigest != "" && !known[r.ManifestDigest] {
				list = append(list, argv.Candidate{Word: r.ManifestDigest, Usage: r.ID + " " + r.Reference})
			}
		}
	}
	return list
}

func (m machine) completeSource(a argv.Asked) (list []argv.Candidate) {
	known := map[string]bool{}
	for _, r := range m.records(a) {
		if !known[r.Reference] {
			list = append(list, argv.Candidate{Word: r.Reference, Usage: r.ID + " " + r.Version})
		}
		known[r.Reference] = true
	}
	return list
}
