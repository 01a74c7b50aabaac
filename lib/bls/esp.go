package bls

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/kairos-io/toolkit/lib/atomicfile"
)

// EntriesDir is the directory of the boot entries on the ESP.
const EntriesDir = "loader/entries"

// maxEntries is how many entries are read at most.
const maxEntries = 4096

// ESP is a mounted EFI system partition.
type ESP struct{ Root *os.Root }

// own is the prefix of the names of the toolkit's entries.
const own = "kairos-"

// Entries returns all Type #1 entries in the order of the boot menu. It skips files
// that are no entries, as boot loaders do, and unreadable entries of other systems. An
// unreadable entry of the toolkit's own is an error, since the files that it names
// would count as unused. Where other processes rename or remove entries meanwhile,
// Entries reads the directory again.
func (esp ESP) Entries() (entries []Entry, err error) {
	for range maxReadings {
		if entries, err = esp.list(); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return entries, err
}

// maxReadings is how often Entries reads the directory at most. Another process that
// counts a boot or blesses an entry renames it once.
const maxReadings = 10

func (esp ESP) list() ([]Entry, error) {
	dir, err := esp.Root.Open(EntriesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list boot entries: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxEntries)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("list boot entries: %w", err)
	}
	var entries []Entry
	for _, file := range names {
		name, err := ParseName(file)
		if err != nil || atomicfile.IsTemp(file) {
			continue
		}
		entry, err := esp.read(file, name)
		if err != nil && !strings.HasPrefix(file, own) {
			continue
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
	Sort(entries)
	return entries, nil
}

func (esp ESP) read(file string, name Name) (Entry, error) {
	f, err := esp.Root.Open(path.Join(EntriesDir, file))
	if err != nil {
		return Entry{}, fmt.Errorf("read boot entry: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxEntry+1))
	if err != nil {
		return Entry{}, fmt.Errorf("read boot entry %s: %w", file, err)
	}
	return Parse(name, data)
}

// Publish makes an entry visible to the boot loader by one rename, durably. The files
// that it names must be durable before.
func (esp ESP) Publish(e Entry) error {
	if _, err := ParseName(e.Name.String()); err != nil {
		return err
	}
	if err := esp.Root.MkdirAll(EntriesDir, 0o755); err != nil {
		return fmt.Errorf("publish boot entry: %w", err)
	}
	if err := atomicfile.Write(esp.Root, path.Join(EntriesDir, e.Name.String()), e.Bytes(), 0o644); err != nil {
		return fmt.Errorf("publish boot entry %s: %w", e.Name, err)
	}
	return nil
}

// Remove removes the entry of a base name, whatever its counters are, durably. An entry
// that doesn't exist is no error.
func (esp ESP) Remove(base string) error {
	entries, err := esp.Entries()
	if err != nil {
		return err
	}
	return esp.removeAll(slices.DeleteFunc(entries, func(e Entry) bool { return !strings.EqualFold(e.Name.Base, base) }))
}

// RemoveFile removes the entry of an exact file name, counters included, durably. An
// entry that doesn't exist is no error.
func (esp ESP) RemoveFile(n Name) error {
	if _, err := ParseName(n.String()); err != nil {
		return err
	}
	return esp.removeAll([]Entry{{Name: n}})
}

func (esp ESP) removeAll(entries []Entry) error {
	var files []string
	for _, e := range entries {
		files = append(files, path.Join(EntriesDir, e.Name.String()))
	}
	if err := atomicfile.Remove(esp.Root, files...); err != nil {
		return fmt.Errorf("remove boot entry: %w", err)
	}
	return nil
}

// Count changes or removes the counters of the entry of a base name, durably. Where
// several files are left with this base name, with different counters, it keeps the one
// that the menu shows first and removes the others at the end. It returns
// fs.ErrNotExist where there is no such entry.
//
// Count writes a second file and then removes the first, instead of renaming it: on FAT
// a power cut during a rename can leave an empty file under the new name, which boot
// loaders skip.
func (esp ESP) Count(to Name) error {
	if _, err := ParseName(to.String()); err != nil {
		return err
	}
	entries, err := esp.Entries()
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e Entry) bool { return e.Name.Base != to.Base })
	if len(entries) == 0 {
		return fmt.Errorf("count boot entry %s: %w", to.Base, fs.ErrNotExist)
	}
	first := max(0, slices.IndexFunc(entries, Entry.bootable))
	if err := esp.copy(entries[first].Name, to); err != nil {
		return fmt.Errorf("count boot entry %s: %w", to.Base, err)
	}
	return esp.removeAll(slices.DeleteFunc(entries, func(e Entry) bool { return e.Name == to }))
}

// copy writes an entry under another name. It renames the file where the file system
// has no space for a second one.
func (esp ESP) copy(from, to Name) error {
	if from == to {
		return nil
	}
	source, target := path.Join(EntriesDir, from.String()), path.Join(EntriesDir, to.String())
	f, err := esp.Root.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	err = atomicfile.WriteFrom(esp.Root, target, f, 0o644)
	if errors.Is(err, syscall.ENOSPC) {
		return atomicfile.Rename(esp.Root, source, target)
	}
	return err
}
