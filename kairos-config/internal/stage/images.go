package stage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/mask"
	program "github.com/kairos-io/toolkit/lib/run"
)

// unpackImages has kairos-upgrade(8) unpack images, with the signature policy,
// mirrors and credentials of the system: the libraries for that are four times
// the size of this program, which lies in the initrd. What is there already is
// known by its digest.
func (r *run) unpackImages(ctx context.Context) {
	for _, u := range r.step.Spec.UnpackImages {
		err := r.unpack(ctx, u)
		switch {
		case err == nil:
			r.changed(u.Target)
		case exit.Code(err) != exit.Nothing:
			r.fail(fmt.Errorf("unpack_images: %w", err))
		}
	}
}

func (r *run) unpack(ctx context.Context, u schema.UnpackImage) error {
	if !r.Booted {
		return fmt.Errorf("%s: %w", u.Source, errors.New("works in the running system only, which has a network and kairos-upgrade"))
	}
	if mask.URL(u.Source) != u.Source {
		return fmt.Errorf("%s: everybody could read a login in the reference: write it to containers-auth.json(5)", mask.URL(u.Source))
	}
	if _, err := r.Root.Mkdir(u.Target, rootfs.KeepAll); err != nil {
		return err
	}
	// kairos-upgrade resolves the path once more, as root: whoever may change a
	// directory on the way could put a link there meanwhile.
	if owned, err := r.Root.Owned(u.Target); err != nil || owned {
		return cmp.Or(err, fmt.Errorf("%s: other users than root can change it or its path: unpack beneath a directory of root", u.Target))
	}
	argv := []string{"kairos-upgrade", "unpack", "--json", "--quiet"}
	if u.Platform != "" {
		argv = append(argv, "--platform", u.Platform)
	}
	_, err := program.Runner{}.Output(ctx, append(argv, "--", u.Source, path.Join(r.Root.Path(), u.Target))...)
	return err
}
