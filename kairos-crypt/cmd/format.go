package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/cryptsetup"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/way"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/run"
	"github.com/kairos-io/toolkit/lib/sdnotify"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func formatCommand(m Machine) *cli.Command {
	return &cli.Command{
		Name:      "format",
		Usage:     "make a new, empty volume with a recovery key and the key slots of --enroll",
		ArgsUsage: "DEVICE",
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "label", Usage: "give the volume the label `TEXT`"},
			&cli.StringSliceFlag{Name: "enroll", Usage: "add a key slot of `KIND` beside the recovery key: tpm2 (default), passphrase, tang or none (repeatable)"},
			&cli.StringFlag{Name: "recovery-key-file", Usage: "take the recovery key from `FILE`, - for stdin, instead of making a new one"},
			&cli.StringFlag{Name: "new-key-file", Usage: "take the passphrase from `FILE` instead of asking, - for stdin"},
			saveRecoveryKeyFlag(),
		}, tpm2Flags(), tangFlags(), []cli.Flag{cmdline.DryRunFlag(), cmdline.WaitFlag(), cmdline.YesFlag(), cmdline.QuietFlag(), cmdline.JSONFlag()}),
		Action: func(c *cli.Context) error { return format(c, m) },
	}
}

// formatted is the object that kairos-crypt format prints.
type formatted struct {
	Device      string        `json:"device"`
	UUID        string        `json:"uuid"`
	Kinds       []volume.Kind `json:"kinds"`                  // of its key slots
	RecoveryKey string        `json:"recovery_key,omitempty"` // printed this once only, unless the caller gave it
}

// maxLabel is the maximum length of the label in a LUKS2 header, in bytes.
const maxLabel = 47

func checkLabel(label string) error {
	if len(label) > maxLabel || strings.ContainsFunc(label, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return exit.Usagef("--label: at most %d bytes, without control characters", maxLabel)
	}
	return nil
}

func format(c *cli.Context, m Machine) error {
	args, err := cmdline.Arguments(c, "DEVICE")
	if err != nil {
		return err
	}
	label := c.String("label")
	if err := checkLabel(label); err != nil {
		return err
	}
	if c.String("recovery-key-file") == "-" && (c.String("new-key-file") == "-" || c.String("pin-file") == "-") {
		return exit.Usagef("--recovery-key-file and another key can't both be stdin")
	}
	s := m.begin(c)
	enrollments, err := s.chosen(c)
	if err != nil {
		return explain(err)
	}
	device, err := s.device(args[0])
	if err != nil {
		return err
	}
	if err := s.lock(c, device); err != nil {
		return err
	}
	defer s.end()
	held, err := contents(c.Context, device)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		if held != "" {
			terminal.Fprintf(c.App.Writer, "erase %s on %s\n", held, device)
		}
		terminal.Fprintf(c.App.Writer, "make an encrypted volume on %s, with a recovery key\n", device)
		for _, e := range enrollments {
			terminal.Fprintf(c.App.Writer, "add a key slot: %s\n", e.describe)
		}
		return nil
	}
	if held != "" {
		if err := cmdline.Confirm(c, fmt.Sprintf("%s holds %s. Erase it?", device, held)); err != nil {
			return err
		}
	}
	return s.format(c, device, label, enrollments)
}

// format creates the volume. The recovery key is its first key, so that the volume is
// never without one. It is shown at the end: until then the volume holds no data to
// recover.
func (s *session) format(c *cli.Context, device, label string, enrollments []*enrollment) error {
	e, err := recoveryEnroller(c, s)
	if err != nil {
		return err
	}
	recovery, err := e.make(c.Context)
	if err != nil {
		return err
	}
	defer recovery.secret.Wipe()
	sdnotify.Status("Making an encrypted volume on %s", device)
	if err := cryptsetup.Format(c.Context, device, recovery.secret.Bytes(), recovery.kdf, label); err != nil {
		return err
	}
	if err := cryptsetup.ImportToken(c.Context, device, 0, luks.Recovery(0)); err != nil {
		return err
	}
	v, err := volume.Open(device)
	if err != nil {
		return err
	}
	result := formatted{Device: device, UUID: v.Header.UUID, Kinds: []volume.Kind{volume.Recovery}}
	for _, e := range enrollments {
		_, made, err := s.add(c.Context, v, recovery.secret, e)
		if err != nil {
			return err
		}
		made.secret.Wipe()
		result.Kinds = append(result.Kinds, e.kind)
	}
	s.log.Info("made an encrypted volume on " + device)
	if c.Bool("json") {
		file := c.String("save-recovery-key")
		switch {
		case !recovery.shown:
		case file == "":
			result.RecoveryKey = string(recovery.secret.Bytes())
		default:
			if err := writeSecret(file, recovery.secret); err != nil {
				return err
			}
		}
		return cmdline.PrintJSON(c, result)
	}
	return s.show(c, recovery, report.Enrolled{})
}

// chosen returns the enrollments that --enroll names.
func (s *session) chosen(c *cli.Context) ([]*enrollment, error) {
	kinds := c.StringSlice("enroll")
	if len(kinds) == 0 {
		kinds = []string{string(volume.TPM2)}
	}
	if slices.Contains(kinds, "none") {
		if len(kinds) > 1 {
			return nil, exit.Usagef("--enroll none cannot be combined with another kind")
		}
		return nil, nil
	}
	var enrollments []*enrollment
	for _, kind := range kinds {
		of, ok := map[string]enroller{"tpm2": tpm2Enroller, "passphrase": passphraseEnroller, "tang": tangEnroller}[kind]
		if !ok {
			return nil, exit.Usagef("--enroll %s: not tpm2, passphrase, tang or none", kind)
		}
		e, err := of(c, s)
		if errors.Is(err, way.ErrNoTPM) {
			return nil, exit.Hint(err, "add --enroll passphrase, --enroll tang or --enroll none")
		}
		if err != nil {
			return nil, err
		}
		enrollments = append(enrollments, e)
	}
	return enrollments, nil
}

// contents describes the content of a device by wipefs(8), "" for none.
func contents(ctx context.Context, device string) (string, error) {
	if _, err := os.Stat(device); err != nil {
		return "", err
	}
	out, err := run.Runner{}.Output(ctx, "wipefs", "--no-act", "--json", device)
	if err != nil {
		return "", err
	}
	var found struct {
		Signatures []struct {
			Type  string  `json:"type"`
			Label *string `json:"label"`
		} `json:"signatures"`
	}
	if len(out) > 0 { // nothing at all when there is nothing
		if err := json.Unmarshal(out, &found); err != nil {
			return "", fmt.Errorf("wipefs: %w", err)
		}
	}
	var held []string
	for _, signature := range found.Signatures {
		text := signature.Type
		if signature.Label != nil && *signature.Label != "" {
			text += fmt.Sprintf(" (%s)", *signature.Label)
		}
		if !slices.Contains(held, text) {
			held = append(held, text)
		}
	}
	return strings.Join(held, ", "), nil
}
