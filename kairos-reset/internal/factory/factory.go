// Package factory brings a node back to its factory state, from its recovery system.
//
// The work is a sequence of phases. Each can be repeated from its start, whatever an
// earlier attempt left behind, and is recorded when it is done: a reset that is
// interrupted at any moment continues with the interrupted phase, and has the same
// result.
package factory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"github.com/kairos-io/toolkit/kairos-reset/internal/request"
	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"
)

// Journal records the progress of a reset. request.ESP implements it.
type Journal interface {
	Hold() error // until Finish, every boot continues the reset
	Write(request.Request) error
	Finish() error
}

// Run runs a program and returns its stdout: run.Runner.
type Run func(ctx context.Context, argv ...string) ([]byte, error)

// Report reports the progress to people: progress.Reporter.
type Report interface {
	Step(name, text string) (done func())
	Warn(format string, args ...any)
}

// Node is the node that is reset.
type Node struct {
	State, Persistent, OEM string             // device nodes
	ESP                    *os.Root           // the mounted EFI system partition
	ESPPath                string             // its mount point
	Store                  string             // mount point of the recovery system's own store
	Work                   string             // an empty directory for mount points
	Kargs                  []string           // the node's own kernel arguments, kept
	Title                  string             // the node's title for the boot menu, kept
	Volumes                deployment.Volumes // the node's encrypted volumes
	Verity                 bool               // the kernel's ext4 supports fs-verity
	Dev                    string             // a devtmpfs, with udev's links
	Keeper                 Keeper             // keeper of the new recovery key, where COS_PERSISTENT is encrypted
	Run                    Run
	Journal                Journal
	Report                 Report
}

// Step is a phase with its description and function.
type Step struct {
	Phase request.Phase
	Text  string
	do    func(context.Context) error
}

// Steps returns the phases of a request in the order of execution.
func (n *Node) Steps(r request.Request) []Step {
	source := r.Image
	if source == "" {
		source = "store:" + n.Store
	}
	format := "make new file systems " + disk.LabelState + " and " + disk.LabelPersistent
	if r.KeepPersistent {
		format = "make a new file system " + disk.LabelState + ", and keep " + disk.LabelPersistent
	}
	if r.Encrypted != "" {
		format += ", encrypted"
	}
	steps := []Step{
		{request.Before, "run the stage before-reset of the node's config", n.stageOfConfig("before-reset")},
		{request.Erase, "remove the boot entries of all deployments, and erase keys and file systems", func(ctx context.Context) error { return n.erase(ctx, r) }},
		{request.Format, format, func(ctx context.Context) error { return n.format(ctx, r) }},
	}
	if r.OEM {
		steps = append(steps, Step{request.Clear, "clear the node's config on " + disk.LabelOEM, n.clearOEM})
	}
	return append(steps, []Step{
		{request.Stage, "deploy " + source, func(ctx context.Context) error { return n.stage(ctx, source) }},
		{request.After, "run the stage after-reset of the node's config", n.stageOfConfig("after-reset")},
	}...)
}

// Reset does the remaining phases of a request, and ends it. As it runs in the recovery
// system, it first records that the recovery system boots.
func (n *Node) Reset(ctx context.Context, r request.Request) error {
	if err := n.Journal.Hold(); err != nil {
		return err
	}
	if !r.Begun() && !r.KeepPersistent {
		var err error
		if r.Encrypted, err = n.encryption(ctx); err != nil {
			return err
		}
	}
	for _, s := range n.Steps(r) {
		if r.Has(s.Phase) {
			continue
		}
		done := n.Report.Step(string(s.Phase), s.Text)
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.Text, err)
		}
		r.Done = s.Phase
		if err := n.Journal.Write(r); err != nil {
			return err
		}
		done()
	}
	// The last look before the recovery stops being what boots.
	if err := n.bootable(); err != nil {
		return err
	}
	return n.Journal.Finish()
}

// stageOfConfig runs a stage of the node's config. A failing stage does not stop a
// reset, which may be the cure for the config.
func (n *Node) stageOfConfig(stage string) func(context.Context) error {
	return func(ctx context.Context) error { return n.warned(ctx, stage, "kairos-config", "run-stage", stage) }
}

// warned runs a program for a stage, whose failure is a warning.
func (n *Node) warned(ctx context.Context, stage string, argv ...string) error {
	_, err := n.Run(ctx, argv...)
	if err != nil && ctx.Err() == nil && isProgramError(err) {
		n.Report.Warn("stage %s: %v", stage, err)
		return nil
	}
	return err
}

// erase removes first the boot entries, then the keys, then the file systems.
func (n *Node) erase(ctx context.Context, r request.Request) error {
	if err := n.removeDeployments(); err != nil {
		return err
	}
	erased := []string{n.State}
	if !r.KeepPersistent {
		erased = []string{n.Persistent, n.State}
	}
	for _, node := range erased {
		if err := EraseKeys(ctx, n.Run, node); err != nil {
			return err
		}
	}
	for _, node := range erased {
		if _, err := n.Run(ctx, "wipefs", "--all", "--force", "--quiet", node); err != nil {
			return err
		}
	}
	return nil
}

