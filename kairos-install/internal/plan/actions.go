package plan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
)

// Command executes a program.
type Command struct {
	Argv []string
	Env  []string // NAME=VALUE, added to the environment
}

func (c Command) String() string {
	var words []string
	for _, e := range c.Env {
		name, value, _ := strings.Cut(e, "=")
		words = append(words, name+"="+quote(value))
	}
	for _, w := range c.Argv {
		words = append(words, quote(w))
	}
	return strings.Join(words, " ")
}

func (c Command) Do(ctx context.Context, h Host) error {
	h.Runner.Extra = append(slices.Clone(h.Runner.Extra), c.Env...)
	_, err := h.Runner.Output(ctx, c.Argv...)
	return err
}

// BootLoader installs systemd-boot and creates its boot option in the firmware with one
// command: a second installation for the option would remove the boot loader for a
// moment. A firmware whose memory for variables is full still finds the boot loader by
// its default path.
type BootLoader struct {
	ESP      string // its mount point
	Firmware bool   // boot options of the firmware can be written
}

func (b BootLoader) command(more ...string) Command {
	return Command{Argv: slices.Concat([]string{"bootctl"}, more, []string{"--make-entry-directory=no", "--esp-path=" + b.ESP, "install"})}
}

func (b BootLoader) String() string {
	if b.Firmware {
		return b.command().String() + " (if that fails, with --no-variables)"
	}
	return b.command("--no-variables").String()
}

func (b BootLoader) Do(ctx context.Context, h Host) error {
	if b.Firmware {
		err := b.command().Do(ctx, h)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if h.Warn != nil {
			h.Warn("create the boot option of the firmware: %v", err)
		}
	}
	return b.command("--no-variables").Do(ctx, h)
}

// Next has the firmware start the node at the next boot, and not the medium, which
// some firmware tries first while it is there: BootNext comes before every order. A
// firmware that refuses boots by its order.
type Next struct{ Node string } // the ESP

func (n Next) String() string { return "have the firmware boot from " + n.Node + " next" }

func (n Next) Do(_ context.Context, h Host) error {
	err := n.set(h)
	if err != nil && h.Warn != nil {
		h.Warn("have the firmware boot the node next: %v; remove the medium before the reboot", err)
	}
	return nil
}

