package medium

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-media/internal/ext4"
	"github.com/kairos-io/toolkit/kairos-media/internal/fat"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/bounded"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/run"
)

// Medium is a medium that is read.
type Medium struct {
	Path       string
	Size       int64
	Partitions []disk.Entry
	Record     deployment.Record
	Entry      bls.Entry
	ESP        []string // paths of files
	Configs    []string
	Firmware   []string

	file   *os.File
	store  *ext4.FS
	runner run.Runner
}

// ErrNoMedium says that a file is no medium.
var ErrNoMedium = errors.New("not a medium of kairos-media")

// Open reads what a medium is. The caller closes it.
func Open(ctx context.Context, r run.Runner, file string, flags int) (m *Medium, err error) {
	f, err := os.OpenFile(file, flags, 0)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			err = fmt.Errorf("read %s: %w", file, err)
		}
	}()
	m = &Medium{Path: file, file: f, runner: r}
	if m.Size, err = f.Seek(0, io.SeekEnd); err != nil {
		return nil, err
	}
	if m.Partitions, err = disk.ReadGPT(f, 512); errors.Is(err, disk.ErrNoGPT) {
		return nil, fmt.Errorf("%w: %w", ErrNoMedium, err)
	} else if err != nil {
		return nil, err
	}
	for _, p := range m.Partitions {
		if p.Start < 0 || p.Size <= 0 || p.Start > m.Size-p.Size {
			return nil, fmt.Errorf("partition %s lies behind the end of the file, which is cut off", p.Label)
		}
	}
	for _, label := range []string{LabelESP, disk.LabelSeed, disk.LabelLive} {
		if _, ok := m.part(label); !ok {
			return nil, fmt.Errorf("%w: it has no partition %s", ErrNoMedium, label)
		}
	}
	if err := m.readStore(); err != nil {
		return nil, fmt.Errorf("partition %s: %w", disk.LabelLive, err)
	}
	return m, m.readESP(ctx)
}

// Close closes the file.
func (m *Medium) Close() error { return m.file.Close() }

func (m *Medium) part(label string) (disk.Entry, bool) {
	for _, p := range m.Partitions {
		if p.Label == label {
			return p, true
		}
	}
	return disk.Entry{}, false
}

func (m *Medium) place(label string) fat.Place {
	p, _ := m.part(label)
	return fat.Place{File: m.Path, At: p.Start}
}

// readStore reads the record of the only deployment.
func (m *Medium) readStore() (err error) {
	p, _ := m.part(disk.LabelLive)
	if m.store, err = ext4.Open(io.NewSectionReader(m.file, p.Start, p.Size), p.Size); err != nil {
		return err
	}
	dir, err := m.store.Find(deployment.Dir)
	if err != nil {
		return err
	}
	entries, err := dir.Entries()
	if err != nil {
		return err
	}
	if len(entries) != 1 {
		return fmt.Errorf("%d deployments, not one", len(entries))
	}
	f, err := m.store.Open(entries[0])
	if err != nil {
		return err
	}
	const maxRecord = 4 << 20
	data, err := bounded.Read(f.Content(), maxRecord)
	if err == nil {
		m.Record, err = deployment.Parse(data)
	}
	if err != nil {
		return fmt.Errorf("%s/%s: %w", deployment.Dir, entries[0].Name, err)
	}
	return nil
}

// readESP reads what boots.
func (m *Medium) readESP(ctx context.Context) (err error) {
	if m.ESP, err = fat.List(ctx, m.runner, m.place(LabelESP)); err != nil {
		return fmt.Errorf("partition %s: %w", LabelESP, err)
	}
	if m.Configs, err = fat.List(ctx, m.runner, m.place(disk.LabelSeed)); err != nil {
		return fmt.Errorf("partition %s: %w", disk.LabelSeed, err)
	}
	data, err := fat.Read(ctx, m.runner, m.place(LabelESP), entryPath)
	if err == nil {
		m.Entry, err = bls.Parse(bls.Name{Base: strings.TrimSuffix(path.Base(entryPath), ".conf")}, data)
	}
	if err != nil {
		return fmt.Errorf("partition %s: %w", LabelESP, err)
	}
	for _, name := range m.ESP {
		if strings.HasPrefix(strings.ToUpper(name), "EFI/BOOT/BOOT") {
			m.Firmware = append(m.Firmware, UEFI)
			break
		}
	}
	if _, ok := m.part(LabelBIOS); ok {
		m.Firmware = append(m.Firmware, BIOS)
	}
	return nil
}

// Kargs are the kernel arguments that Edit has added to those of the image and of
// the building.
func (m *Medium) Kargs() string {
	return strings.TrimSpace(strings.TrimPrefix(m.Entry.Options, m.Record.Options))
}

// when is the time of everything on the medium: that of its volume as a CD.
func (m *Medium) when() (time.Time, error) {
	b := make([]byte, 14)
	if _, err := m.file.ReadAt(b, 16*2048+813); err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse("20060102150405", string(b))
	if err != nil {
		return t, fmt.Errorf("%w: its volume has no time", ErrNoMedium)
	}
	return t, nil
}

func (m *Medium) volume(label string) (id uint32, bits int, err error) {
	b := make([]byte, 512)
	if _, err := m.file.ReadAt(b, m.place(label).At); err != nil {
		return 0, 0, err
	}
	return fat.VolumeID(b)
}
