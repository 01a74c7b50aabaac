package bls

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Entry is a Type #1 boot entry. Parse drops keys that the toolkit does not write: it
// only ever rewrites entries of its own.
type Entry struct {
	Name    Name
	Title   string
	SortKey string
	Version string
	// Paths on the file system of the entry, from its root.
	Linux   string
	Initrd  []string
	EFI     string // a unified kernel image, systemd-boot up to 257
	UKI     string // the same, from systemd-boot 258
	Options string
}

// maxEntry bounds an entry file, in bytes.
const maxEntry = 64 << 10

// Parse parses the content of an entry file.
func Parse(name Name, data []byte) (Entry, error) {
	e := Entry{Name: name}
	if len(data) > maxEntry {
		return e, fmt.Errorf("entry %s: larger than %d bytes", name, maxEntry)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxEntry+1)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		i := strings.IndexAny(line, " \t")
		if i < 0 {
			continue
		}
		if value := strings.TrimSpace(oneLine(line[i:])); value != "" {
			e.set(line[:i], value)
		}
	}
	return e, lines.Err()
}

func (e *Entry) set(key, value string) {
	switch key {
	case "title":
		e.Title = value
	case "sort-key":
		e.SortKey = value
	case "version":
		e.Version = value
	case "linux":
		e.Linux = value
	case "initrd":
		e.Initrd = append(e.Initrd, value)
	case "efi":
		e.EFI = value
	case "uki":
		e.UKI = value
	case "options":
		e.Options = strings.TrimSpace(e.Options + " " + value)
	}
}

// Bytes returns the content of the entry file.
func (e Entry) Bytes() []byte {
	var b bytes.Buffer
	line := func(key, value string) {
		if value = strings.TrimSpace(oneLine(value)); value != "" {
			fmt.Fprintf(&b, "%-8s %s\n", key, value)
		}
	}
	line("title", e.Title)
	line("version", e.Version)
	line("sort-key", e.SortKey)
	line("linux", e.Linux)
	for _, initrd := range e.Initrd {
		line("initrd", initrd)
	}
	line("efi", e.EFI)
	line("uki", e.UKI)
	line("options", e.Options)
	return b.Bytes()
}

// oneLine replaces control characters, so that a value from an image cannot add lines
// to the entry.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// Files returns the paths of the boot files that the entry needs, without the
// leading slash.
func (e Entry) Files() []string {
	var files []string
	for _, f := range append([]string{e.Linux, e.EFI, e.UKI}, e.Initrd...) {
		if f = strings.TrimLeft(strings.ReplaceAll(f, `\`, "/"), "/"); f != "" {
			files = append(files, f)
		}
	}
	return files
}

// bootable reports whether a boot loader shows the entry: it skips one that names
// nothing to load, such as an empty file.
func (e Entry) bootable() bool { return e.Linux != "" || e.EFI != "" || e.UKI != "" }

// Sort sorts entries as systemd-boot does: the first one boots.
func Sort(entries []Entry) { slices.SortStableFunc(entries, compare) }

func compare(a, b Entry) int {
	order := func(x, y bool) int { // true sorts first
		switch {
		case x == y:
			return 0
		case x:
			return -1
		}
		return 1
	}
	if c := order(a.Name.State() != Bad, b.Name.State() != Bad); c != 0 {
		return c
	}
	if c := order(a.SortKey != "", b.SortKey != ""); c != 0 {
		return c
	}
	if a.SortKey != "" {
		if c := cmp.Compare(a.SortKey, b.SortKey); c != 0 {
			return c
		}
		if c := CompareVersions(b.Version, a.Version); c != 0 {
			return c
		}
	}
	if c := CompareVersions(b.Name.Base, a.Name.Base); c != 0 {
		return c
	}
	if c := cmp.Compare(b.Name.Left, a.Name.Left); c != 0 {
		return c
	}
	return cmp.Compare(a.Name.Done, b.Name.Done)
}
