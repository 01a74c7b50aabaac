// Package story tells the life of a node in a virtual machine: it is installed, upgraded, fails and
// comes back. `make demo` shows it, the end-to-end tests assert it; both go through the same steps.
package story

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/tests/images"
	"github.com/kairos-io/toolkit/tests/medium"
	"github.com/kairos-io/toolkit/tests/registry"
	"github.com/kairos-io/toolkit/tests/vm"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// World is what nodes live in: images, a registry that has them, a live medium to install from.
type World struct {
	Images   *images.Set
	Registry *registry.Registry
	Live     string // disk image of the live medium
	KVM      bool   // machines run on the processor itself
	Report   func(string)
}

// Repository is the name under which the registry has the images.
const Repository = "kairos/node"

// Versions are the tags that the registry has.
var Versions = []string{"v1", "v2", "v3"}

// NewWorld builds what is not built yet, and starts the registry. The caller must close the world.
func NewWorld(ctx context.Context, report func(string)) (*World, error) {
	set, err := images.Build(ctx, report)
	if err != nil {
		return nil, err
	}
	w := &World{Images: set, Report: report}
	if err := vm.ProbeKVM(ctx, filepath.Join(set.Base, "usr/lib/modules", set.Kernel, "vmlinuz"), medium.Program("kairos-root")); err != nil {
		report(fmt.Sprintf("machines are emulated (%v)", err))
	} else {
		w.KVM = true
		report("machines run under KVM: /dev/kvm works, a kernel has booted")
	}
	w.Live, err = w.cached("live.raw", func(path string) error {
		report("making the live medium")
		return medium.Live(ctx, set, path)
	})
	if err != nil {
		return nil, fmt.Errorf("make the live medium: %w", err)
	}
	if w.Registry, err = registry.Start(ctx); err != nil {
		return nil, err
	}
	for _, version := range Versions {
		if err := w.Registry.Push(ctx, set.Ref(version), Repository+":"+version); err != nil {
			w.Close()
			return nil, fmt.Errorf("fill the registry: %w", err)
		}
	}
	return w, nil
}

// Prepare makes what nodes begin with, so that no test has to wait for it: see FromBooted.
func Prepare(ctx context.Context, report func(string)) error {
	w, err := NewWorld(ctx, report)
	if err != nil {
		return err
	}
	defer w.Close()
	_, err = w.booted(ctx)
	return err
}

// Close stops the registry.
func (w *World) Close() { w.Registry.Stop() }

// Plain returns the disk that boots the root file system of v1 from plain ext4.
func (w *World) Plain(ctx context.Context) (string, error) {
	return w.cached("plain.raw", func(path string) error {
		w.Report("making the plain disk to compare with")
		return medium.Plain(ctx, w.Images, path)
	})
}

