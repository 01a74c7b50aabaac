package deploy

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/composefs"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/lint"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// contents is an image whose files are in the store.
type contents struct {
	image   fsverity.Digest
	boot    []deployment.File
	kernel  string
	notes   []string                  // about its kernels, for people
	kargs   []string                  // the image's own
	os      string                    // PRETTY_NAME
	version string                    // VERSION_ID
	objects map[fsverity.Digest]int64 // sizes
	bytes   int64                     // sum of the sizes of objects
	faults  []lint.Finding            // why the image does not boot as a node
}

// take checks a tree whose objects have been put, and writes its image.
func (n *Node) take(ctx context.Context, root *tree.Inode) (*contents, error) {
	n.Progress.Phase("write image", 0)
	var faults []lint.Finding
	if n.MustBoot {
		faults = n.faults(root)
	}
	if n.Medium != nil {
		if err := n.copyBootCode(ctx, root); err != nil {
			return nil, useless(err)
		}
	}
	c, err := assemble(ctx, n.Store, root)
	if err != nil {
		return c, useless(err)
	}
	c.faults = faults
	return c, nil
}

// assemble writes the image of a tree whose objects have been put. The tree is
// normalised in the process; what it boots with is taken from /boot before.
func assemble(ctx context.Context, s *store.Store, root *tree.Inode) (*contents, error) {
	if err := s.Commit(ctx); err != nil {
		return nil, err
	}
	c := &contents{}
	kernel, err := boot.Find(root, contentIn(s))
	if err != nil {
		return nil, err
	}
	c.kernel, c.notes = kernel.Release, kernel.Notes
	for _, f := range kernel.Files {
		file, err := putBootFile(ctx, s, f)
		if err != nil {
			return nil, err
		}
		c.boot = append(c.boot, file)
	}
	if err := s.Commit(ctx); err != nil {
		return nil, err
	}
	if err := c.describe(s, root); err != nil {
		return nil, err
	}
	if err := tree.Normalize(root, tree.NormalizeOptions{SELinux: tree.HasSELinuxPolicy(root)}); err != nil {
		return nil, err
	}
	c.image, err = s.PutImage(func(w io.Writer) error {
		_, err := composefs.Write(w, root)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.count(root) // not before, because both take memory
	return c, c.complete(s)
}

// putBootFile makes sure that a boot file is an object, however small it is.
func putBootFile(ctx context.Context, s *store.Store, f boot.File) (deployment.File, error) {
	d := f.Node.Digest
	if !f.Node.HasObject() {
		var err error
		if d, err = s.Put(ctx, strings.NewReader(f.Node.Content), f.Node.Size); err != nil {
			return deployment.File{}, fmt.Errorf("boot file /%s: %w", f.Path, err)
		}
	}
	return deployment.File{Kind: f.Kind, Path: boot.FilePath(f.Kind, d.String()), Digest: d.String(), Size: f.Node.Size}, nil
}

// contentIn opens files of trees whose objects are in a store.
func contentIn(s *store.Store) boot.Content {
	return func(n *tree.Inode) (io.ReadCloser, error) {
		if !n.HasObject() {
			return io.NopCloser(strings.NewReader(n.Content)), nil
		}
		return s.OpenObject(n.Digest)
	}
}

// describe reads what the image says about itself.
func (c *contents) describe(s *store.Store, root *tree.Inode) error {
	open := contentIn(s)
	release, err := boot.OSRelease(root, open)
	if err != nil {
		return fmt.Errorf("read os-release of the image: %w", err)
	}
	c.os, c.version = release["PRETTY_NAME"], release["VERSION_ID"]
	c.kargs, err = boot.Kargs(root, open)
	return err
}

// count notes the distinct objects of a tree and of the boot files.
func (c *contents) count(root *tree.Inode) {
	c.objects = map[fsverity.Digest]int64{}
	for d, size := range objectsOf(root, c.boot) {
		if _, again := c.objects[d]; !again {
			c.objects[d] = size
			c.bytes += size
		}
	}
}

// complete makes sure that nothing which will be named is missing.
func (c *contents) complete(s *store.Store) error {
	for d := range c.objects {
		if !s.Has(d) {
			return fmt.Errorf("object %s: missing after everything was fetched", d)
		}
	}
	return nil
}

func (c *contents) has(d fsverity.Digest) bool { _, ok := c.objects[d]; return ok }

// panicReboots has a panic reboot, however early, so that the boot loader counts
// the failed boot. An image or a node that wants another time, in seconds, says
// so behind it.
const panicReboots = "panic=30"

// options returns the kernel command line of an image in a store.
func options(label string, verity bool, image fsverity.Digest, imageKargs, nodeKargs []string) string {
	question := ""
	if !verity { // kairos-root is to check by reading
		question = "?"
	}
	args := []string{"kairos.image=" + question + "sha256:" + image.String(), "kairos.store=" + label, "rd.systemd.gpt_auto=0", panicReboots}
	return strings.Join(slices.Concat(args, imageKargs, nodeKargs), " ")
}

// nodeKargs returns the node's own kernel arguments for the next deployment:
// those of the last one, without some and with others.
func nodeKargs(last, add, remove []string) ([]string, error) {
	kargs := slices.Clone(last)
	for _, arg := range remove {
		i := slices.Index(kargs, arg)
		if i < 0 {
			return nil, fmt.Errorf("kernel argument %q is not one of this node's own: %q", arg, kargs)
		}
		kargs = slices.Delete(kargs, i, i+1)
	}
	for _, arg := range add {
		if err := boot.CheckKarg(arg); err != nil {
			return nil, err
		}
		if !slices.Contains(kargs, arg) {
			kargs = append(kargs, arg)
		}
	}
	return kargs, nil
}