// removeDeployments removes the boot entries of deployments. It leaves their kernels,
// which the new deployment may need; kairos-upgrade removes those that no entry names.
func (n *Node) removeDeployments() error {
	esp := bls.ESP{Root: n.ESP}
	entries, err := esp.Entries()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, ours := deployment.IDOfEntry(e.Name.Base); !ours {
			continue
		}
		if err := esp.Remove(e.Name.Base); err != nil {
			return err
		}
	}
	return nil
}

// format creates the same file systems as kairos-install: with the label of the
// partition, and with fs-verity for the store.
func (n *Node) format(ctx context.Context, r request.Request) error {
	state := []string{"mkfs.ext4", "-F", "-q", "-L", disk.LabelState}
	if n.Verity {
		state = append(state, "-O", "verity")
	}
	if _, err := n.Run(ctx, append(state, n.State)...); err != nil {
		return err
	}
	switch {
	case r.KeepPersistent:
		return nil
	case r.Encrypted != "":
		return n.formatEncrypted(ctx, r)
	}
	_, err := n.Run(ctx, "mkfs.ext4", "-F", "-q", "-L", disk.LabelPersistent, n.Persistent)
	return err
}

// clearOEM removes the node's config. The recovery system has COS_OEM mounted, so it
// removes the files instead of formatting. This is a separate phase, since until then
// the config says who gets the recovery key of the formatted volume.
func (n *Node) clearOEM(ctx context.Context) error {
	node, err := n.oem()
	if err != nil {
		return err
	}
	return n.mounted(ctx, node, "oem", func(dir string) error {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		return clear(root)
	})
}

// clear removes everything in a directory but lost+found.
func clear(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("clear the node's config: %w", err)
	}
	for _, name := range names {
		if name == "lost+found" {
			continue
		}
		if err := root.RemoveAll(name); err != nil {
			return fmt.Errorf("clear the node's config: %w", err)
		}
	}
	return atomicfile.SyncFS(dir)
}

// stage deploys the image. kairos-upgrade reports that the image is deployed already
// when an earlier attempt was interrupted between the end of kairos-upgrade and the
// journal.
func (n *Node) stage(ctx context.Context, source string) error {
	return n.mounted(ctx, n.State, "state", func(dir string) error {
		argv := []string{"kairos-upgrade", "stage", "--json", "--origin=reset", "--store=" + dir, "--esp=" + n.ESPPath}
		if n.Title != "" {
			argv = append(argv, "--title="+n.Title)
		}
		for _, k := range n.Kargs {
			argv = append(argv, "--karg="+k)
		}
		_, err := n.Run(ctx, append(append(argv, n.crypt()...), source)...)
		if err != nil && exit.Code(err) != exit.Nothing {
			return err
		}
		if err := n.bootable(); err != nil {
			return err
		}
		return n.warned(ctx, "after-reset-chroot", "kairos-upgrade", "run-hook", "--store="+dir, "--esp="+n.ESPPath, "--local=", "after-reset-chroot")
	})
}

// crypt returns the node's encrypted volumes from now on: the one that the reset has
// created, and that of COS_OEM, which the node had before.
func (n *Node) crypt() (options []string) {
	for _, v := range []struct{ label, node string }{{disk.LabelOEM, n.OEM}, {disk.LabelPersistent, n.Persistent}} {
		uuid, err := disk.Volume(v.node)
		if err != nil {
			n.Report.Warn("cannot determine whether %s is encrypted: %v", v.label, err)
		}
		if known := n.Volumes[v.label]; known != "" && v.label == disk.LabelOEM {
			uuid = known
		}
		if uuid != "" {
			options = append(options, "--crypt="+v.label+":"+uuid)
		}
	}
	return options
}

// mounted mounts a device while a function runs.
func (n *Node) mounted(ctx context.Context, node, name string, work func(dir string) error) error {
	dir := path.Join(n.Work, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	if _, err := n.Run(ctx, "mount", "-t", "ext4", "-o", "nodev,nosuid,noexec,noatime", node, dir); err != nil {
		return err
	}
	err := work(dir)
	_, unmounted := n.Run(context.WithoutCancel(ctx), "umount", dir)
	return errors.Join(err, unmounted)
}

// bootable checks that there is a new deployment, with its boot entry and boot files.
func (n *Node) bootable() error {
	entries, err := bls.ESP{Root: n.ESP}.Entries()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(entries, func(e bls.Entry) bool {
		_, ours := deployment.IDOfEntry(e.Name.Base)
		return ours && e.Name.State() != bls.Bad
	})
	if i < 0 {
		return errors.New("there is no new deployment: the reset is not finished")
	}
	for _, file := range entries[i].Files() {
		if info, err := n.ESP.Stat(file); err != nil {
			return fmt.Errorf("boot entry %s: %w", entries[i].Name, err)
		} else if info.Size() == 0 {
			return fmt.Errorf("boot entry %s: %s is empty", entries[i].Name, file)
		}
	}
	return nil
}
