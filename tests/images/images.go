// Package images builds the container images that the tests and the demo install: Debian 13 in
// layers, in three versions, without a container daemon.
//
//	v1  base packages, toolkit (with the initrd), site
//	v2  v1, one package more and one file changed
//	v3  v2, with a required health check that fails
//
// The layers depend on their inputs alone: the recipe, the state of Debian's archive on the day when
// the base was made, and what `make install` installs. Each is kept in .cache under a hash of its
// inputs, so that a changed toolkit leaves the base as it is.
package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/tests/oci"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// epoch is the newest time that a file of an image may carry.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// layoutName is the folder of the image layout, which nodes see as the name of their image.
const layoutName = "kairos-test-node"

// Set is what Build has built.
type Set struct {
	Layout string // directory of the OCI image layout that holds v1, v2 and v3
	Key    string // another one when anything in an image is another one
	Base   string // directory with the tree of the base layer
	Kernel string // version of the kernel
	Layers []oci.Layer
}

// Build builds all images, or takes from the cache what is there. It reports what takes time.
func Build(ctx context.Context, report func(string)) (*Set, error) {
	unlock, err := workspace.Lock("images")
	if err != nil {
		return nil, err
	}
	defer unlock()

	base, err := buildBase(ctx, report)
	if err != nil {
		return nil, err
	}
	toolkit, err := buildToolkit(ctx, base, report)
	if err != nil {
		return nil, err
	}
	site, err := buildSite(ctx)
	if err != nil {
		return nil, err
	}
	next, err := buildNext(ctx, base, report)
	if err != nil {
		return nil, err
	}
	failing, err := buildFailing()
	if err != nil {
		return nil, err
	}

	layers := []oci.Layer{base.layer, toolkit, site, next, failing}
	set := &Set{Base: base.tree, Kernel: base.kernel, Layers: layers}
	var keys []string
	for _, layer := range layers {
		keys = append(keys, layer.Digest.String())
	}
	set.Key = hashOf(keys...)
	layout, err := cached("layout-"+set.Key, func(dir string) error {
		return oci.WriteLayout(filepath.Join(dir, layoutName), []oci.Image{
			image("v1", set.LayersOf("v1")), image("v2", set.LayersOf("v2")), image("v3", set.LayersOf("v3")),
		})
	})
	if err != nil {
		return nil, fmt.Errorf("write the image layout: %w", err)
	}
	set.Layout = filepath.Join(layout, layoutName)
	return set, prune(base.tree, toolkit.Path, site.Path, next.Path, failing.Path, set.Layout)
}

// Ref names a version in the layout as containers/image spells it.
func (s *Set) Ref(version string) string { return "oci:" + s.Layout + ":" + version }

func image(version string, layers []oci.Layer) oci.Image {
	return oci.Image{
		Name: version, Layers: layers, Created: epoch,
		Labels: map[string]string{
			"org.opencontainers.image.title":   "kairos-test-node",
			"org.opencontainers.image.version": version,
		},
	}
}

// hashOf hashes the inputs of something cached.
func hashOf(inputs ...string) string {
	h := sha256.New()
	for _, input := range inputs {
		fmt.Fprintf(h, "%d:%s", len(input), input)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// cached returns a directory of the cache. If it isn't there, build fills it; a build that fails or
// is interrupted leaves nothing that a later one would take for complete.
func cached(name string, build func(dir string) error) (string, error) {
	dir := workspace.Cache("images", name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	unfinished := dir + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return "", err
	}
	if err := os.MkdirAll(unfinished, 0o755); err != nil {
		return "", err
	}
	if err := build(unfinished); err != nil {
		return "", err
	}
	return dir, os.Rename(unfinished, dir)
}

// prune removes what earlier builds left in the cache and this one, which used these paths, did not.
func prune(used ...string) error {
	entries, err := os.ReadDir(workspace.Cache("images"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		dir := workspace.Cache("images", entry.Name()) + "/"
		if strings.HasPrefix(entry.Name(), updatesName) { // Updates removes its own
			continue
		}
		if slices.ContainsFunc(used, func(path string) bool { return strings.HasPrefix(path, dir) }) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove what is no longer used: %w", err)
		}
	}
	return nil
}
