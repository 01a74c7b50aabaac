package medium

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kairos-io/toolkit/kairos-media/internal/boot"
	"github.com/kairos-io/toolkit/kairos-media/internal/eltorito"
	"github.com/kairos-io/toolkit/kairos-media/internal/ext4"
	"github.com/kairos-io/toolkit/kairos-media/internal/fat"
	"github.com/kairos-io/toolkit/kairos-media/internal/gpt"
	"github.com/kairos-io/toolkit/kairos-media/internal/verity"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"github.com/kairos-io/toolkit/lib/run"
	"github.com/kairos-io/toolkit/lib/terminal"
	"golang.org/x/sys/unix"
)

// Labels of a medium's partitions, beside lib/disk's.
const (
	LabelESP  = "LIVE_ESP"
	LabelBIOS = "bios"

	// volume is the name of the CD. It is none of the labels, so that nobody takes
	// the whole CD for a partition.
	volume = "KAIROS_LIVE"
)

const (
	mib      = 1 << 20
	seedSize = 16 * mib
	biosSize = mib
	// cdPlace is where the program for CDs lies in the BIOS boot partition.
	cdPlace = biosSize / 2
)

// Firmwares that can boot a medium.
const (
	UEFI = "uefi"
	BIOS = "bios"
)

// Request is a medium to be made.
type Request struct {
	Image    string
	File     string
	Firmware []string // empty: those that there is boot code for
	BootTree string   // has boot code; "": the image
	Kargs    []string
	Configs  map[string][]byte // by name
	AuthFile string
	Insecure bool
}

// Builder makes media.
type Builder struct {
	Runner run.Runner
	Step   func(name, text string) (done func())
	Warn   func(format string, args ...any)
	// Free returns how many bytes a directory has room for; nil asks the kernel.
	Free func(dir string) (int64, error)
}

// Plan is what would be done.
type Plan struct {
	Image    string   `json:"image"`
	File     string   `json:"file"`
	Firmware []string `json:"firmware"`
	Need     int64    `json:"bytes_needed"` // while it is made, at most
	Free     int64    `json:"bytes_free"`
	Steps    []string `json:"steps"`
}

// Programs returns the programs that a request needs.
func (r Request) Programs() []string {
	need := append([]string{"kairos-upgrade", "mkfs.ext4", "debugfs"}, fat.Programs...)
	if r.wants(BIOS) {
		need = append(need, "grub-mkimage")
	}
	return need
}

func (r Request) wants(firmware string) bool {
	return len(r.Firmware) == 0 || slices.Contains(r.Firmware, firmware)
}

// Plan looks at the image, and at the room there is.
func (b Builder) Plan(ctx context.Context, r Request) (Plan, error) {
	p := Plan{Image: r.Image, File: r.File, Firmware: r.Firmware}
	if len(p.Firmware) == 0 {
		p.Firmware = []string{UEFI, BIOS}
	}
	if err := mayReplace(r.File); err != nil {
		return p, err
	}
	runner, reference := b.reading(r)
	out, err := runner.Output(ctx, append([]string{"kairos-upgrade", "inspect", "--json"}, append(r.sourceOptions(), reference)...)...)
	if err != nil {
		return p, err
	}
	var in struct {
		Store int64 `json:"bytes_store"`
		Boot  int64 `json:"bytes_boot"`
	}
	if err := json.Unmarshal(out, &in); err != nil {
		return p, fmt.Errorf("read the answer of kairos-upgrade inspect: %w", err)
	}
	// The store as files, and as a file system; the boot files the same, which are
	// part of the store.
	const bootFiles = 128 * mib
	p.Need = 2*in.Store + 2*max(in.Boot, min(in.Store, bootFiles)) + seedSize
	if p.Free, err = b.room(filepath.Dir(r.File)); err != nil {
		return p, err
	}
	p.Steps = []string{
		fmt.Sprintf("fetch %s, and stage it in a directory beside %s", r.Image, r.File),
		"compute the fs-verity data of all objects",
		fmt.Sprintf("make the partitions %s, %s and %s", LabelESP, disk.LabelSeed, disk.LabelLive),
		"make it bootable by " + strings.Join(p.Firmware, " and ") + ", as CD and as disk",
		fmt.Sprintf("write %s, then %s", ManifestPath(r.File), r.File),
	}
	if p.Need > p.Free {
		return p, noSpace(filepath.Dir(r.File), p.Need, p.Free)
	}
	return p, nil
}

