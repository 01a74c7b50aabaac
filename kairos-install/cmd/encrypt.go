package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-install/internal/layout"
	"github.com/kairos-io/toolkit/kairos-install/internal/plan"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/progress"
	"github.com/kairos-io/toolkit/lib/recoverykey"
	"github.com/kairos-io/toolkit/lib/run"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

// encryption merges the options and the config about encryption. It returns an error
// for a combination that would fail or lose the recovery key, nil for no encryption.
func encryption(c *cli.Context, m Machine, labels, files []string, report *progress.Reporter) (*plan.Encryption, error) {
	if c.IsSet("encrypt") {
		labels = c.StringSlice("encrypt")
		if err := plan.CheckLabels(labels); err != nil {
			return nil, exit.Usagef("--encrypt: %v", err)
		}
	}
	if len(labels) == 0 {
		for _, option := range []string{"enroll", "passphrase-file", "save-recovery-key"} {
			if c.IsSet(option) {
				return nil, exit.Usagef("--%s: no partition is to be encrypted", option)
			}
		}
		return nil, nil
	}
	config, err := recoverykey.Load(c.Context, run.Runner{Line: report.Line}, files)
	if err != nil {
		return nil, err
	}
	if config.Server {
		return nil, exit.Hint(errors.New("the config names a key server, which is not supported"),
			"remove kcrypt.challenger: the TPM of this node keeps the keys")
	}
	for _, key := range config.Ignored {
		report.Warn("the config has a key that is not used here: %s", key)
	}
	e := &plan.Encryption{Labels: labels, Kinds: config.Enroll, Escrow: config.Escrow, Hostname: m.Hostname}
	if c.IsSet("enroll") {
		e.Kinds = c.StringSlice("enroll")
		if err := recoverykey.CheckKinds(e.Kinds); err != nil {
			return nil, exit.Usagef("--enroll %v", err)
		}
	}
	if len(e.Kinds) == 0 {
		e.Kinds = []string{"tpm2"}
	}
	return e, errors.Join(passphrase(c, e), keeper(c, m, e))
}

// policy chooses the policy of the TPM's key slots by kairos-crypt's rule: the policies
// that the key of a unified kernel image has signed, where such an image is running,
// otherwise PCR 7, the state of Secure Boot. Both stay valid with another kernel or
// command line. Where another image than the running one is installed, the key of the
// running one does not count.
func (r *request) policy(m Machine, report *progress.Reporter) {
	e := r.Encryption
	if e == nil || !slices.Contains(e.Kinds, "tpm2") {
		return
	}
	if !r.Live || !strings.HasPrefix(r.Image, "store:"+m.Store) {
		e.Options = append(e.Options, "--public-key=none")
	}
	if secure, err := m.Target.Disk.Vars.SecureBoot(); err == nil && !secure {
		report.Warn("Secure Boot is off: the disk alone is protected, but other software that is started on this machine gets the key from its TPM")
	}
}

// passphrase returns the file with the passphrase; kairos-install does not ask for one.
func passphrase(c *cli.Context, e *plan.Encryption) (err error) {
	wanted := slices.Contains(e.Kinds, "passphrase")
	switch file := c.String("passphrase-file"); {
	case wanted && file == "":
		return exit.Usagef("--enroll passphrase needs --passphrase-file")
	case !wanted && file != "":
		return exit.Usagef("--passphrase-file needs --enroll passphrase")
	case wanted:
		if e.Passphrase, err = filepath.Abs(file); err == nil {
			_, err = os.Stat(e.Passphrase)
		}
	}
	return err
}

// keeper checks that somebody will get the recovery key.
func keeper(c *cli.Context, m Machine, e *plan.Encryption) (err error) {
	if missing := e.Escrow.Missing(); missing != "" {
		return fmt.Errorf("the recovery key cannot be sent to %s: %s is not installed", e.Escrow, missing)
	}
	if file := c.String("save-recovery-key"); file != "" {
		if e.Save, err = filepath.Abs(file); err != nil {
			return err
		}
		if _, err := os.Lstat(e.Save); err == nil {
			return exit.Usagef("--save-recovery-key %s: the file exists", e.Save)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if info, err := os.Stat(filepath.Dir(e.Save)); err != nil || !info.IsDir() {
			return exit.Usagef("--save-recovery-key %s: its directory does not exist", e.Save)
		}
		return nil
	}
	eyes, err := recoverykey.Audience(m.Console)
	if err != nil {
		return err
	}
	if eyes != nil {
		return eyes.Close()
	}
	if !e.Escrow.Set() {
		return exit.Hint(errors.New("there is no terminal to show the recovery key on"),
			"add --save-recovery-key FILE, or kcrypt.escrow in the config")
	}
	e.Escrow.Required = true // the only one who has it
	return nil
}

// showKey shows the recovery key at the end of an installation.
func showKey(c *cli.Context, m Machine, e *plan.Encryption) error {
	if e == nil {
		return nil
	}
	defer e.Key.Wipe()
	eyes, err := recoverykey.Audience(m.Console)
	if err != nil || eyes == nil {
		return err
	}
	return errors.Join(e.Key.Show(c.Context, run.Runner{}, eyes), eyes.Close())
}

// closeLeftovers closes volumes that a killed installation left open. The caller holds
// the lock, so no other installation uses them.
func closeLeftovers(ctx context.Context, m Machine, runner run.Runner) error {
	left, err := filepath.Glob(filepath.Join(m.Target.Disk.Dev, "mapper", plan.MappingPrefix+"*"))
	for _, node := range left {
		_, failed := runner.Output(ctx, recoverykey.Program, "close", "--quiet", filepath.Base(node))
		err = errors.Join(err, failed)
	}
	return err
}

// checkEncryption asks kairos-crypt, before anything is erased, whether the encryption
// is possible, and returns the partitions that do not exist.
func checkEncryption(ctx context.Context, e *plan.Encryption, device string, table layout.Table, runner run.Runner) error {
	if e == nil {
		return nil
	}
	for _, label := range e.Labels {
		if _, ok := table.Find(label); !ok {
			return fmt.Errorf("encrypt %s: no partition has this label", label)
		}
	}
	_, err := runner.Output(ctx, e.FormatCommand(e.Labels[0], device, "--dry-run")...)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("encrypt %s: %w", e.Labels[0], err)
	if slices.Contains(e.Kinds, "tpm2") {
		err = exit.Hint(err, "a machine without a TPM 2.0 needs --enroll passphrase and --passphrase-file, "+
			"or --enroll none to type the recovery key at every boot")
	}
	return err
}

// written asks a person to confirm that the key was written down, before the machine
// reboots or powers off.
func written(c *cli.Context, e *plan.Encryption) error {
	if e == nil || e.Given || e.Save != "" || !terminal.Is(os.Stdin) {
		return nil
	}
	return cmdline.Confirm(c, "Have you written down the recovery key?")
}
