package record

import (
	"context"

	"github.com/kairos-io/toolkit/tests/story"
)

// variants are images that bring an initrd of their own, beside those that the world has.
var variants = []string{"cut-1", "cut-2", "cut-3"}

// push puts the variants into the registry, and returns the layout that has them.
func push(ctx context.Context, w *story.World) (layout string, err error) {
	layout, err = w.Cached("variants", func(path string) error {
		w.Report("making images that differ in their initrd")
		return w.Images.Variants(path, variants...)
	})
	if err != nil {
		return "", err
	}
	layout = "oci:" + layout
	for _, name := range variants {
		if err := w.Registry.Push(ctx, layout+":"+name, story.Repository+":"+name); err != nil {
			return "", err
		}
	}
	return layout, nil
}