func (n Next) set(h Host) error {
	all, err := h.Disk.Partitions()
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.Path == n.Node {
			return h.Disk.Vars.BootNext(p.UUID)
		}
	}
	return fmt.Errorf("the kernel does not see %s", n.Node)
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// quote quotes a word for a shell.
func quote(word string) string {
	if plain.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// Staged is the object that kairos-upgrade stage prints.
type Staged struct {
	ID             string `json:"id"`
	ImageDigest    string `json:"image_digest"`
	ManifestDigest string `json:"manifest_digest,omitempty"`
	Reference      string `json:"reference"`
	Version        string `json:"version,omitempty"`
	OS             string `json:"os,omitempty"`
	Verity         bool   `json:"verity"`
}

// Stage deploys an image and keeps the result.
type Stage struct {
	Command
	Label      string
	Encryption *Encryption // the volumes that the deployment names; may be nil
}

func (s Stage) String() string {
	if s.Encryption == nil {
		return s.Command.String()
	}
	return s.Command.String() + " (and --crypt, for each encrypted volume)"
}

// argv returns the command, with the volumes that exist by now.
func (s Stage) argv() []string {
	argv := slices.Clone(s.Argv)
	if s.Encryption == nil {
		return argv
	}
	for i, v := range s.Encryption.Volumes {
		id := v.UUID
		if i < len(s.Encryption.nodes) {
			if have, err := disk.Volume(s.Encryption.nodes[i]); err == nil && disk.SameVolume(have, id) {
				id = have
			}
		}
		argv = slices.Insert(argv, len(argv)-1, "--crypt="+v.Label+":"+id) // before the source
	}
	return argv
}

func (s Stage) Do(ctx context.Context, h Host) error {
	out, err := h.Runner.Output(ctx, s.argv()...)
	if err != nil {
		return err
	}
	var staged Staged
	if err := json.Unmarshal(out, &staged); err != nil {
		return fmt.Errorf("read the answer of kairos-upgrade: %w", err)
	}
	if h.Staged != nil {
		h.Staged(s.Label, staged)
	}
	return nil
}

// Entries checks the boot entries of the new disk: the deployment comes first, with
// tries left, then the recovery system, and all their boot files exist.
type Entries struct{ ESP string }

func (e Entries) String() string {
	return "check the boot entries on " + e.ESP + ": the deployment first, recovery behind it"
}

func (e Entries) Do(context.Context, Host) error {
	root, err := os.OpenRoot(e.ESP)
	if err != nil {
		return err
	}
	defer root.Close()
	entries, err := bls.ESP{Root: root}.Entries()
	if err != nil {
		return err
	}
	if len(entries) != 2 {
		return fmt.Errorf("%d boot entries instead of 2", len(entries))
	}
	first, last := entries[0].Name, entries[1].Name
	if _, ours := deployment.IDOfEntry(first.Base); !ours || first.State() != bls.Pending {
		return fmt.Errorf("%s boots first, which is no new deployment", first)
	}
	if _, counted := deployment.IDOfEntry(last.Base); counted || last.State() != bls.Good {
		return fmt.Errorf("%s boots last, which is no recovery", last)
	}
	for _, entry := range entries {
		for _, file := range entry.Files() {
			info, err := root.Stat(file)
			if err != nil {
				return fmt.Errorf("boot entry %s: %w", entry.Name, err)
			}
			if info.Size() == 0 {
				return fmt.Errorf("boot entry %s: %s is empty", entry.Name, file)
			}
		}
	}
	return nil
}

// Verity enables the verity feature of an ext4 file system. Other file systems with
// fs-verity need nothing.
type Verity struct{ Node string }

func (v Verity) String() string { return "tune2fs -O verity " + v.Node + " (where it is ext4)" }

func (v Verity) Do(ctx context.Context, h Host) error {
	ext, err := isExt(v.Node)
	if err != nil {
		return fmt.Errorf("read the superblock of %s: %w", v.Node, err)
	}
	if !ext {
		return nil
	}
	return Command{Argv: []string{"tune2fs", "-O", "verity", v.Node}}.Do(ctx, h)
}

// isExt reports whether a device has the magic number of ext2, ext3 and ext4.
func isExt(node string) (bool, error) {
	f, err := os.Open(node)
	if err != nil {
		return false, err
	}
	defer f.Close()
	magic := make([]byte, 2)
	if _, err := f.ReadAt(magic, 1024+56); err != nil {
		return false, err
	}
	return magic[0] == 0x53 && magic[1] == 0xef, nil
}

// Mount mounts a partition on a directory that it makes.
type Mount struct {
	Node, Dir, Options string
	Ext                string // more options, for ext4
}

func (m Mount) command(more string) Command {
	return Command{Argv: []string{"mount", "-o", m.Options + more, m.Node, m.Dir}}
}

func (m Mount) String() string {
	if m.Ext == "" {
		return m.command("").String()
	}
	return m.command("").String() + " (and " + m.Ext + " where it is ext4)"
}

func (m Mount) Do(ctx context.Context, h Host) error {
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	if m.Ext == "" {
		return m.command("").Do(ctx, h)
	}
	ext, err := isExt(m.Node)
	switch {
	case err != nil:
		return fmt.Errorf("read the superblock of %s: %w", m.Node, err)
	case ext:
		return m.command(","+m.Ext).Do(ctx, h)
	}
	return m.command("").Do(ctx, h)
}

// Write writes a file.
type Write struct {
	Path string
	Mode fs.FileMode
	Data []byte
}

func (w Write) String() string {
	return fmt.Sprintf("write %s (%d bytes, mode %04o)", quote(w.Path), len(w.Data), w.Mode)
}

func (w Write) Do(context.Context, Host) error {
	dir, name := path.Split(w.Path)
	parents := fs.FileMode(0o755)
	if w.Mode&0o077 == 0 {
		parents = 0o700 // nor do the names tell
	}
	if err := os.MkdirAll(dir, parents); err != nil {
		return fmt.Errorf("write %s: %w", w.Path, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("write %s: %w", w.Path, err)
	}
	defer root.Close()
	return atomicfile.Write(root, name, w.Data, w.Mode)
}

// Sync writes the data of the file system that is mounted on a directory to the disk.
type Sync struct{ Dir string }

func (s Sync) String() string { return "sync -f " + s.Dir }

func (s Sync) Do(context.Context, Host) error {
	f, err := os.Open(s.Dir)
	if err != nil {
		return err
	}
	return errors.Join(atomicfile.SyncFS(f), f.Close())
}

// Flush flushes the write cache of a disk. File systems do that when they sync; FAT
// does not.
type Flush struct{ Device string }

func (f Flush) String() string { return "flush the write cache of " + f.Device }

func (f Flush) Do(context.Context, Host) error {
	dev, err := os.OpenFile(f.Device, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("flush the write cache: %w", err)
	}
	if err := errors.Join(dev.Sync(), dev.Close()); err != nil {
		return fmt.Errorf("flush the write cache of %s: %w", f.Device, err)
	}
	return nil
}
