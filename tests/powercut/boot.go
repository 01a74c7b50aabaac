package powercut

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/tests/powercut/record"
	"github.com/kairos-io/toolkit/tests/powercut/writelog"
	"github.com/kairos-io/toolkit/tests/story"
	"github.com/kairos-io/toolkit/tests/vm"
)

// Export writes the disk that a cut leaves to a file, to boot a machine from.
func Export(ctx context.Context, r *record.Recording, cut writelog.Cut, path string) error {
	return withDisk(ctx, r, nil, func(c *cutter) error {
		if err := c.disk.Cut(cut); err != nil {
			return err
		}
		return c.disk.Export(path)
	})
}

// Boot starts a machine from the disk that a cut leaves. It must come up and run something whole, and the
// operation, done once more, must end well.
func Boot(ctx context.Context, w *story.World, r *record.Recording, o record.Operation, cut writelog.Cut, dir string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("boot after %s in %s: %w", cut, o.Name, err)
		}
	}()
	if err := vm.Copy(ctx, r.Dir, dir); err != nil {
		return err
	}
	raw := filepath.Join(dir, "cut.raw")
	if err := Export(ctx, r, cut, raw); err != nil {
		return err
	}
	defer os.Remove(raw)
	node, err := w.FromDisk(ctx, dir, raw)
	if err != nil {
		return err
	}
	defer node.Close()
	if err := node.Start(ctx); err != nil {
		return err
	}
	if err := settled(ctx, node); err != nil {
		return err
	}
	return again(ctx, node, o)
}

// settled waits until the node has booted and, if that was the recovery system for a reset, until the new
// node has.
func settled(ctx context.Context, node *story.Node) error {
	boot := node.Machine.Boots()
	err := node.ReadyAt(ctx, boot)
	if err != nil && !errors.Is(err, vm.ErrInterrupted) {
		return err
	}
	if err == nil {
		booted, err := node.Booted(ctx)
		if err != nil && !errors.Is(err, vm.ErrInterrupted) {
			return err
		}
		if err == nil && booted.Mode != deployment.Recovery {
			return nil
		}
	}
	return node.ReadyAt(ctx, boot+1)
}

// again does the operation once more: it is done (exit status 3 says that it was), and nothing is damaged.
func again(ctx context.Context, node *story.Node, o record.Operation) error {
	if _, err := node.Machine.Output(ctx, "kairos-upgrade verify"); err != nil {
		return fmt.Errorf("before the operation is done again: %w", err)
	}
	reboots := slices.Contains(o.Passing, deployment.ResetEntry)
	next := node.Machine.Boots() + 1
	script := strings.ReplaceAll(o.Again, record.RegistryHost, node.World.Registry.Host())
	result, err := node.Machine.Run(ctx, script)
	if err != nil && !(reboots && errors.Is(err, vm.ErrInterrupted)) {
		return err
	}
	if err == nil && result.Status != 0 && result.Status != 3 {
		return &vm.StatusError{Script: script, Result: result}
	}
	if reboots {
		if err := node.ReadyAt(ctx, next+1); err != nil {
			return err
		}
	}
	// The kernel makes a file system read-only in which it finds what it can't explain.
	_, err = node.Machine.Output(ctx, `set -e
kairos-upgrade verify
kairos-upgrade gc || [ $? = 3 ]
kairos-upgrade verify
findmnt --noheadings --types vfat --output OPTIONS /efi | grep -w rw`)
	return err
}
