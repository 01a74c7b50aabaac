package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kairos-io/toolkit/tests/oci"
)

// extraPackage is what v2 has and v1 has not. It is fetched together with the base packages, so that
// both come from the same state of the archive.
const extraPackage = "hello"

// installExtra installs the package that lies in the root of the tree, and leaves nothing else behind.
const installExtra = `
dpkg -i /extra.deb >/dev/null
rm -rf /extra.deb /var/log/* /var/cache/ldconfig/aux-cache /var/lib/dpkg/*-old
`

// buildNext makes the layer that turns v1 into v2.
func buildNext(ctx context.Context, base base, report func(string)) (oci.Layer, error) {
	files := release("v2")
	key := hashOf(base.layer.Digest.String(), installExtra, fmt.Sprint(files))
	dir, err := cached("next-"+key, func(dir string) error {
		report("installing the package that v2 adds")
		return derive(ctx, dir, "v2: "+extraPackage, base.tree, func(root string) error {
			for name, content := range files {
				if err := writeFile(root, name, content); err != nil {
					return err
				}
			}
			if err := os.Link(base.extra, filepath.Join(root, "extra.deb")); err != nil {
				return err
			}
			return chroot(ctx, root, installExtra)
		})
	})
	if err != nil {
		return oci.Layer{}, fmt.Errorf("build the layer of v2: %w", err)
	}
	return oci.OpenLayer(filepath.Join(dir, "layer"))
}

// failingCheck is what makes v3 a bad version.
const failingCheck = `#!/bin/sh
echo "the database does not answer (v3 is made to fail)"
exit 1
`

// FailureReason is what v3's failing check says.
const FailureReason = "the database does not answer"

// FailingCheck is the name of v3's failing check.
const FailingCheck = "60-database"

// buildFailing makes the layer that turns v2 into v3.
func buildFailing() (oci.Layer, error) {
	work, err := os.MkdirTemp("", "kairos-failing-")
	if err != nil {
		return oci.Layer{}, err
	}
	defer os.RemoveAll(work)
	files := release("v3")
	files["usr/lib/kairos/checks/required.d/"+FailingCheck] = failingCheck
	for name, content := range files {
		if err := writeFile(work, name, content); err != nil {
			return oci.Layer{}, err
		}
	}
	return layerOf("failing", work)
}
