package generation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/lib/atomicfile"
)

// Disk has the operations that change COS_OEM. Each is durable when it returns; tests
// make them fail one after the other.
type Disk interface {
	// ReadDir returns the names in a directory; none when it doesn't exist.
	ReadDir(dir string) ([]string, error)
	ReadFile(name string) ([]byte, error)
	Mkdir(name string) error
	// Write writes a new file and syncs it.
	Write(name string, data []byte) error
	// Rename renames a directory and syncs the one above it.
	Rename(from, to string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	RemoveAll(name string) error
}

// OpenDisk returns COS_OEM, mounted at a directory. Names are resolved beneath it.
func OpenDisk(dir string) (Disk, func() error, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return mounted{root}, root.Close, nil
}

// Change is a change of configs that Write makes a generation of.
type Change struct {
	Base   *Generation       // nil: the plain configs
	Put    map[string][]byte // by name
	Remove []string
}

// unfinished is the prefix of generations that are being written.
const unfinished = ".#"

// Write stores a generation durably. It writes it under a temporary name and renames it
// at the end: after a power cut the generation is complete or doesn't exist, and others
// are unchanged.
func Write(disk Disk, change Change, now time.Time) (*Generation, error) {
	g, content, err := prepare(disk, change, now)
	if err != nil {
		return nil, fmt.Errorf("make a generation: %w", err)
	}
	if err := write(disk, g, content); err != nil {
		return nil, fmt.Errorf("write generation %s: %w", g.ID, err)
	}
	return g, nil
}

// prepare returns the generation and the content of its files.
func prepare(disk Disk, change Change, now time.Time) (*Generation, map[string][]byte, error) {
	names, err := disk.ReadDir(dirName)
	if err != nil {
		return nil, nil, err
	}
	g := &Generation{Number: highest(names) + 1, Created: now.UTC().Truncate(time.Second), Files: []File{}}
	content := map[string][]byte{}
	if base := change.Base; base != nil {
		g.Base = base.ID
		g.Removed = slices.Clone(base.Removed)
		for _, f := range base.Files {
			data, err := disk.ReadFile(path.Join(dirName, base.ID, f.Name))
			if err == nil && digest(data) != f.SHA256 {
				err = fmt.Errorf("generation %s is damaged: %s has another digest", base.ID, f.Name)
			}
			if err != nil {
				return nil, nil, err
			}
			content[f.Name] = data
		}
	}
	for name, data := range change.Put {
		if err := CheckName(name); err != nil {
			return nil, nil, err
		}
		content[name] = data
		g.Removed = slices.DeleteFunc(g.Removed, func(r string) bool { return r == name })
	}
	for _, name := range change.Remove {
		if err := CheckName(name); err != nil {
			return nil, nil, err
		}
		delete(content, name)
		if !slices.Contains(g.Removed, name) {
			g.Removed = append(g.Removed, name)
		}
	}
	for name, data := range content {
		g.Files = append(g.Files, File{Name: name, SHA256: digest(data), Size: int64(len(data))})
	}
	slices.SortFunc(g.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	text, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return nil, nil, err
	}
	content[manifest] = append(text, '\n')
	g.ID = fmt.Sprintf("%d-%s", g.Number, digest(content[manifest])[:12])
	return g, content, nil
}

func highest(names []string) (number int) {
	for _, name := range names {
		var n int
		if _, err := fmt.Sscanf(strings.TrimPrefix(name, unfinished), "%d-", &n); err == nil {
			number = max(number, n)
		}
	}
	return number
}

func write(disk Disk, g *Generation, content map[string][]byte) (err error) {
	if err := disk.Mkdir(dirName); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	temp := path.Join(dirName, unfinished+g.ID)
	if err := disk.Mkdir(temp); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = disk.RemoveAll(temp) // or at the next collection
		}
	}()
	for name, data := range content {
		if err := disk.Write(path.Join(temp, name), data); err != nil {
			return err
		}
	}
	if err := disk.SyncDir(temp); err != nil {
		return err
	}
	return disk.Rename(temp, path.Join(dirName, g.ID))
}

// Collect removes unneeded generations: unfinished ones, and the oldest of those that
// no boot entry names, until at most keep are left. It returns the removed ids. The
// caller excludes other writers.
func Collect(disk Disk, named []string, keep int) (removed []string, err error) {
	names, err := disk.ReadDir(dirName)
	if err != nil {
		return nil, err
	}
	var spare []string
	left := 0
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, unfinished):
			err = errors.Join(err, disk.RemoveAll(path.Join(dirName, name)))
		case CheckID(name) != nil:
		case slices.Contains(named, name):
			left++
		default:
			left++
			spare = append(spare, name)
		}
	}
	slices.SortFunc(spare, func(a, b string) int { return highest([]string{a}) - highest([]string{b}) })
	for _, id := range spare {
		if left <= keep {
			break
		}
		if e := Remove(disk, id); e != nil {
			err = errors.Join(err, e)
			continue
		}
		left--
		removed = append(removed, id)
	}
	return removed, err
}

// mounted is the Disk of a mounted COS_OEM.
type mounted struct{ root *os.Root }

func (m mounted) ReadDir(dir string) ([]string, error) {
	f, err := m.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func (m mounted) ReadFile(name string) ([]byte, error) { return m.root.ReadFile(name) }

// Mkdir creates a directory that only root can read: configs contain secrets.
func (m mounted) Mkdir(name string) error {
	if err := m.root.Mkdir(name, 0o700); err != nil {
		return err
	}
	return m.SyncDir(path.Dir(name))
}

func (m mounted) Write(name string, data []byte) error {
	f, err := m.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func (m mounted) Rename(from, to string) error {
	if err := m.root.Rename(from, to); err != nil {
		return err
	}
	return m.SyncDir(path.Dir(to))
}

func (m mounted) SyncDir(name string) error { return atomicfile.SyncDir(m.root, name) }

func (m mounted) RemoveAll(name string) error { return m.root.RemoveAll(name) }

// Remove takes a generation away.
func Remove(disk Disk, id string) error {
	if err := CheckID(id); err != nil {
		return err
	}
	// Renamed first: half a generation must not be taken for one.
	gone := path.Join(dirName, unfinished+id)
	if err := disk.Rename(path.Join(dirName, id), gone); err != nil {
		return err
	}
	return disk.RemoveAll(gone)
}
