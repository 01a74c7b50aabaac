package deploy

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/lib/kind"
)

// mayBeUnverified refuses a deployment whose contents the kernel would not check
// on a node where it has checked them so far: fs-verity doesn't go away by
// itself, and who takes it away wants to change files. Nobody but a person can
// say that it is meant so.
func (t *staging) mayBeUnverified() error {
	n := t.node
	verified := n.Booted.Verity || slices.ContainsFunc(t.list, func(d Deployment) bool { return d.Verity })
	if n.Store.Verity() || !verified || t.req.AllowUnverified {
		return nil
	}
	return kind.Errorf(ErrLostVerity, "store %s has lost fs-verity, which verified the contents of earlier deployments", n.Store.View().Path)
}

// warnUnsigned tells that a source is none that a signature policy knows.
func warnUnsigned(src source.Source, log *slog.Logger) {
	switch {
	case log == nil:
	case src.Kind == source.KindTree:
		log.Warn("a directory has no signature: containers-policy.json(5) does not apply to it", "source", src.Given)
	case src.Kind == source.KindStore:
		log.Info("a deployment in a store: containers-policy.json(5) was applied when its image was staged there, and is not applied now", "source", src.Given)
	}
}

// ErrUnsigned says that no signature policy applies to a source.
var ErrUnsigned = errors.New("the signature policy does not apply to a directory or a store")

// Judged returns ErrUnsigned for a source without a signature policy. It is for
// requests of users other than root: the permission to stage images does not include
// directories.
func Judged(given string) error {
	src, err := source.Parse(given)
	if err != nil || src.Kind == source.KindImage {
		return err
	}
	return fmt.Errorf("source %q: %w: only root may stage it", given, ErrUnsigned)
}