func (b Builder) room(dir string) (int64, error) {
	if b.Free != nil {
		return b.Free(dir)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("look for space in %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

func noSpace(dir string, need, free int64) error {
	return exit.Hint(exit.WithCode(fmt.Errorf("no space left in %s (need %s, %s free)", dir, terminal.Bytes(need), terminal.Bytes(free)), exit.NoSpace),
		"free some, or name a file on another file system with -o")
}

// mayReplace refuses to write over what is no file.
func mayReplace(file string) error {
	info, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = exit.Hint(exit.Usagef("%s is no regular file", file), "kairos-media write writes a medium to a device")
	}
	return err
}

// reading returns how kairos-upgrade reads the image: a file or directory of this
// machine by its base name, which is recorded, so that the medium does not tell of
// this machine's directories.
func (b Builder) reading(r Request) (run.Runner, string) {
	runner := b.Runner
	transport, path, ok := strings.Cut(r.Image, ":")
	if !ok || !slices.Contains([]string{"oci", "oci-archive", "docker-archive", "file", "ocifile", "dir"}, transport) {
		return runner, r.Image
	}
	for _, name := range []string{path, path[:max(0, strings.LastIndexByte(path, ':'))]} { // with a tag, and without
		if _, err := os.Stat(name); name != "" && err == nil {
			runner.Dir = filepath.Dir(name)
			return runner, transport + ":" + filepath.Base(name) + path[len(name):]
		}
	}
	return runner, r.Image
}

func (r Request) sourceOptions() (options []string) {
	if r.AuthFile != "" {
		options = append(options, "--authfile", r.AuthFile)
	}
	if r.Insecure {
		options = append(options, "--insecure")
	}
	return options
}

// building is a medium that is being made.
type building struct {
	Builder
	Request
	work   *work
	record deployment.Record
	entry  bls.Entry
	code   boot.Code
	efi    string // boot loader, "" without UEFI
	bios   bool
	seed   string // of everything that would be random
	esp    map[string]string
	tree   ext4.Tree
	parts  []gpt.Partition
	size   int64
}

// Build makes a medium. FILE comes into being whole, by a rename at the end.
func (b Builder) Build(ctx context.Context, r Request) (m Manifest, err error) {
	if _, err := b.Plan(ctx, r); err != nil {
		return m, err
	}
	if r.File, err = filepath.Abs(r.File); err != nil {
		return m, err
	}
	w, err := newWork(filepath.Dir(r.File))
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	x := &building{Builder: b, Request: r, work: w}
	for _, step := range []struct {
		name, text string
		do         func(context.Context) error
	}{
		{"stage", "stage " + r.Image, x.stage},
		{"verity", "compute fs-verity data", x.verity},
		{"fill", "make the file systems", x.fill},
		{"boot", "make it bootable", x.bootable},
	} {
		done := b.Step(step.name, step.text)
		err := step.do(ctx)
		done()
		if err = errors.Join(err, ctx.Err()); err != nil {
			return m, err
		}
	}
	done := b.Step("finish", "write "+r.File)
	defer done()
	return x.finish()
}

// stage lets kairos-upgrade make the store and the ESP as directories, and reads what
// it has made.
func (x *building) stage(ctx context.Context) error {
	store, err := x.work.mkdir("store")
	if err != nil {
		return err
	}
	esp, err := x.work.mkdir("esp")
	if err != nil {
		return err
	}
	runner, reference := x.reading(x.Request)
	argv := append([]string{"kairos-upgrade", "stage", "--live", "--medium", "--quiet", "--json", "--store", store, "--esp", esp}, x.sourceOptions()...)
	for _, karg := range x.Kargs {
		argv = append(argv, "--karg="+karg)
	}
	out, err := runner.Output(ctx, append(argv, reference)...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, &x.record); err != nil {
		return fmt.Errorf("read the answer of kairos-upgrade stage: %w", err)
	}
	if !x.record.Verity {
		return errors.New("kairos-upgrade stage does not know --medium: it is of another version")
	}
	x.seed = x.record.ImageDigest
	return x.findBootCode(esp)
}

// findBootCode decides by what firmware the medium boots.
func (x *building) findBootCode(esp string) (err error) {
	tree := x.work.path("boot-code")
	if err := os.Rename(filepath.Join(esp, "boot-code"), tree); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	x.code = boot.Code{Dir: tree}
	if x.BootTree != "" {
		x.code = boot.Code{Dir: x.BootTree}
	}
	hint := func(err error) error {
		return exit.Hint(err, "install grub-pc-bin (BIOS) or systemd-boot-efi (UEFI) into the image, or name a tree that has them with --boot-tree")
	}
	to := ""
	var noUEFI, noBIOS error
	if x.wants(UEFI) {
		x.efi, to, noUEFI = x.code.EFI(x.record.Architecture)
	}
	if x.wants(BIOS) {
		noBIOS = x.code.HasBIOS(x.record.Architecture)
		x.bios = noBIOS == nil
	}
	if len(x.Firmware) > 0 && (noUEFI != nil || noBIOS != nil) || noUEFI != nil && noBIOS != nil {
		return hint(errors.Join(noUEFI, noBIOS))
	}
	for _, missing := range []error{noUEFI, noBIOS} {
		if missing != nil {
			x.Warn("the medium boots by one kind of firmware only: %v", missing)
		}
	}
	x.esp = map[string]string{}
	if x.efi != "" {
		program, err := os.ReadFile(x.efi)
		if err == nil {
			err = os.WriteFile(x.work.path("loader.efi"), program, 0o600)
		}
		if err != nil {
			return err
		}
		x.esp[to] = x.work.path("loader.efi")
	}
	err = filepath.WalkDir(esp, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rel, _ := filepath.Rel(esp, path)
			x.esp[rel] = path
		}
		return err
	})
	if err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(esp, entryPath))
	if err != nil {
		return err
	}
	if x.entry, err = bls.Parse(bls.Name{Base: "kairos-live"}, data); err != nil {
		return err
	}
	if x.entry.Linux == "" && x.bios {
		if len(x.Firmware) > 0 {
			return errors.New("the image boots by a unified kernel image, which BIOS can't start")
		}
		x.bios = false
		x.Warn("the medium boots by UEFI only: the image has a unified kernel image")
	}
	return nil
}

