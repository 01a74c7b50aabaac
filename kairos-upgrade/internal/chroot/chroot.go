// Package chroot makes the root of a deployment for a stage of the node's config that
// runs in a system which does not run yet: its image, verified as at boot, beneath a
// layer in memory that is thrown away. In Kairos such a stage changes the new image;
// here an image is what its digest says.
//
// Everything is mounted in the mount namespace of the caller, who has one of its own.
package chroot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/lib/bounded"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/run"
)

// Options say what the root is made of. All directories are those of the caller.
type Options struct {
	Store  string            // of the deployment
	Record deployment.Record // of the deployment
	Work   string            // an empty directory on a tmpfs
	// Binds are directories that keep what is written, by where they are seen.
	Binds map[string]string
}

// Names in Work: kairos-config(8) compares the first two.
const (
	lower = "lower" // what the image has, without contents
	upper = "upper" // what was changed
	root  = "root"
	store = "store"
	spare = "work"
)

// maxResolver bounds resolv.conf, in bytes.
const maxResolver = 64 << 10

// Mount makes the root and returns where it is.
func Mount(ctx context.Context, o Options) (dir string, err error) {
	at := func(name string) string { return filepath.Join(o.Work, name) }
	for _, name := range []string{lower, upper, root, store, spare} {
		if err := os.Mkdir(at(name), 0o755); err != nil {
			return "", err
		}
	}
	if err := unix.Mount(o.Store, at(store), "", unix.MS_BIND, ""); err != nil {
		return "", fmt.Errorf("bind the store %s: %w", o.Store, err)
	}
	if err := mountImage(ctx, at(store), o.Record, at(lower)); err != nil {
		return "", fmt.Errorf("mount the image of %s: %w", o.Record.ID, err)
	}
	options := "lowerdir=" + at(lower) + "::" + at(store) + "/objects,upperdir=" + at(upper) + ",workdir=" + at(spare) +
		",metacopy=on,redirect_dir=on,index=off,xino=off"
	if o.Record.Verity {
		options += ",verity=require"
	}
	if err := unix.Mount("kairos", at(root), "overlay", 0, options); err != nil {
		return "", fmt.Errorf("mount the root of %s: %w", o.Record.ID, err)
	}
	if err := furnish(at(root), o.Binds); err != nil {
		return "", fmt.Errorf("prepare the root of %s: %w", o.Record.ID, err)
	}
	return at(root), nil
}

// mountImage checks the digest of a composefs image and mounts its metadata.
func mountImage(ctx context.Context, store string, r deployment.Record, at string) error {
	digest, err := deployment.ParseDigest(r.ImageDigest)
	if err != nil {
		return err
	}
	want, err := fsverity.Parse(digest)
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(store, "images", digest))
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := want, error(nil)
	if r.Verity {
		got, err = fsverity.Measure(f)
	} else {
		got, _, err = fsverity.File(f)
	}
	switch {
	case err != nil:
		return err
	case got != want:
		return fmt.Errorf("the file has the digest %s, not %s", got, want)
	}
	const flags = unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOSUID
	err = unix.Mount(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), at, "erofs", flags, "")
	if errors.Is(err, unix.ENOTBLK) { // before Linux 6.12
		_, err = run.Runner{}.Output(ctx, "mount", "-t", "erofs", "-o", "ro,nodev,nosuid,loop",
			fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()), at)
	}
	return err
}

// furnish gives a root what programs expect: /dev, /proc and /sys of this machine, a
// /run and a /tmp of its own, the record of stages, the addresses of name servers, and binds.
func furnish(dir string, binds map[string]string) error {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer r.Close()
	for target, mode := range map[string]string{"/run": "mode=0755", "/tmp": "mode=1777"} {
		point, err := open(r, target)
		if err != nil {
			return err
		}
		err = unix.Mount("tmpfs", fmt.Sprintf("/proc/self/fd/%d", point.Fd()), "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, mode)
		if err = errors.Join(err, point.Close()); err != nil {
			return fmt.Errorf("mount a tmpfs on %s: %w", target, err)
		}
	}
	// Before anything of this machine is there: the link may lead anywhere.
	if err := resolver(r); err != nil {
		return err
	}
	for _, api := range []string{"/dev", "/proc", "/sys"} {
		if err := bind(r, api, api); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(report.ConfigDir, 0o755); err != nil {
		return err
	}
	if err := bind(r, report.ConfigDir, report.ConfigDir); err != nil {
		return err
	}
	for target, from := range binds {
		if err := bind(r, from, target); err != nil {
			return err
		}
	}
	return nil
}

// open opens a directory of a root as a program in it would find it, and makes it where
// it is missing.
func open(r *os.Root, target string) (*os.File, error) {
	top, err := r.Open(".")
	if err != nil {
		return nil, err
	}
	defer top.Close()
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := unix.Openat2(int(top.Fd()), target, &how)
	if errors.Is(err, unix.ENOENT) {
		if err := r.MkdirAll(strings.TrimPrefix(target, "/"), 0o755); err != nil {
			return nil, err
		}
		fd, err = unix.Openat2(int(top.Fd()), target, &how)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", target, err)
	}
	return os.NewFile(uintptr(fd), target), nil
}

// bind shows a directory of this machine, with all that is mounted beneath, in a root.
func bind(r *os.Root, from, target string) error {
	point, err := open(r, target)
	if err != nil {
		return err
	}
	defer point.Close()
	tree, err := unix.OpenTree(unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("bind %s: open_tree: %w", from, err)
	}
	defer unix.Close(tree)
	private := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &private); err != nil {
		return fmt.Errorf("bind %s: %w", from, err)
	}
	if err := unix.MoveMount(tree, "", int(point.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fmt.Errorf("bind %s on %s: %w", from, target, err)
	}
	return nil
}

// resolver gives the root the name servers of this machine, wherever its resolv.conf
// leads. A machine without a network has none.
func resolver(r *os.Root) error {
	f, err := os.Open("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := bounded.Read(f, maxResolver)
	if err != nil {
		return nil
	}
	name := "etc/resolv.conf"
	if link, err := r.Readlink(name); err == nil {
		if !path.IsAbs(link) {
			link = path.Join("/etc", link)
		}
		name = strings.TrimPrefix(path.Clean(link), "/")
	}
	dir, err := open(r, "/"+path.Dir(name))
	if err != nil {
		return nil
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), path.Base(name), unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil
	}
	out := os.NewFile(uintptr(fd), name)
	_, err = out.Write(data)
	return errors.Join(err, out.Close())
}
