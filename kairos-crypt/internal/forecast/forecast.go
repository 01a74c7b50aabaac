// Package forecast predicts whether a TPM key slot will open after the next reboot, as
// far as that can be known.
package forecast

import (
	"bytes"
	"context"
	"debug/pe"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/tpm"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/run"
)

// Next is the deployment that boots next.
type Next struct {
	ID     string // "" when it is the running one
	booted deployment.Record
	staged deployment.Record
	esp    string
}

// Ask asks kairos-upgrade which deployment boots next. Where kairos-upgrade is not
// installed, or the running system is no deployment, nothing is staged.
func Ask(ctx context.Context) (*Next, error) {
	if !run.Has("kairos-upgrade") {
		return &Next{}, nil
	}
	out, err := run.Runner{}.Output(ctx, "kairos-upgrade", "status", "--json")
	if err != nil {
		return nil, err
	}
	s, err := report.Parse[report.Upgrade]("kairos-upgrade status", out)
	if err != nil {
		return nil, err
	}
	n := &Next{ID: s.Staged, esp: s.ESP.Path}
	for _, d := range s.Deployments {
		switch d.ID {
		case s.Booted:
			n.booted = d.Record
		case s.Staged:
			n.staged = d.Record
		}
	}
	return n, nil
}

// TPM2 returns the verdict about a slot, given whether it opens now (nil, or the error)
// and the signatures of the booted UKI.
func (n *Next) TPM2(token *luks.TPM2, now error, booted []tpm.Signature) (report.Verdict, string) {
	if now != nil && !errors.Is(now, tpm.ErrPolicy) {
		return report.No, now.Error() // not the policy's matter: no other boot mends it
	}
	if n.ID != "" {
		changed := n.changed()
		for _, pcr := range token.PCRs {
			if what := changed[pcr]; what != "" {
				return report.No, fmt.Sprintf("PCR %d measures the %s, and that of %s differs", pcr, what, n.ID)
			}
		}
	}
	if len(token.PublicKey) > 0 {
		signatures, whose := booted, "the running unified kernel image"
		if n.ID != "" {
			whose = n.ID
			var err error
			if signatures, err = n.signatures(token.Bank); err != nil {
				return report.Unknown, err.Error()
			}
		}
		fingerprint, err := tpm.Fingerprint(token.PublicKey)
		if err != nil {
			return report.No, err.Error()
		}
		if !slices.ContainsFunc(signatures, func(s tpm.Signature) bool {
			return s.Fingerprint == fingerprint && slices.Equal(s.PCRs, token.PublicPCRs)
		}) {
			return report.No, fmt.Sprintf("%s has no policy signed by key %.12s", whose, fingerprint)
		}
		if len(token.PCRs) == 0 {
			return report.Yes, ""
		}
	}
	switch {
	// What the system itself extends while it runs: it was less in the initrd.
	case slices.ContainsFunc(token.PCRs, func(pcr int) bool { return pcr == 11 || pcr == 15 }):
		return report.Unknown, "PCRs 11 and 15 change while the system runs"
	case now != nil && len(token.PublicKey) == 0:
		return report.No, now.Error()
	case now != nil:
		return report.Unknown, now.Error()
	}
	return report.Yes, ""
}

// changed returns the PCRs that will differ in the staged deployment, with the measured
// objects that differ: "TPM2 PCR Measurements Made by systemd".
func (n *Next) changed() map[int]string {
	changed := map[int]string{}
	for pcr, kinds := range map[int][]string{4: {"linux", "uki"}, 9: {"initrd"}, 11: {"uki"}} {
		for _, kind := range kinds {
			if digest(n.booted, kind) != digest(n.staged, kind) {
				changed[pcr] = map[string]string{"linux": "kernel", "uki": "unified kernel image", "initrd": "initrd"}[kind]
			}
		}
	}
	if n.booted.Options != n.staged.Options {
		changed[12] = "kernel command line"
	}
	return changed
}

func digest(r deployment.Record, kind string) string {
	if file := fileOf(r, kind); file != nil {
		return file.Digest
	}
	return ""
}

func fileOf(r deployment.Record, kind string) *deployment.File {
	at := slices.IndexFunc(r.Boot, func(f deployment.File) bool { return f.Kind == kind })
	if at < 0 {
		return nil
	}
	return &r.Boot[at]
}

// maxSection is how large a section of signatures may be, in bytes.
const maxSection = 1 << 20

// signatures returns the signed policies in the staged deployment's unified kernel
// image; none where it has no such image.
func (n *Next) signatures(bank string) ([]tpm.Signature, error) {
	file := fileOf(n.staged, "uki")
	if file == nil {
		return nil, nil
	}
	root, err := os.OpenRoot(n.esp)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	image, err := root.Open(filepath.FromSlash(file.Path))
	if err != nil {
		return nil, err
	}
	defer image.Close()
	parsed, err := pe.NewFile(image)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file.Path, err)
	}
	section := parsed.Section(".pcrsig")
	if section == nil {
		return nil, nil
	}
	if section.Size > maxSection {
		return nil, fmt.Errorf("%s: signed policies of %d bytes: at most %d are allowed", file.Path, section.Size, maxSection)
	}
	text, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file.Path, err)
	}
	all, err := tpm.ParseSignatures(bytes.TrimRight(text, "\x00"))
	return all[bank], err
}
