// Package plan holds the steps of an installation as data: --dry-run prints the steps
// that would be executed.
//
// The boot loader is installed last. Until then no firmware starts anything from the
// disk, so that an interrupted installation leaves a disk that does not boot, and never
// one that boots a partial system.
package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/kairos-io/toolkit/kairos-install/internal/layout"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/progress"
	"github.com/kairos-io/toolkit/lib/run"
)

// Input holds everything that determines the steps.
type Input struct {
	Device string       // device node of the disk
	Table  layout.Table // as systemd-repart will create it
	Repart layout.Repart
	Mounts string // directory for mount points, in a private mount namespace
	Source string // image source for kairos-upgrade
	// Recovery is the image source of the recovery system, "" for the same image.
	Recovery string
	Title    string         // of the boot entries, "" for that of the image
	Extra    []layout.Extra // additional partitions from the config
	Kargs    []string       // the node's own kernel arguments
	Configs  []Config
	// Hooks says that kairos-config is available to run stages; it reads ConfigFiles
	// besides the configs of the running system.
	Hooks       bool
	ConfigFiles []string
	// Verity says that the kernel's ext4 supports fs-verity.
	Verity bool
	// Firmware says that boot options of the firmware can be written.
	Firmware bool
	// SecureBoot says that Secure Boot is enabled, or may be.
	SecureBoot bool
	// Encryption is nil where nothing is encrypted.
	Encryption *Encryption
}

// Config is a cloud-config for COS_OEM.
type Config struct {
	Name string // 90_custom.yaml
	From string // its source
	Data []byte
}

// Step is one step of an installation.
type Step struct {
	Name    string // for programs: "stage-state"
	Title   string // for people: "deploy the image on COS_STATE"
	Actions []Action
	// Optional steps only warn when they fail; the installation is complete without
	// them.
	Optional bool
}

// Action is one action of a step.
type Action interface {
	// String returns the action as --dry-run prints it: a command line where it is one.
	String() string
	Do(context.Context, Host) error
}

// Host executes the actions.
type Host struct {
	Runner run.Runner
	Disk   disk.System
	// Staged is called with the deployment on the store of a label. May be nil.
	Staged func(label string, s Staged)
	// Warn is called for a failure that the installation survives. May be nil.
	Warn func(format string, args ...any)
}

// LoaderConf is the content of loader/loader.conf.
const LoaderConf = `# No entry is named as the default: which one boots follows from the names of
# the entries alone, so that a bad one is passed over. See kairos(7).
timeout 3
`

// loaderConf returns LoaderConf, and disables the editor of the boot menu where
// something is encrypted or Secure Boot is on: otherwise a person at the console could
// start any program as init, and a TPM that measures only the state of the firmware
// would open the volumes.
func (in Input) loaderConf() string {
	if in.Encryption == nil && !in.SecureBoot {
		return LoaderConf
	}
	return LoaderConf + "editor no\n"
}

