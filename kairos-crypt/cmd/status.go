package cmd

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/forecast"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/tpm"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/urfave/cli/v2"
)

func statusCommand(m Machine) *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "show volumes, their key slots, and whether they unlock now and after the reboot",
		ArgsUsage: "[DEVICE...]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "check", Usage: "print nothing; exit status 0 when all unlock after the reboot without help, 1 when not"},
			cmdline.JSONFlag(), cmdline.QuietFlag(),
		},
		Action: func(c *cli.Context) error {
			devices, err := cmdline.Arguments(c, "[DEVICE...]")
			if err != nil {
				return err
			}
			s := m.begin(c)
			result, err := s.status(c, devices)
			if err != nil {
				return err
			}
			switch {
			case c.Bool("check"):
				if len(result.Foreign) > 0 {
					return exit.Silent(exit.Failed)
				}
				for _, v := range result.Volumes {
					if v.AfterReboot != report.Yes {
						return exit.Silent(exit.Failed)
					}
				}
				return nil
			case c.Bool("json"):
				return cmdline.PrintJSON(c, result)
			}
			return printStatus(c.App.Writer, result)
		},
	}
}

func (s *session) status(c *cli.Context, devices []string) (report.Crypt, error) {
	result := report.Crypt{Volumes: []report.Volume{}, Foreign: []report.Foreign{}}
	volumes, err := s.volumes(devices)
	if err == nil {
		result.Foreign, err = s.foreign(devices)
	}
	if err != nil || len(volumes) == 0 {
		return result, err
	}
	next, err := forecast.Ask(c.Context)
	if err != nil {
		s.log.Warn("cannot determine what boots next: " + exit.Message(err))
		next = nil
	}
	if next != nil {
		result.Staged = next.ID
	}
	for _, v := range volumes {
		result.Volumes = append(result.Volumes, s.describe(v, next))
	}
	return result, nil
}

// foreign returns the partitions, of the devices or of all, that don't hold the volume
// that the boot entry names. An attacker's volume may well open, since the same TPM
// seals keys for it: so a volume that opens is no proof.
func (s *session) foreign(devices []string) ([]report.Foreign, error) {
	found := []report.Foreign{}
	line, err := os.ReadFile(s.Cmdline)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	expected := deployment.VolumesOf(string(line))
	for _, label := range slices.Sorted(maps.Keys(expected)) {
		f := report.Foreign{Label: label, Expected: expected[label]}
		switch p, err := s.Disks.Find(label); {
		case err == nil:
			if f.Device = p.Path; len(devices) > 0 && !slices.Contains(devices, p.Path) && !slices.Contains(devices, "LABEL="+label) {
				continue
			}
			if f.Found, err = disk.Volume(p.Path); err != nil {
				return nil, err
			}
		case len(devices) > 0:
			continue
		case !errors.Is(err, disk.ErrNotFound):
			return nil, err
		}
		if !disk.SameVolume(f.Found, f.Expected) {
			found = append(found, f)
		}
	}
	return found, nil
}

// volumes returns the volumes on the devices, or on all partitions of this machine.
func (s *session) volumes(devices []string) ([]*volume.Volume, error) {
	var found []*volume.Volume
	for _, device := range devices {
		v, err := s.find(device)
		if err != nil {
			return nil, err
		}
		found = append(found, v)
	}
	if len(devices) > 0 {
		return found, nil
	}
	partitions, err := s.Disks.Partitions()
	if err != nil {
		return nil, err
	}
	for _, p := range partitions {
		v, err := volume.Open(p.Path)
		switch {
		case errors.Is(err, luks.ErrNotLUKS2):
		case err != nil:
			s.log.Warn(exit.Message(err))
		default:
			found = append(found, v)
		}
	}
	return found, nil
}

func (s *session) describe(v *volume.Volume, next *forecast.Next) report.Volume {
	result := report.Volume{
		Device: v.Device, Label: v.Header.Label, UUID: v.Header.UUID, Slots: []report.Slot{},
		Now: report.No, AfterReboot: report.No,
	}
	if v.Header.Damaged != nil {
		result.Damaged = v.Header.Damaged.Error()
	}
	result.Conversion = v.Header.Metadata.Conversion()
	var err error
	if result.LastUnlock, err = report.ReadUnlock(s.Unlocks, v.Device); err != nil {
		s.log.Warn("cannot read the result of the last unlock: " + exit.Message(err))
	} else if result.LastUnlock != nil && result.LastUnlock.UUID != v.Header.UUID {
		result.LastUnlock = nil // another volume has been made there
	}
	for _, slot := range v.Slots {
		described := s.slot(slot, next)
		result.Slots = append(result.Slots, described)
		if !slot.Way() {
			continue
		}
		result.RecoveryKey = result.RecoveryKey || slot.Kind == volume.Recovery
		if !described.Asks {
			result.Now = better(result.Now, described.Now)
			result.AfterReboot = better(result.AfterReboot, described.AfterReboot)
		}
	}
	return result
}

// better returns the better of two verdicts.
func better(a, b report.Verdict) report.Verdict {
	switch {
	case a == report.Yes || b == report.Yes:
		return report.Yes
	case a == report.Unknown || b == report.Unknown:
		return report.Unknown
	}
	return report.No
}

func (s *session) slot(slot volume.Slot, next *forecast.Next) report.Slot {
	result := report.Slot{Slot: slot.Number, Kind: slot.Kind, Now: report.No, AfterReboot: report.No}
	switch {
	case slot.Bad != nil:
		result.WhyNot = slot.Bad.Error()
	case !slot.Bound:
		result.WhyNot = "it holds no key of the data"
	case slot.Kind == volume.Orphan:
		result.WhyNot = "its key is lost: an enrollment was interrupted; erase the slot"
	case slot.Kind == volume.Recovery, slot.Kind == volume.Passphrase:
		result.Asks, result.Now, result.AfterReboot = true, report.Yes, report.Yes
	case slot.Kind == volume.Tang:
		result.URL = slot.Clevis.URL
		result.Now, result.AfterReboot = report.Unknown, report.Unknown // nobody is asked over the network for this
	case slot.Kind == volume.TPM2:
		s.policyOf(slot.TPM2, next, &result)
	default:
		result.Now, result.AfterReboot, result.WhyNot = report.Unknown, report.Unknown, "its token is not known here"
	}
	if result.WhyNot != "" && result.WhyNotAfter == "" && result.AfterReboot != report.Yes {
		result.WhyNotAfter = result.WhyNot
	}
	return result
}

func (s *session) policyOf(token *luks.TPM2, next *forecast.Next, result *report.Slot) {
	result.Policy = &report.Policy{
		PCRs: append([]int{}, token.PCRs...), PublicKeyPCRs: append([]int{}, token.PublicPCRs...),
		Bank: token.Bank, PIN: token.PIN, Text: bound(token),
	}
	if len(token.PublicKey) > 0 {
		result.Policy.PublicKey, _ = tpm.Fingerprint(token.PublicKey)
	}
	result.Asks = token.PIN
	now := s.ways.TPM.Check(token)
	if now == nil {
		result.Now = report.Yes
	} else {
		result.WhyNot = now.Error()
	}
	if next == nil {
		result.AfterReboot = report.Unknown
		return
	}
	signatures, err := s.ways.TPM.BootedSignatures(token)
	if err != nil {
		result.AfterReboot, result.WhyNotAfter = report.Unknown, err.Error()
		return
	}
	result.AfterReboot, result.WhyNotAfter = next.TPM2(token, now, signatures)
}
