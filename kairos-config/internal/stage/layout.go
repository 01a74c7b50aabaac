package stage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/partition"
	"github.com/kairos-io/toolkit/lib/disk"
	programs "github.com/kairos-io/toolkit/lib/run"
)

// layout adds partitions to a disk of this machine, and grows its last one.
func (r *run) layout(ctx context.Context) {
	l := r.step.Spec.Layout
	if l.Expand == nil && len(l.Parts) == 0 {
		return
	}
	if !r.Node {
		r.fail(errors.New("layout: works in the running system only"))
		return
	}
	device, err := r.layoutDevice(ctx)
	if err != nil {
		r.fail(fmt.Errorf("layout: %w", err))
		return
	}
	changed, err := partition.Apply(ctx, r.Root.Path(), device, l)
	r.changed(changed...)
	if err != nil {
		r.fail(fmt.Errorf("layout of %s: %w", device, err))
	}
}

// layoutDevice returns the device node of the disk that is meant.
func (r *run) layoutDevice(ctx context.Context) (string, error) {
	label := disk.LabelState
	if d := r.step.Spec.Layout.Device; d != nil {
		if command, ok := strings.CutPrefix(d.Path, "script://"); ok {
			return r.scriptDevice(ctx, command)
		}
		if d.Path != "" {
			return d.Path, nil
		}
		if d.Label != "" {
			label = d.Label
		}
	}
	p, err := disk.Local().Find(label)
	if err != nil {
		return "", err
	}
	return "/dev/" + p.Disk, nil
}

// scriptDevice asks a program beneath the root, with its arguments, for the disk:
// what it prints on stdout.
func (r *run) scriptDevice(ctx context.Context, command string) (string, error) {
	argv := strings.Fields(command)
	program := programs.Runner{Root: r.Root.Path(), Dir: "/", Env: append(commandEnvironment(), r.Env...), Drain: drain}
	out, err := program.Output(ctx, argv...)
	if err != nil {
		return "", err
	}
	device := strings.TrimSpace(string(out))
	if !strings.HasPrefix(device, "/dev/") || strings.ContainsAny(device, "\n\x00") {
		return "", fmt.Errorf("%s printed no device: %q", argv[0], device)
	}
	return device, nil
}
