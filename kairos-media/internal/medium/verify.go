package medium

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kairos-io/toolkit/kairos-media/internal/ext4"
	"github.com/kairos-io/toolkit/kairos-media/internal/fat"
	"github.com/kairos-io/toolkit/kairos-media/internal/verity"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// Verified is what Verify has found out.
type Verified struct {
	File      string   `json:"file"`
	Objects   int      `json:"objects"`
	Bytes     int64    `json:"bytes"` // of objects and images
	BootFiles int      `json:"boot_files"`
	Manifest  bool     `json:"manifest"` // there was one to compare with
	Damage    []Damage `json:"damage"`
}

// Damage is something that is not as it was made.
type Damage struct {
	Partition string `json:"partition,omitempty"`
	Path      string `json:"path,omitempty"` // on the partition
	Problem   string `json:"problem"`
}

func (d Damage) String() string {
	where := d.Partition
	if d.Path != "" {
		where += ": /" + d.Path
	}
	if where == "" {
		return d.Problem
	}
	return where + ": " + d.Problem
}

// Verify reads everything: each object and image against its name, with the data
// that fs-verity has of it; each boot file against its record; and, where there is a
// manifest, each partition and the whole file against it.
func (m *Medium) Verify(ctx context.Context) (v Verified, err error) {
	v = Verified{File: m.Path, Damage: []Damage{}}
	if err := m.verifyStore(ctx, &v); err != nil {
		return v, err
	}
	if err := m.verifyBoot(ctx, &v); err != nil {
		return v, err
	}
	return v, m.verifyManifest(&v)
}

func (v *Verified) damaged(partition, path, format string, args ...any) {
	v.Damage = append(v.Damage, Damage{partition, path, fmt.Sprintf(format, args...)})
}

// verifyStore walks through the store.
func (m *Medium) verifyStore(ctx context.Context, v *Verified) error {
	root, err := m.store.Root()
	if err != nil {
		return err
	}
	return m.verifyDir(ctx, v, "", root, 0)
}

func (m *Medium) verifyDir(ctx context.Context, v *Verified, path string, dir *ext4.File, depth int) error {
	const maxDepth = 4 // objects/ab/cdef
	entries, err := dir.Entries()
	if err != nil || depth > maxDepth {
		v.damaged(disk.LabelLive, path, "the directory cannot be read: %v", err)
		return nil
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := strings.TrimPrefix(path+"/"+e.Name, "/")
		f, err := m.store.Open(e)
		switch {
		case err != nil:
			v.damaged(disk.LabelLive, name, "%v", err)
		case f.Dir:
			if err := m.verifyDir(ctx, v, name, f, depth+1); err != nil {
				return err
			}
		case f.Regular:
			if digest, ok := objectName(name); ok {
				m.verifyObject(v, name, digest, f)
			}
		}
	}
	return nil
}

func (m *Medium) verifyObject(v *Verified, path, name string, f *ext4.File) {
	want, err := fsverity.Parse(name)
	if err != nil {
		v.damaged(disk.LabelLive, path, "%v", err)
		return
	}
	v.Objects++
	if p, _ := m.part(disk.LabelLive); f.Size > p.Size {
		v.damaged(disk.LabelLive, path, "it claims to have %d bytes", f.Size)
		return
	}
	v.Bytes += f.Size
	data, err := verity.Compute(f.Content(), f.Size)
	if err != nil {
		v.damaged(disk.LabelLive, path, "%v", err)
		return
	}
	if data.Digest != want {
		v.damaged(disk.LabelLive, path, "its content is not what its name says, but %s", data.Digest)
		return
	}
	if f.Flags&verity.Flags != verity.Flags {
		v.damaged(disk.LabelLive, path, "fs-verity is not enabled")
		return
	}
	have := make([]byte, len(data.Bytes()))
	if _, err := f.ReadAt(have, data.At); err != nil || !bytes.Equal(have, data.Bytes()) {
		v.damaged(disk.LabelLive, path, "the data of fs-verity behind its content is damaged")
	}
}

// verifyBoot checks the boot files that the record names, and that the boot entry
// boots this image.
func (m *Medium) verifyBoot(ctx context.Context, v *Verified) error {
	for _, b := range m.Record.Boot {
		v.BootFiles++
		data, err := fat.Read(ctx, m.runner, m.place(LabelESP), b.Path)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			v.damaged(LabelESP, b.Path, "%v", err)
			continue
		}
		if have := fsverity.Bytes(data).String(); have != b.Digest {
			v.damaged(LabelESP, b.Path, "its content is not what the record says, but %s", have)
		}
	}
	if m.Entry.Options != m.Record.Options && !strings.HasPrefix(m.Entry.Options, m.Record.Options+" ") {
		v.damaged(LabelESP, entryPath, "it boots with other arguments than the record says")
	}
	image := strings.TrimPrefix(m.Record.ImageDigest, "sha256:")
	if _, err := m.store.Find("images/" + image); err != nil {
		v.damaged(disk.LabelLive, "images/"+image, "%v", err)
	}
	return nil
}

// verifyManifest compares with the manifest: what no name and no record covers.
func (m *Medium) verifyManifest(v *Verified) error {
	want, err := ReadManifest(m.Path)
	if errors.Is(err, ErrNoManifest) {
		return nil
	}
	if err != nil {
		return err
	}
	v.Manifest = true
	have := want
	have.Partitions = append([]Part(nil), want.Partitions...)
	if want.Size != m.Size {
		v.damaged("", "", "the file has %d bytes, the manifest says %d", m.Size, want.Size)
		return nil
	}
	if err := have.digests(m.file); err != nil {
		return err
	}
	if have.Digest == want.Digest {
		return nil
	}
	found := len(v.Damage) > 0
	for i, p := range have.Partitions {
		if p.Digest != want.Partitions[i].Digest {
			v.damaged(p.Label, "", "it differs from the manifest")
			found = true
		}
	}
	if !found {
		v.damaged("", "", "what lies outside of the partitions differs from the manifest")
	}
	return nil
}