// Build returns the steps in the order of execution. The table has been checked: it has
// all partitions.
func Build(in Input) []Step {
	m := mountPoints{in.Mounts}
	lock := &deviceLock{device: in.Device}
	var steps []Step
	add := func(name, title string, actions ...Action) {
		steps = append(steps, Step{Name: name, Title: title, Actions: actions})
	}
	hook := func(stage string) {
		if in.Hooks {
			add("hook", "run the stage "+stage, Command{Argv: in.runStage(stage)})
		}
	}

	hook("kairos-install.pre")
	add("partition", "make and format the partitions of "+in.Device,
		Command{Argv: in.Repart.Argv(in.Device), Env: layout.Environment()},
		Hold{lock},
		Appear{in.Device, in.Table.Partitions})
	if in.Encryption != nil {
		volumes, escrow, fileSystems := in.encrypt()
		steps = append(steps, volumes)
		if in.Encryption.Escrow.Set() {
			steps = append(steps, escrow)
		}
		steps = append(steps, fileSystems)
	}
	if formats := in.formats(); len(formats) > 0 {
		add("format", "make the file systems that have another label than their partition", formats...)
	}
	if in.Verity {
		add("verity", "enable fs-verity on the stores",
			Verity{in.node(disk.LabelRecovery)}, Verity{in.node(disk.LabelState)})
	}
	add("mount", "mount the partitions, visible to this program only",
		append(in.mounts(m), Release{lock})...)
	hook("before-install")
	if len(in.Configs) > 0 {
		add("config", "put the node's config on COS_OEM", in.configs(m)...)
	}
	add("stage-state", "deploy the image on COS_STATE",
		Stage{in.stage(m, disk.LabelState, in.Source, "--store-label="+disk.LabelState), disk.LabelState, in.Encryption})
	// From the store just made, so that nothing is fetched twice; every object
	// is compared with its digest on the way.
	recovery, what := "store:"+m.of(disk.LabelState), "deploy the same image on COS_RECOVERY"
	if in.Recovery != "" {
		recovery, what = in.Recovery, "deploy the image for recovery on COS_RECOVERY"
	}
	add("stage-recovery", what, Stage{in.stage(m, disk.LabelRecovery, recovery, "--recovery"), disk.LabelRecovery, in.Encryption})
	if in.Hooks {
		// It reads the config that is on COS_OEM by now.
		steps = append(steps, Step{Name: "chroot-hook", Title: "run the stage after-install-chroot in the new system", Optional: true, Actions: []Action{
			Command{Argv: []string{"kairos-upgrade", "run-hook", "--store=" + m.of(disk.LabelState), "--esp=" + m.of(disk.LabelESP),
				"--oem=" + m.of(disk.LabelOEM), "--local=", "after-install-chroot"}}}})
	}
	hook("after-install")
	add("check", "check what will boot", Entries{m.of(disk.LabelESP)})
	loader := []Action{
		Write{m.of(disk.LabelESP) + "/loader/loader.conf", 0o644, []byte(in.loaderConf())},
		Sync{m.of(disk.LabelESP)},
		BootLoader{m.of(disk.LabelESP), in.Firmware},
		Sync{m.of(disk.LabelESP)},
	}
	if in.Firmware {
		loader = append(loader, Next{in.node(disk.LabelESP)})
	}
	add("boot-loader", "install systemd-boot", loader...)
	complete := len(steps)
	add("finish", "unmount and write everything out", in.unmounts(m)...)
	add("settle", "let udev find the new partitions",
		Command{Argv: []string{"udevadm", "settle", "--timeout=60"}})
	hook("kairos-install.after")
	for i := range steps[complete:] {
		steps[complete+i].Optional = steps[complete+i].Name != "finish"
	}
	return steps
}

// mountPoints maps labels to mount points beneath a directory.
type mountPoints struct{ base string }

func (m mountPoints) of(label string) string {
	return path.Join(m.base, strings.ToLower(strings.TrimPrefix(label, "COS_")))
}

// mounted are the partitions that the installation writes to, and their mount
// options, with those for ext4: the node itself shall write the inode tables that
// nobody has used yet, when it has nothing else to do.
var mounted = []struct{ label, options, ext string }{
	{disk.LabelESP, "nodev,nosuid,noexec,umask=0077", ""},
	{disk.LabelOEM, "nodev,nosuid,noexec", ""},
	{disk.LabelRecovery, "nodev,nosuid,noexec,noatime", "noinit_itable"},
	{disk.LabelState, "nodev,nosuid,noexec,noatime", "noinit_itable"},
}

func (in Input) node(label string) string {
	p, _ := in.Table.Find(label)
	return p.Node
}

func (in Input) mounts(m mountPoints) []Action {
	var actions []Action
	for _, p := range mounted {
		node := in.node(p.label)
		if in.Encryption.Has(p.label) {
			node = mapped(p.label)
		}
		actions = append(actions, Mount{node, m.of(p.label), p.options, p.ext})
	}
	return actions
}

