package factory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kairos-io/toolkit/kairos-reset/internal/request"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/recoverykey"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/run"
)

// Keeper keeps the node's new recovery key. Package cmd implements it.
type Keeper interface {
	// New generates the key.
	New(ctx context.Context) error
	// Run runs a program that reads the key on stdin.
	Run(ctx context.Context, argv ...string) ([]byte, error)
	// Escrow sends the key to the escrow of the node's config, if there is one. It
	// returns an error if the volumes must not be used without the escrow; other
	// failures are warnings.
	Escrow(ctx context.Context, volumes []recoverykey.Volume) error
	// Show shows the key on the console, and erases it from memory.
	Show(ctx context.Context) error
}

// mapping is the name of the mapping of the new COS_PERSISTENT while it is formatted.
const mapping = "kairos-reset-" + disk.LabelPersistent

// mapped returns the device node of a mapping.
func (n *Node) mapped(name string) string { return filepath.Join(n.Dev, "mapper", name) }

// encryption returns the kind of key slot of the new COS_PERSISTENT beside its recovery
// key, "" where the volume is not encrypted now: the TPM where the TPM opens it now,
// otherwise none, since no person can be asked. It is determined before anything is
// erased, and stored in the request.
func (n *Node) encryption(ctx context.Context) (string, error) {
	locked, err := isLUKS(n.Persistent)
	if err != nil || !locked {
		return "", err
	}
	v, err := n.status(ctx, n.Persistent)
	if err != nil && (ctx.Err() != nil || !isProgramError(err)) {
		return "", err
	}
	if err != nil {
		// A damaged header is no reason to store the data in the clear.
		n.Report.Warn("cannot read the key slots of %s, a TPM key slot will be added: %v", disk.LabelPersistent, err)
		return "tpm2", nil
	}
	kind := "none"
	for _, slot := range v.Slots {
		switch slot.Kind {
		case report.TPM2:
			kind = "tpm2"
		case report.Passphrase, report.Tang:
			n.Report.Warn("%s loses its key slot of kind %s: kairos-crypt enroll adds one", disk.LabelPersistent, slot.Kind)
		}
	}
	return kind, nil
}

// status returns the state of a volume by kairos-crypt.
func (n *Node) status(ctx context.Context, node string) (v report.Volume, err error) {
	answer, err := n.Run(ctx, recoverykey.Program, "status", "--json", node)
	if err != nil {
		return v, err
	}
	status, err := report.Parse[report.Crypt](recoverykey.Program+" status", answer)
	if err != nil || len(status.Volumes) != 1 {
		return v, &run.Error{Program: recoverykey.Program, Cause: "status: not about one volume"}
	}
	return status.Volumes[0], nil
}

// formatEncrypted creates a volume with a new key, and a file system in it. After an
// interruption it starts again with another key: the key that was shown last is valid.
func (n *Node) formatEncrypted(ctx context.Context, r request.Request) error {
	if err := n.closeLeftover(ctx); err != nil {
		return err
	}
	if err := n.Keeper.New(ctx); err != nil {
		return err
	}
	answer, err := n.Keeper.Run(ctx, recoverykey.FormatCommand(n.Persistent, disk.LabelPersistent, []string{r.Encrypted})...)
	if err != nil && ctx.Err() == nil && isProgramError(err) && r.Encrypted != "none" {
		n.Report.Warn("the TPM cannot be used, only the recovery key will open %s: %v", disk.LabelPersistent, err)
		answer, err = n.Keeper.Run(ctx, recoverykey.FormatCommand(n.Persistent, disk.LabelPersistent, []string{"none"})...)
	}
	if err != nil {
		return err
	}
	made, err := recoverykey.ParseFormatted(disk.LabelPersistent, answer)
	if err != nil {
		return err
	}
	oem, err := n.rotateOEM(ctx)
	if err != nil {
		return err
	}
	volumes := append([]recoverykey.Volume{made}, oem...)
	if err := n.Keeper.Escrow(ctx, volumes); err != nil {
		return err
	}
	if _, err := n.Keeper.Run(ctx, recoverykey.UnlockCommand(n.Persistent, mapping)...); err != nil {
		return err
	}
	_, err = n.Run(ctx, "mkfs.ext4", "-F", "-q", "-L", disk.LabelPersistent, n.mapped(mapping))
	_, closed := n.Run(context.WithoutCancel(ctx), recoverykey.Program, "close", "--quiet", mapping)
	if err := errors.Join(err, closed); err != nil {
		return err
	}
	return n.Keeper.Show(ctx)
}

// closeLeftover closes the mapping that a failed phase has left open.
func (n *Node) closeLeftover(ctx context.Context) error {
	if _, err := os.Lstat(n.mapped(mapping)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, err := n.Run(ctx, recoverykey.Program, "close", "--quiet", mapping)
	return err
}

// rotateOEM replaces the recovery key of COS_OEM by the new one, so that the node has
// one key. Where the TPM does not open COS_OEM for that, it keeps its old key.
func (n *Node) rotateOEM(ctx context.Context) ([]recoverykey.Volume, error) {
	if locked, err := isLUKS(n.OEM); err != nil || !locked {
		return nil, err
	}
	v, err := n.status(ctx, n.OEM)
	if err == nil && v.Now != report.Yes {
		err = &run.Error{Program: recoverykey.Program, Cause: "its TPM key slot does not open it now"}
	}
	if err == nil {
		_, err = n.Keeper.Run(ctx, recoverykey.Program, "rotate", "--json", "--quiet", "--recovery-key-file=-", n.OEM, "recovery-key")
	}
	if err != nil && ctx.Err() == nil && isProgramError(err) {
		n.Report.Warn("%s keeps its own recovery key: %v", disk.LabelOEM, err)
		return nil, nil
	}
	return []recoverykey.Volume{{Label: disk.LabelOEM, UUID: v.UUID}}, err
}

// oem returns the device node with the file system COS_OEM.
func (n *Node) oem() (string, error) {
	locked, err := isLUKS(n.OEM)
	if err != nil || !locked {
		return n.OEM, err
	}
	node := n.mapped(disk.LabelOEM)
	if _, err := os.Stat(node); err != nil {
		return "", fmt.Errorf("%s is locked: %w", disk.LabelOEM, err)
	}
	return node, nil
}