const (
	entryPath  = "loader/entries/kairos-live.conf"
	loaderPath = "loader/loader.conf"
	loaderConf = "timeout 0\n"
)

// verity appends fs-verity data to all objects and images, and scans the store.
func (x *building) verity(ctx context.Context) (err error) {
	if x.tree, err = ext4.Scan(x.work.path("store")); err != nil {
		return err
	}
	type job struct {
		path string
		want fsverity.Digest
	}
	jobs := make(chan job)
	var mu sync.Mutex
	var failed error
	var workers sync.WaitGroup
	for range runtime.NumCPU() {
		workers.Go(func() {
			for j := range jobs {
				m, err := verity.Append(x.work.path("store", j.path), j.want)
				mu.Lock()
				if failed == nil {
					failed = err
				}
				x.tree.Files[j.path] = ext4.Source{Length: m.End(), Size: m.Size, Flags: verity.Flags, Hole: m.At - (m.Size+ext4.BlockSize-1)/ext4.BlockSize*ext4.BlockSize}
				mu.Unlock()
			}
		})
	}
	stopped := func() bool { mu.Lock(); defer mu.Unlock(); return failed != nil || ctx.Err() != nil }
	for _, path := range x.tree.Paths {
		name, ok := objectName(path)
		if !ok || stopped() {
			continue
		}
		want, err := fsverity.Parse(name)
		if err != nil {
			failed = fmt.Errorf("%s: %w", path, err)
			break
		}
		jobs <- job{path, want}
	}
	close(jobs)
	workers.Wait()
	return errors.Join(failed, ctx.Err())
}