func (in Input) unmounts(m mountPoints) []Action {
	var actions []Action
	for _, p := range mounted {
		actions = append(actions, Command{Argv: []string{"umount", m.of(p.label)}})
	}
	return append(append(actions, in.closing()...), Flush{in.Device})
}

func (in Input) configs(m mountPoints) []Action {
	var actions []Action
	for _, c := range in.Configs {
		actions = append(actions, Write{path.Join(m.of(disk.LabelOEM), c.Name), 0o600, c.Data})
	}
	return append(actions, Sync{m.of(disk.LabelOEM)})
}

// formats returns the commands for the file systems of additional partitions whose file
// system label differs from the partition label, which systemd-repart cannot create.
func (in Input) formats() []Action {
	var actions []Action
	for _, e := range in.Extra {
		label := cmp.Or(e.Label, e.Name)
		if e.Format == "" || label == e.Name || in.Encryption.Has(e.Name) {
			continue
		}
		argv := []string{"mkfs." + e.Format, "-L", label}
		switch e.Format {
		case "vfat", "fat":
			argv = []string{"mkfs.vfat", "-n", label}
		case "swap":
			argv = []string{"mkswap", "-L", label}
		case "ext2", "ext3", "ext4":
			argv = append(argv, "-q", "-F")
		case "xfs", "btrfs":
			argv = append(argv, "-f")
		}
		actions = append(actions, Command{Argv: append(argv, in.node(e.Name))})
	}
	return actions
}

// stage returns the command that deploys an image to a store.
func (in Input) stage(m mountPoints, label, source, more string) Command {
	argv := []string{"kairos-upgrade", "stage", "--json", "--origin=install",
		"--store=" + m.of(label), "--esp=" + m.of(disk.LabelESP), more}
	for _, k := range in.Kargs {
		argv = append(argv, "--karg="+k)
	}
	if in.Title != "" {
		argv = append(argv, "--title="+in.Title)
	}
	return Command{Argv: append(argv, source)}
}

func (in Input) runStage(stage string) []string {
	argv := []string{"kairos-config", "run-stage"}
	for _, f := range in.ConfigFiles {
		argv = append(argv, "--config="+f)
	}
	return append(argv, stage)
}

// Print writes the steps as --dry-run shows them.
func Print(w io.Writer, steps []Step) {
	for i, s := range steps {
		optional := ""
		if s.Optional {
			optional = " (a failure is a warning)"
		}
		fmt.Fprintf(w, "%2d. %s%s\n", i+1, s.Title, optional)
		for _, a := range s.Actions {
			fmt.Fprintf(w, "      %s\n", a)
		}
	}
}

// ErrUnfinished is returned when a step failed after the disk was touched.
var ErrUnfinished = errors.New("the disk does not boot: the installation is unfinished")

// Run executes the steps. Its error names the failed step.
func Run(ctx context.Context, host Host, steps []Step, report *progress.Reporter) error {
	report.Steps = len(steps)
	touched, boots := false, false
	for _, s := range steps {
		done := report.Step(s.Name, s.Title)
		touched = touched || s.Name == "partition"
		if err := s.run(ctx, host); err != nil {
			err = fmt.Errorf("%s: %w", s.Title, err)
			switch {
			case s.Optional && ctx.Err() == nil:
				report.Warn("%v", err)
				continue
			case touched && !boots:
				return fmt.Errorf("%w (%w)", err, ErrUnfinished)
			}
			return err
		}
		boots = boots || s.Name == "boot-loader"
		done()
	}
	return nil
}

func (s Step) run(ctx context.Context, host Host) error {
	for _, a := range s.Actions {
		if err := ctx.Err(); err != nil {
			return ctx.Err()
		}
		if err := a.Do(ctx, host); err != nil {
			return err
		}
	}
	return nil
}
