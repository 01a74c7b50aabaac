// Package fat makes and reads FAT file systems in files, with mkfs.vfat(8) and
// mtools(1).
package fat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/lib/run"
)

// Place is a file system in a file.
type Place struct {
	File string
	At   int64 // bytes
}

func (p Place) image() string { return fmt.Sprintf("%s@@%d", p.File, p.At) }

// Made says what file system is made.
type Made struct {
	Size  int64  // bytes
	Label string // 11 characters at most
	ID    uint32 // of the volume
	Bits  int    // 16 or 32
	Time  time.Time
}

// Programs are needed to make and to read.
var Programs = []string{"mkfs.vfat", "mcopy", "mmd", "mtype", "mdir"}

// named is what names on a medium may look like: mtools takes some characters for
// patterns.
var named = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`)

// CheckName refuses names that mtools or firmware would take for something else.
func CheckName(name string) error {
	if !named.MatchString(name) || len(name) > 200 {
		return fmt.Errorf("file name %q: letters, digits and . _ + - are allowed", name)
	}
	return nil
}

// Make makes a file system with files: from the paths on this machine, to the keys,
// paths on the file system. The same files make the same bytes; their times on this
// machine are changed.
func Make(ctx context.Context, r run.Runner, p Place, m Made, files map[string]string) error {
	r.Extra = append(r.Extra, environment(m.Time)...)
	_, err := r.Output(ctx, "mkfs.vfat", "--invariant", "-F", fmt.Sprint(m.Bits), "-S", fmt.Sprint(sector), "-s", fmt.Sprint(m.perCluster()), "-h", fmt.Sprint(p.At/sector),
		"-i", fmt.Sprintf("%08x", m.ID), "-n", m.Label, "--offset", fmt.Sprint(p.At/sector), p.File, fmt.Sprint(m.Size/1024))
	if err != nil {
		return fmt.Errorf("make file system %s: %w", m.Label, err)
	}
	if err := fill(ctx, r, p, m, files); err != nil {
		return fmt.Errorf("fill file system %s: %w", m.Label, err)
	}
	return nil
}

// perCluster returns how many sectors a cluster has: as many as the number of bits
// allows, by which drivers tell FAT16 and FAT32 apart. mkfs.vfat would decide by the
// size of the whole file.
func (m Made) perCluster() int64 {
	least := map[int]int64{16: 4085, 32: 65525}[m.Bits]
	for n := int64(8); n > 1; n /= 2 {
		if m.Size/sector/n > least+least/16 {
			return n
		}
	}
	return 1
}

const sector = 512

// fill copies files. Directories come first, everything in the order of the names.
func fill(ctx context.Context, r run.Runner, p Place, m Made, files map[string]string) error {
	var dirs, names []string
	for name := range files {
		names = append(names, name)
		for part := range strings.SplitSeq(name, "/") {
			if err := CheckName(part); err != nil {
				return err
			}
		}
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	slices.Sort(names)
	if dirs = slices.Compact(dirs); len(dirs) > 0 {
		argv := []string{"mmd", "-i", p.image()}
		for _, dir := range dirs {
			argv = append(argv, "::/"+dir)
		}
		if _, err := r.Output(ctx, argv...); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := copyTo(ctx, r, p, m.Time, files[name], name); err != nil {
			return err
		}
	}
	return nil
}

// Replace writes files over those that are there.
func Replace(ctx context.Context, r run.Runner, p Place, when time.Time, files map[string]string) error {
	r.Extra = append(r.Extra, environment(when)...)
	for name, from := range files {
		if err := copyTo(ctx, r, p, when, from, name); err != nil {
			return err
		}
	}
	return nil
}

// copyTo copies one file, with a time.
func copyTo(ctx context.Context, r run.Runner, p Place, when time.Time, from, name string) error {
	from, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	if err := os.Chtimes(from, when, when); err != nil {
		return err
	}
	_, err = r.Output(ctx, "mcopy", "-m", "-o", "-i", p.image(), from, "::/"+name)
	return err
}

// List returns the paths of all files, sorted.
func List(ctx context.Context, r run.Runner, p Place) ([]string, error) {
	r.Extra = append(r.Extra, environment(time.Unix(0, 0))...)
	out, err := r.Output(ctx, "mdir", "-i", p.image(), "-/", "-b", "::/")
	if failed := (*run.Error)(nil); errors.As(err, &failed) && strings.HasSuffix(failed.Cause, `File "::/" not found`) {
		return nil, nil // there are no files
	}
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "::/")
		if !ok || name == "" || strings.HasSuffix(name, "/") {
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// maxFile bounds what is read of one file, in bytes.
const maxFile = 1 << 30

// Read returns the content of a file.
func Read(ctx context.Context, r run.Runner, p Place, name string) ([]byte, error) {
	r.Extra = append(r.Extra, environment(time.Unix(0, 0))...)
	r.Most = maxFile
	out, err := r.Output(ctx, "mtype", "-i", p.image(), "::/"+name)
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", name, err)
	}
	return out, nil
}

func environment(t time.Time) []string {
	return []string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", t.Unix()), "TZ=UTC", "MTOOLSRC=/dev/null", "MTOOLS_SKIP_CHECK=1", "MTOOLS_LOWER_CASE=0"}
}

// VolumeID returns the identifier and the number of bits of a file system's boot
// sector.
func VolumeID(sector []byte) (id uint32, bits int, err error) {
	if len(sector) < 512 || sector[510] != 0x55 || sector[511] != 0xaa {
		return 0, 0, fmt.Errorf("no FAT file system")
	}
	at, bits := 39, 16
	if bytes.HasPrefix(sector[82:], []byte("FAT32")) {
		at, bits = 67, 32
	}
	return uint32(sector[at]) | uint32(sector[at+1])<<8 | uint32(sector[at+2])<<16 | uint32(sector[at+3])<<24, bits, nil
}
