package powercut

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/fsverity"
	image "github.com/kairos-io/toolkit/tests/powercut/disk"
	"github.com/kairos-io/toolkit/tests/powercut/ext4"
	"github.com/kairos-io/toolkit/tests/powercut/fat"
	"github.com/kairos-io/toolkit/tests/powercut/record"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// repeater does an operation once more on what a cut left, on this host: kairos-upgrade works on a store
// and an ESP in directories as it does on mounted partitions. What it can't see there is how the kernel
// takes a FAT file system that a cut has left: Boot does.
type repeater struct {
	disk    *image.Disk
	dir     string
	objects string // folder with the contents of objects: each is copied once, and linked from then on
	layout  string // images by name, as containers/image spells it, to be followed by a colon and the name
}

func newRepeater(d *image.Disk, dir, layout string) (*repeater, error) {
	r := &repeater{disk: d, dir: dir, layout: layout, objects: filepath.Join(dir, "contents")}
	return r, os.MkdirAll(r.objects, 0o755)
}

// again does the operation on the disk as it is, and returns what is wrong with that. wanted is the image
// that must boot in the end, "" for any. An error is one of the harness.
func (r *repeater) again(ctx context.Context, o record.Operation, wanted string) (problem string, err error) {
	store, esp := filepath.Join(r.dir, "store"), filepath.Join(r.dir, "esp")
	for _, dir := range []string{store, esp} {
		if err := os.RemoveAll(dir); err != nil {
			return "", err
		}
	}
	if err := r.unpackStore(ctx, store); err != nil {
		return "", err
	}
	if err := r.unpackESP(esp); err != nil {
		return "", err
	}
	for _, command := range [][]string{o.Host, {"verify"}, {"gc"}, {"verify"}} {
		args := append([]string{command[0], "--store", store, "--esp", esp, "--quiet"}, command[1:]...)
		if command[0] == "stage" { // the host's file system has no fs-verity, which the node's store had
			args = append([]string{command[0], "--allow-unverified"}, args[1:]...)
		}
		for i := range args {
			args[i] = strings.Replace(args[i], record.Layout, r.layout, 1)
		}
		cmd := exec.CommandContext(ctx, filepath.Join(workspace.Top(), "build/bin/kairos-upgrade"), args...)
		said, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		const nothingToDo = 3
		if errors.As(err, &exit) && exit.ExitCode() != nothingToDo {
			return fmt.Sprintf("kairos-upgrade %s: %v: %s", strings.Join(command, " "), err, said), nil
		} else if err != nil && exit == nil {
			return "", err
		}
	}
	boots, err := bootsImage(esp)
	if err == nil && wanted != "" && boots != wanted {
		return fmt.Sprintf("after it was done again %s boots, not %s", boots, wanted), nil
	}
	return "", err
}

// bootsImage returns the digest of the image that boots from an ESP.
func bootsImage(esp string) (string, error) {
	root, err := os.OpenRoot(esp)
	if err != nil {
		return "", err
	}
	defer root.Close()
	entries, err := bls.ESP{Root: root}.Entries()
	if err != nil || len(entries) == 0 {
		return "", err
	}
	return imageOf(entries[0]), nil
}

func imageOf(e bls.Entry) string {
	for arg := range strings.FieldsSeq(e.Options) {
		if image, ok := strings.CutPrefix(arg, "kairos.image="); ok {
			return strings.TrimPrefix(image, "?")
		}
	}
	return ""
}

// unpackStore copies the store to a directory, after the journal was replayed for it.
func (r *repeater) unpackStore(ctx context.Context, to string) (err error) {
	p, undo := r.disk.Partition(disk.LabelState), filepath.Join(r.dir, "again.undo")
	if err := os.RemoveAll(undo); err != nil {
		return err
	}
	// Its exit status says that something was done, or what the judge says as well.
	replay := workspace.Tool(ctx, "e2fsck", "-p", "-z", undo, p.Path)
	if said, err := replay.CombinedOutput(); err != nil && replay.ProcessState == nil {
		return fmt.Errorf("replay the journal: %w: %s", err, said)
	}
	defer func() {
		if _, missing := os.Stat(undo); missing == nil {
			_, undone := workspace.RunTool(ctx, "e2undo", "-f", undo, p.Path)
			err = errors.Join(err, undone)
		}
	}()
	f, err := ext4.Open(p)
	if err != nil {
		return err
	}
	return r.unpackTree(f, "/", to)
}

func (r *repeater) unpackTree(f *ext4.FS, name, to string) error {
	i, err := f.Lookup(name)
	if err != nil {
		return err
	}
	if i.Mode().IsRegular() {
		return r.unpackFile(i, to)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	names, err := f.ReadDir(i)
	if err != nil {
		return err
	}
	for n, number := range names {
		if n == "lost+found" {
			continue
		}
		below, err := f.Inode(number)
		if err == nil && below.Mode().IsDir() {
			err = r.unpackTree(f, path.Join(name, n), filepath.Join(to, n))
		} else if err == nil {
			err = r.unpackFile(below, filepath.Join(to, n))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unpackFile links a file that fs-verity vouches for, and copies any other.
func (r *repeater) unpackFile(i *ext4.Inode, to string) error {
	digest, err := i.Digest()
	if errors.Is(err, fsverity.ErrNotEnabled) {
		return copyFile(i, to)
	}
	if err != nil {
		return err
	}
	kept := filepath.Join(r.objects, digest.String())
	if _, err := os.Stat(kept); errors.Is(err, fs.ErrNotExist) {
		if err := copyFile(i, kept); err != nil {
			return err
		}
	}
	return os.Link(kept, to)
}

func copyFile(i *ext4.Inode, to string) error {
	file, err := os.Create(to)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := io.Copy(file, i.Content()); err != nil {
		return err
	}
	return file.Close()
}

// unpackESP copies the ESP to a directory. What can't be read, a file that was being written, is empty
// there.
func (r *repeater) unpackESP(to string) error {
	f, err := fat.Open(r.disk.Partition(disk.LabelESP))
	if err != nil {
		return err
	}
	return unpackFAT(f, "/", to)
}

func unpackFAT(f *fat.FS, name, to string) error {
	dir, err := f.Lookup(name)
	if err != nil {
		return err
	}
	files, err := f.ReadDir(dir)
	if err == nil {
		err = os.MkdirAll(to, 0o755)
	}
	if err != nil {
		return err
	}
	for _, file := range files {
		target := filepath.Join(to, file.Name)
		if file.Dir {
			err = unpackFAT(f, path.Join(name, file.Name), target)
		} else {
			content, _ := file.Content()
			err = os.WriteFile(target, content, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
