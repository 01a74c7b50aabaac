package plan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-install/internal/layout"
	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/recoverykey"
	"github.com/kairos-io/toolkit/lib/run"
)

// MappingPrefix is the prefix of the mappings of volumes during an installation. It
// differs from the names on a booted node, since the live system may be a node itself,
// on another disk.
const MappingPrefix = "kairos-install-"

// Encryption holds the settings of the encryption and, once the volumes exist, their
// key. All volumes of a node have one recovery key.
type Encryption struct {
	Labels     []string // of the partitions
	Kinds      []string // kinds of key slots beside the recovery key
	Passphrase string   // file, for the kind passphrase
	Options    []string // further options of kairos-crypt format
	Save       string   // file for the recovery key, "" for none
	Escrow     recoverykey.Escrow
	Hostname   string // name of the node for the escrow

	Key     *recoverykey.Key     // nil until it is generated
	Volumes []recoverykey.Volume // created so far
	nodes   []string             // device nodes of the volumes
	Given   bool                 // the escrow has accepted the key
	opened  []string             // labels of the opened volumes
}

// Has reports whether a partition is encrypted.
func (e *Encryption) Has(label string) bool { return e != nil && slices.Contains(e.Labels, label) }

// FormatCommand returns the command that creates the volume of a partition.
func (e *Encryption) FormatCommand(label, node string, options ...string) []string {
	options = append(slices.Clone(e.Options), options...)
	if e.Passphrase != "" {
		options = append(options, "--new-key-file="+e.Passphrase)
	}
	return recoverykey.FormatCommand(node, label, e.Kinds, options...)
}

// mapped returns the device node of an opened volume.
func mapped(label string) string { return "/dev/mapper/" + MappingPrefix + label }

// Abandon closes the volumes that a failed installation has left open. The mounts are
// in the program's own mount namespace, and their data is useless.
func (e *Encryption) Abandon(ctx context.Context, runner run.Runner, mounts string) error {
	if e == nil {
		return nil
	}
	e.Key.Wipe()
	ctx = context.WithoutCancel(ctx)
	var failed error
	for _, label := range e.opened {
		// It need not be mounted.
		_, _ = runner.Output(ctx, "umount", mountPoints{mounts}.of(label))
		failed = errors.Join(failed, closeMapping(label).Do(ctx, Host{Runner: runner}))
	}
	return failed
}

// encrypt returns the steps that create the volumes and, once the key is stored safely,
// their file systems.
func (in Input) encrypt() (volumes, escrow, fileSystems Step) {
	e := in.Encryption
	volumes = Step{Name: "encrypt", Title: "make encrypted volumes of " + strings.Join(e.Labels, " and "),
		Actions: []Action{newKey{e}}}
	for _, label := range e.Labels {
		volumes.Actions = append(volumes.Actions, formatVolume{Command{Argv: e.FormatCommand(label, in.node(label))}, label, in.node(label), e})
	}
	if e.Save != "" {
		volumes.Actions = append(volumes.Actions, saveKey{e})
	}
	escrow = Step{Name: "escrow", Title: "hand the recovery key over",
		Actions: []Action{giveKey{e}}, Optional: !e.Escrow.Required}
	fileSystems = Step{Name: "encrypted-file-systems", Title: "make file systems in the encrypted volumes"}
	for _, label := range e.Labels {
		fileSystems.Actions = append(fileSystems.Actions,
			openVolume{Command{Argv: recoverykey.UnlockCommand(in.node(label), MappingPrefix+label)}, label, e},
			Command{Argv: []string{"mkfs.ext4", "-F", "-q", "-E", layout.Ext4Lazy, "-L", label, mapped(label)}})
		if !isMounted(label) {
			fileSystems.Actions = append(fileSystems.Actions, closeVolume{closeMapping(label), label, e})
		}
	}
	return volumes, escrow, fileSystems
}

func isMounted(label string) bool {
	return slices.ContainsFunc(mounted, func(p struct{ label, options, ext string }) bool { return p.label == label })
}

// closing returns the actions that close the mounted volumes.
func (in Input) closing() (actions []Action) {
	if in.Encryption == nil {
		return nil
	}
	for _, label := range in.Encryption.Labels {
		if isMounted(label) {
			actions = append(actions, closeVolume{closeMapping(label), label, in.Encryption})
		}
	}
	return actions
}

func closeMapping(label string) Command {
	return Command{Argv: []string{recoverykey.Program, "close", "--quiet", MappingPrefix + label}}
}

// newKey generates the recovery key.
type newKey struct{ e *Encryption }

func (newKey) String() string { return recoverykey.Program + " recovery-key new" }

func (n newKey) Do(ctx context.Context, h Host) (err error) {
	n.e.Key, err = recoverykey.New(ctx, h.Runner)
	return err
}

// formatVolume creates a volume; the command reads the recovery key on stdin.
type formatVolume struct {
	Command
	label string
	node  string
	e     *Encryption
}

func (f formatVolume) Do(ctx context.Context, h Host) error {
	answer, err := f.e.Key.Run(ctx, h.Runner, f.Argv...)
	if err != nil {
		return err
	}
	made, err := recoverykey.ParseFormatted(f.label, answer)
	f.e.Volumes = append(f.e.Volumes, made)
	f.e.nodes = append(f.e.nodes, f.node)
	return err
}

// openVolume maps a volume with the recovery key, which also tests the key.
type openVolume struct {
	Command
	label string
	e     *Encryption
}

func (o openVolume) Do(ctx context.Context, h Host) error {
	_, err := o.e.Key.Run(ctx, h.Runner, o.Argv...)
	if err == nil || ctx.Err() != nil { // interrupted, it may have been opened
		o.e.opened = append(o.e.opened, o.label)
	}
	return err
}

type closeVolume struct {
	Command
	label string
	e     *Encryption
}

func (c closeVolume) Do(ctx context.Context, h Host) error {
	if err := c.Command.Do(ctx, h); err != nil {
		return err
	}
	c.e.opened = slices.DeleteFunc(c.e.opened, func(l string) bool { return l == c.label })
	return nil
}

// saveKey writes the recovery key to a new file, readable by its owner alone.
type saveKey struct{ e *Encryption }

func (s saveKey) String() string { return "write the recovery key to " + quote(s.e.Save) }

func (s saveKey) Do(context.Context, Host) error {
	f, err := os.OpenFile(s.e.Save, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the recovery key: %w", err)
	}
	err = errors.Join(s.e.Key.Write(f), f.Sync(), f.Close())
	if dir, opened := os.Open(path.Dir(s.e.Save)); opened == nil {
		err = errors.Join(err, atomicfile.SyncFS(dir), dir.Close())
	}
	return err
}

// giveKey sends the recovery key to the escrow.
type giveKey struct{ e *Encryption }

func (g giveKey) String() string {
	return "send the recovery key to " + g.e.Escrow.String() + ", with the UUIDs of the volumes"
}

func (g giveKey) Do(ctx context.Context, h Host) error {
	err := g.e.Escrow.Give(ctx, h.Runner, g.e.Key, g.e.Hostname, g.e.Volumes)
	g.e.Given = err == nil
	return err
}

// CheckLabels returns an error for partitions that cannot be encrypted, since the node
// boots from them.
func CheckLabels(labels []string) error {
	for i, label := range labels {
		switch {
		case slices.Contains([]string{disk.LabelESP, disk.LabelState, disk.LabelRecovery}, label):
			return fmt.Errorf("%s can't be encrypted: the node boots from it, and its content is verified instead", label)
		case slices.Contains(labels[:i], label):
			return fmt.Errorf("%s is named twice", label)
		}
	}
	return nil
}
