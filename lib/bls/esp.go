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

// EntriesDir is where entries live on the ESP.
const EntriesDir = "loader/entries"

// maxEntries bounds how many entries are read.
const maxEntries = 4096

// ESP is a mounted EFI system partition.
type ESP struct{ Root *os.Root }

// own begins the names of the toolkit's entries.
const own = "kairos-"

// Entries returns all Type #1 entries in the order of the boot menu. Files
// that are no entries are passed over, as boot loaders do, and so is what
// another system left that can't be read. One of the toolkit's own that can't
// be read is an error: what it names would be taken for unused. Others may
// rename and remove entries meanwhile; then the directory is read again.
func (esp ESP) Entries() (entries []Entry, err error) {
	for range maxReadings {
		if entries, err = esp.list(); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return entries, err
}

// maxReadings bounds how often the directory is read. Who counts a boot or
// blesses an entry renames it once.
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

// Publish makes an entry visible to the boot loader by one rename, and durable.
// Everything it names must be durable before.
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

// Remove removes an entry, whatever its counters say now, and makes that
// durable. An entry that doesn't exist is no error.
func (esp ESP) Remove(base string) error {
	entries, err := esp.Entries()
	if err != nil {
		return err
	}
	return esp.removeAll(slices.DeleteFunc(entries, func(e Entry) bool { return !strings.EqualFold(e.Name.Base, base) }))
}

// RemoveFile removes the entry that has exactly this name, counters included,
// and makes that durable. One that doesn't exist is no error.
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

// Count gives the entry of a base name other counters, or none, and makes that
// durable. Where the entry is there several times, with and without counters,
// the one that the menu shows first stays, and the others go at the end. An
// entry that does not exist is fs.ErrNotExist.
//
// The entry gets a second file before the first goes, not another name: on FAT
// a power cut in a rename can leave the new name with nothing in it, which boot
// loaders pass over.
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

// copy writes an entry under another name. Where there is no room for another
// file it is renamed.
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
