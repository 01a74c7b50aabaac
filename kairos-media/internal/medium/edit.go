package medium

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-media/internal/boot"
	"github.com/kairos-io/toolkit/kairos-media/internal/fat"
	"github.com/kairos-io/toolkit/lib/disk"
)

// Change is what Edit changes.
type Change struct {
	Clear   bool // of what was edited before, and of what was built with the medium
	Configs map[string][]byte
	Kargs   []string // added to those that are there
}

// Edited is what Edit has done.
type Edited struct {
	File    string   `json:"file"`
	Digest  string   `json:"digest"` // of the file
	Configs []string `json:"configs"`
	Kargs   string   `json:"kargs"` // added to those of the image
}

// Edit changes the configs and the kernel arguments of a medium in place. COS_SEED is
// made again as Build makes it; on the ESP the boot entry is replaced, if kernel
// arguments change. Both are prepared in copies, so that nothing is changed if
// something fails.
func (m *Medium) Edit(ctx context.Context, c Change) (e Edited, err error) {
	e = Edited{File: m.Path, Configs: []string{}}
	manifest, err := ReadManifest(m.Path)
	if err != nil && !errors.Is(err, ErrNoManifest) {
		return e, err
	}
	hasManifest := err == nil
	w, err := newWork(filepath.Dir(m.Path))
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	configs, err := m.configs(ctx, c)
	if err != nil {
		return e, err
	}
	seed, err := m.seedWith(ctx, w, configs)
	if err != nil {
		return e, err
	}
	kargs := strings.Join(c.Kargs, " ")
	if !c.Clear {
		kargs = strings.TrimSpace(m.Kargs() + " " + kargs)
	}
	esp := ""
	if kargs != m.Kargs() {
		m.Entry.Options = strings.TrimSpace(m.Record.Options + " " + kargs)
		if esp, err = m.espWith(ctx, w); err != nil {
			return e, err
		}
	}
	if err := ctx.Err(); err != nil { // the last moment
		return e, err
	}
	if len(configs) > 0 { // before they are in it
		info, err := m.file.Stat()
		if err == nil && info.Mode().IsRegular() {
			err = m.file.Chmod(info.Mode().Perm() & mode(len(configs)))
		}
		if err != nil {
			return e, err
		}
	}
	for label, from := range map[string]string{disk.LabelSeed: seed, LabelESP: esp} {
		if from == "" {
			continue
		}
		if err := m.putPartition(label, from); err != nil {
			return e, fmt.Errorf("write partition %s: %w", label, err)
		}
	}
	if err := m.file.Sync(); err != nil {
		return e, err
	}
	e.Kargs, e.Configs = kargs, append(e.Configs, sortedKeys(configs)...)
	if !hasManifest {
		manifest.Size = m.Size
		manifest.Partitions = nil
		err = manifest.digests(m.file)
		e.Digest = manifest.Digest
		return e, err
	}
	e.Digest, err = m.update(ctx, manifest, configs)
	return e, err
}

// configs returns those that will be on COS_SEED.
func (m *Medium) configs(ctx context.Context, c Change) (map[string][]byte, error) {
	all := map[string][]byte{}
	if !c.Clear {
		for _, name := range m.Configs {
			data, err := fat.Read(ctx, m.runner, m.place(disk.LabelSeed), name)
			if err != nil {
				return nil, fmt.Errorf("partition %s: %w", disk.LabelSeed, err)
			}
			all[name] = data
		}
	}
	for name, data := range c.Configs {
		all[name] = data
	}
	return all, nil
}

// seedWith makes a new COS_SEED in a file.
func (m *Medium) seedWith(ctx context.Context, w *work, configs map[string][]byte) (string, error) {
	id, _, err := m.volume(disk.LabelSeed)
	if err != nil {
		return "", err
	}
	when, err := m.when()
	if err != nil {
		return "", err
	}
	// At its own place, which is in the boot sector.
	p, _ := m.part(disk.LabelSeed)
	if p.Size != seedSize {
		return "", fmt.Errorf("%w: %s has %d bytes", ErrNoMedium, disk.LabelSeed, p.Size)
	}
	file := w.path("seed.img")
	if err := sparse(file, p.End()); err != nil {
		return "", err
	}
	return file, makeSeed(ctx, m.runner, w, fat.Place{File: file, At: p.Start}, id, when, configs)
}

// espWith makes a copy of the ESP with another boot entry, at its own place in a file.
func (m *Medium) espWith(ctx context.Context, w *work) (string, error) {
	p, _ := m.part(LabelESP)
	file := w.path("esp.img")
	if err := sparse(file, p.End()); err != nil {
		return "", err
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := io.Copy(io.NewOffsetWriter(f, p.Start), io.NewSectionReader(m.file, p.Start, p.Size)); err != nil {
		return "", err
	}
	when, err := m.when()
	if err != nil {
		return "", err
	}
	files := map[string][]byte{entryPath: m.Entry.Bytes()}
	if slices.Contains(m.ESP, boot.GrubConfig) {
		files[boot.GrubConfig] = boot.Config(m.Entry)
	}
	from := map[string]string{}
	for name, data := range files {
		from[name] = w.path(filepath.Base(name))
		if err := os.WriteFile(from[name], data, 0o600); err != nil {
			return "", err
		}
	}
	return file, fat.Replace(ctx, m.runner, fat.Place{File: file, At: p.Start}, when, from)
}

// putPartition writes a partition from its place in a file.
func (m *Medium) putPartition(label, from string) error {
	p, _ := m.part(label)
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.NewOffsetWriter(m.file, p.Start), io.NewSectionReader(f, p.Start, p.Size))
	return err
}

// update brings the manifest up to date.
func (m *Medium) update(ctx context.Context, manifest Manifest, configs map[string][]byte) (string, error) {
	manifest.Configs = []BootFile{}
	for _, name := range sortedKeys(configs) {
		manifest.Configs = append(manifest.Configs, BootFile{name, int64(len(configs[name])), digestBytes(configs[name])})
	}
	for i, b := range manifest.BootFiles {
		if b.Path != entryPath && b.Path != boot.GrubConfig {
			continue
		}
		data, err := fat.Read(ctx, m.runner, m.place(LabelESP), b.Path)
		if err != nil {
			return "", err
		}
		manifest.BootFiles[i] = BootFile{b.Path, int64(len(data)), digestBytes(data)}
	}
	if err := manifest.digests(m.file); err != nil {
		return "", err
	}
	return manifest.Digest, manifest.write(m.Path)
}

func sparse(file string, size int64) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fs.FileMode(0o600))
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}
