package stage

import (
	"context"
	"errors"
	"fmt"

	"github.com/kairos-io/toolkit/kairos-config/internal/partition"
	"github.com/kairos-io/toolkit/lib/disk"
)

// layout adds partitions to a disk of this machine, and grows its last one.
func (r *run) layout(ctx context.Context) {
	l := r.step.Spec.Layout
	if l.Expand == nil && len(l.Parts) == 0 {
		return
	}
	if !r.Node {
		r.fail(errors.New("layout: only of the machine that runs, not of an image"))
		return
	}
	device, err := r.layoutDevice()
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
func (r *run) layoutDevice() (string, error) {
	label := disk.LabelState
	if d := r.step.Spec.Layout.Device; d != nil {
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