// objectName returns the digest that the path of an object or an image in a store is.
func objectName(path string) (string, bool) {
	parts := strings.Split(path, "/")
	switch {
	case len(parts) == 3 && parts[0] == "objects":
		return parts[1] + parts[2], true
	case len(parts) == 2 && parts[0] == "images":
		return parts[1], true
	}
	return "", false
}

// fill makes the partition table and the file systems.
func (x *building) fill(ctx context.Context) error {
	if err := os.WriteFile(x.work.path("loader.conf"), []byte(loaderConf), 0o600); err != nil {
		return err
	}
	x.esp[loaderPath] = x.work.path("loader.conf")
	if x.bios {
		if err := os.WriteFile(x.work.path("grub.cfg"), boot.Config(x.entry), 0o600); err != nil {
			return err
		}
		x.esp[boot.GrubConfig] = x.work.path("grub.cfg")
	}
	espSize, err := sizeOfESP(x.esp)
	if err != nil {
		return err
	}
	part := func(kind, label string, size int64) gpt.Partition {
		return gpt.Partition{Type: kind, UUID: gpt.ID(x.seed, "partition "+label), Label: label, Size: size}
	}
	x.parts = []gpt.Partition{part(gpt.ESP, LabelESP, espSize)}
	if x.bios {
		x.parts = append(x.parts, part(gpt.BIOSBoot, LabelBIOS, biosSize))
	}
	x.parts = append(x.parts, part(gpt.BasicData, disk.LabelSeed, seedSize), part(gpt.LinuxGeneric, disk.LabelLive, x.tree.Size()))
	gpt.Place(x.parts)
	x.size = gpt.Size(x.parts)
	if free, err := x.room(x.work.dir); err != nil {
		return err
	} else if free < x.size {
		return noSpace(filepath.Dir(x.File), x.size, free)
	}
	f, err := os.OpenFile(x.image(), os.O_RDWR|os.O_CREATE|os.O_EXCL, mode(len(x.Configs)))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(x.size); err != nil {
		return err
	}
	if err := gpt.Write(f, x.size, gpt.ID(x.seed, "disk"), x.parts); err != nil {
		return err
	}
	for _, p := range x.parts {
		at := fat.Place{File: x.image(), At: p.Start}
		switch p.Label {
		case LabelESP:
			err = fat.Make(ctx, x.Runner, at, fat.Made{Size: p.Size, Label: p.Label, ID: x.volumeID(p.Label), Bits: 32, Time: x.time()}, x.esp)
		case disk.LabelSeed:
			err = makeSeed(ctx, x.Runner, x.work, at, x.volumeID(p.Label), x.time(), x.Configs)
		case disk.LabelLive:
			err = x.tree.Make(ctx, x.Runner, x.image(), p.Start, p.Size, ext4.Made{
				Label: p.Label, UUID: gpt.ID(x.seed, "file system "+p.Label), HashSeed: gpt.ID(x.seed, "hash seed"), Time: x.time(),
			})
		}
		if err != nil {
			return err
		}
	}
	return f.Close()
}

func (x *building) image() string { return x.work.path("medium") }

// time is that of everything on the medium: FAT knows no year before 1980.
func (x *building) time() time.Time {
	first := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	if x.record.Created.Before(first) {
		return first
	}
	return x.record.Created
}

// volumeID is the identifier of a FAT file system: digits of the image's digest.
func (x *building) volumeID(label string) uint32 {
	var id uint32
	fmt.Sscanf(gpt.ID(x.seed, "volume "+label)[:8], "%x", &id)
	return id
}