// cached returns a file that depends on the images alone. Files that belong to other images are
// removed.
func (w *World) cached(name string, build func(path string) error) (string, error) {
	dir := workspace.Cache("disks", w.Images.Key)
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	unlock, err := workspace.Lock("disks/" + name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) { // somebody else was faster
		return path, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := w.prune(); err != nil {
		return "", err
	}
	unfinished := filepath.Join(dir, "unfinished-"+name)
	if err := os.RemoveAll(unfinished); err != nil {
		return "", err
	}
	if err := build(unfinished); err != nil {
		return "", err
	}
	return path, os.Rename(unfinished, path)
}

func (w *World) prune() error {
	dirs, err := os.ReadDir(workspace.Cache("disks"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if dir.IsDir() && dir.Name() != w.Images.Key {
			if err := os.RemoveAll(workspace.Cache("disks", dir.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Key returns the files of the key pair by which a person logs in to nodes.
func Key(ctx context.Context) (private, public string, err error) {
	private = workspace.Cache("ssh", "id_ed25519")
	if _, err := os.Stat(private); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(private), 0o700); err != nil {
			return "", "", err
		}
		if _, err := workspace.RunTool(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "kairos-test", "-f", private); err != nil {
			return "", "", err
		}
	}
	return private, private + ".pub", nil
}

// CloudConfig returns the config that nodes are installed with.
func CloudConfig(ctx context.Context) (string, error) {
	_, public, err := Key(ctx)
	if err != nil {
		return "", err
	}
	key, err := os.ReadFile(public)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(cloudConfig, strings.TrimSpace(string(key))), nil
}

const cloudConfig = `#cloud-config
hostname: node-1

stages:
  initramfs:
    - name: The operator
      users:
        kairos:
          shell: /bin/bash
          groups: [sudo]
          ssh_authorized_keys:
            - %s
      files:
        - path: /etc/sudoers.d/kairos
          permissions: 0440
          content: |
            kairos ALL=(ALL) NOPASSWD: ALL
  boot:
    - name: A mark of this boot
      commands:
        - echo booted > /run/node-was-here
`

// Installed returns a disk on which v1 was installed, and the folder of the machine that did it. It
// is made once for the same images, by the first steps of Life, which check the installation.
func (w *World) Installed(ctx context.Context) (disk, machine string, err error) {
	dir, err := w.cached("installed", func(path string) error {
		w.Report("installing v1 once for all tests, from the live medium")
		node, err := w.NewNode(ctx, path)
		if err != nil {
			return err
		}
		defer node.Close()
		l := life{node, NewRecorder(os.Stdout, node)}
		defer l.Table()
		return l.live(ctx, l.installation())
	})
	return filepath.Join(dir, systemDisk), dir, err
}

// booted returns the folder of a node that was installed and has booted v1 for the first time, with
// the state of its machine at that moment. It is made once for the same images, by the next steps of
// Life.
func (w *World) booted(ctx context.Context) (string, error) {
	if _, _, err := w.Installed(ctx); err != nil {
		return "", err
	}
	return w.cached("booted-"+vm.Hardware(w.KVM), func(path string) error {
		w.Report("booting v1 once for all tests")
		node, err := w.FromInstalled(ctx, path)
		if err != nil {
			return err
		}
		defer node.Close()
		l := life{node, NewRecorder(os.Stdout, node)}
		defer l.Table()
		if err := l.live(ctx, l.firstBoot()); err != nil {
			return err
		}
		return node.Save(ctx)
	})
}

// savedState is the file name of a machine's saved state in its folder.
const savedState = "state"

// FromBooted makes a node in folder dir that was just installed with v1. Its first start takes it up
// at the moment when its first boot was done.
func (w *World) FromBooted(ctx context.Context, dir string) (*Node, error) {
	base, err := w.booted(ctx)
	if err != nil {
		return nil, err
	}
	return w.FromSaved(ctx, base, dir)
}

// FromSaved makes a node in folder dir whose first start goes on from where the one in folder base was saved
// (see Node.Save), which stays as it is.
func (w *World) FromSaved(ctx context.Context, base, dir string) (*Node, error) {
	if err := vm.Copy(ctx, base, dir); err != nil {
		return nil, err
	}
	n, err := w.Node(dir)
	if err != nil {
		return nil, err
	}
	if err := vm.CreateOverlay(ctx, n.disk(), filepath.Join(base, systemDisk), "qcow2"); err != nil {
		return nil, err
	}
	n.resume = filepath.Join(base, savedState)
	return n, nil
}

// FromInstalled makes a node in folder dir that was just installed with v1.
func (w *World) FromInstalled(ctx context.Context, dir string) (*Node, error) {
	base, machine, err := w.Installed(ctx)
	if err != nil {
		return nil, err
	}
	if err := vm.Copy(ctx, machine, dir); err != nil {
		return nil, err
	}
	n, err := w.Node(dir)
	if err != nil {
		return nil, err
	}
	return n, vm.CreateOverlay(ctx, n.disk(), base, "qcow2")
}

// Cached returns a file or folder that depends on the images alone. If it isn't there, build makes it.
func (w *World) Cached(name string, build func(path string) error) (string, error) {
	return w.cached(name, build)
}

// BootedDisk returns the system disk as FromBooted takes it up.
func (w *World) BootedDisk(ctx context.Context) (string, error) {
	dir, err := w.booted(ctx)
	return filepath.Join(dir, systemDisk), err
}

// FromDisk makes a node in folder dir, which has the rest of a machine already, with a copy of the disk
// raw.
func (w *World) FromDisk(ctx context.Context, dir, raw string) (*Node, error) {
	n, err := w.Node(dir)
	if err != nil {
		return nil, err
	}
	return n, vm.CreateOverlay(ctx, n.disk(), raw, "raw")
}