// sizeOfESP returns a size in bytes of a FAT32 file system for files, with some room
// for what its owner changes. UEFI wants FAT32 on disks, which has 65,525 clusters at
// least.
func sizeOfESP(files map[string]string) (int64, error) {
	need := int64(4 * mib)
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			return 0, err
		}
		need += info.Size() + 4096
	}
	need += need / 32 // both tables, at one sector a cluster
	return max(36*mib, (need+mib-1)/mib*mib), nil
}

// makeSeed makes the file system with the configs.
func makeSeed(ctx context.Context, r run.Runner, w *work, at fat.Place, id uint32, when time.Time, configs map[string][]byte) error {
	files := map[string]string{}
	dir, err := w.mkdir("seed")
	if err != nil {
		return err
	}
	for name, data := range configs {
		files[name] = filepath.Join(dir, name)
		if err := fat.CheckName(name); err != nil {
			return err
		}
		if err := os.WriteFile(files[name], data, 0o600); err != nil {
			return err
		}
	}
	return fat.Make(ctx, r, at, fat.Made{Size: seedSize, Label: disk.LabelSeed, ID: id, Bits: 16, Time: when}, files)
}

// bootable puts in what firmware looks for outside of file systems.
func (x *building) bootable(ctx context.Context) error {
	f, err := os.OpenFile(x.image(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	cd := eltorito.Image{Volume: volume, Size: x.size, Time: x.time()}
	if x.efi != "" {
		cd.EFI = x.parts[0].Start
	}
	if x.bios {
		place := x.parts[1].Start
		p, err := x.code.GRUB(ctx, x.Runner, x.work.dir, x.volumeID(LabelESP))
		if err != nil {
			return err
		}
		mbr := make([]byte, gpt.Block)
		if _, err := f.ReadAt(mbr, 0); err != nil {
			return err
		}
		cd.BIOS = place + cdPlace
		err = errors.Join(eltorito.MBR(mbr, p.Boot, place), eltorito.Core(p.Core, place, cdPlace), eltorito.CD(p.CD, cd.BIOS, biosSize-cdPlace))
		if err != nil {
			return err
		}
		for _, part := range []struct {
			data []byte
			at   int64
		}{{mbr, 0}, {p.Core, place}, {p.CD, cd.BIOS}} {
			if _, err := f.WriteAt(part.data, part.at); err != nil {
				return err
			}
		}
	}
	if err := eltorito.Write(f, cd); err != nil {
		return err
	}
	return f.Sync()
}

// finish computes the digests, and gives the medium its name.
func (x *building) finish() (Manifest, error) {
	r := x.record
	m := Manifest{
		Format: ManifestFormat, Size: x.size, Reference: r.Reference, ManifestDigest: r.ManifestDigest, ImageDigest: r.ImageDigest,
		System: x.entry.Title, Architecture: r.Architecture, Created: x.time(), Configs: []BootFile{},
	}
	if x.efi != "" {
		m.Firmware = append(m.Firmware, UEFI)
	}
	if x.bios {
		m.Firmware = append(m.Firmware, BIOS)
	}
	for _, p := range x.parts {
		m.Partitions = append(m.Partitions, Part{Label: p.Label, UUID: p.UUID, Start: p.Start, Size: p.Size})
	}
	for _, name := range sortedKeys(x.esp) {
		data, err := os.ReadFile(x.esp[name])
		if err != nil {
			return m, err
		}
		m.BootFiles = append(m.BootFiles, BootFile{name, int64(len(data)), digestBytes(data)})
	}
	for _, name := range sortedKeys(x.Configs) {
		m.Configs = append(m.Configs, BootFile{name, int64(len(x.Configs[name])), digestBytes(x.Configs[name])})
	}
	f, err := os.OpenFile(x.image(), os.O_RDWR, 0)
	if err != nil {
		return m, err
	}
	defer f.Close()
	if err := m.digests(f); err != nil {
		return m, err
	}
	if err := f.Sync(); err != nil {
		return m, err
	}
	// A manifest alone is no medium; a medium alone is one that nobody can check.
	if err := m.write(x.File); err != nil {
		return m, err
	}
	if err := os.Rename(x.image(), x.File); err != nil {
		return m, err
	}
	return m, syncDir(filepath.Dir(x.File))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
