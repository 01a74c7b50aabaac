// Package generation keeps staged configs on COS_OEM, each set complete and
// unchangeable under a name of its own, so that a boot can be told by one
// kernel argument which of them counts, and an older boot entry still means
// the older set.
//
//	/oem/*.yaml                    the plain configs, as in Kairos
//	/oem/.generations/ID/*.yaml    what was staged; wins over a plain file of
//	                               the same name
//	/oem/.generations/ID/generation.json
//
// ID is <number>-<first 12 hex of the SHA-256 of generation.json>, and that
// file holds the SHA-256 of all others: what the kernel argument names is
// checked by it.
package generation

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/lib/kernelargs"
)

const (
	// OEM is the mount point of COS_OEM.
	OEM = "/oem"
	// Argument is the kernel argument that names the generation.
	Argument = "kairos.config_generation"

	dirName  = ".generations"
	manifest = "generation.json"

	maxManifest = 1 << 20
	maxConfig   = 1 << 20 // bytes of a config
)

// Dir is the directory of the generations.
const Dir = OEM + "/" + dirName

// Generation is a staged set of configs.
type Generation struct {
	ID      string    `json:"-"`
	Number  int       `json:"number"`
	Created time.Time `json:"created"`
	Base    string    `json:"base,omitempty"`    // id of the generation that it is based on, "" for the plain configs
	Files   []File    `json:"files"`             // by name
	Removed []string  `json:"removed,omitempty"` // names of plain configs that the generation leaves out
}

// File is a config of a generation.
type File struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"` // hex
	Size   int64  `json:"size"`   // bytes
}

// Path returns the path of a file of the generation.
func (g *Generation) Path(name string) string { return path.Join(Dir, g.ID, name) }

// Find returns the file with a name, or nil.
func (g *Generation) Find(name string) *File {
	for i := range g.Files {
		if g.Files[i].Name == name {
			return &g.Files[i]
		}
	}
	return nil
}

var (
	idForm   = regexp.MustCompile(`^[1-9][0-9]{0,8}-[0-9a-f]{12}$`)
	nameForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,200}\.(yaml|yml)$`)
)

// CheckName validates the name of a config.
func CheckName(name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("%q can't be the name of a config: letters, digits, dots and dashes, ending in .yaml or .yml", name)
	}
	return nil
}

// CheckID validates the id of a generation.
func CheckID(id string) error {
	if !idForm.MatchString(id) {
		return fmt.Errorf("%q can't be the id of a generation: NUMBER-HEX", id)
	}
	return nil
}

// FromCommandLine returns the generation that a kernel command line names, "" when it
// names none. The last one is used.
func FromCommandLine(line string) (id string) {
	for word := range kernelargs.Words(line) {
		if value, ok := strings.CutPrefix(word, Argument+"="); ok {
			id = value
		}
	}
	return id
}

// Parse parses a generation.json and verifies that it has the given id: it comes from a
// disk that may be damaged.
func Parse(id string, data []byte) (*Generation, error) {
	g := &Generation{ID: id}
	if err := CheckID(id); err != nil {
		return nil, err
	}
	number, sum, _ := strings.Cut(id, "-")
	if digest(data)[:len(sum)] != sum {
		return nil, fmt.Errorf("generation %s is damaged: its %s has another digest", id, manifest)
	}
	if err := json.Unmarshal(data, g); err != nil {
		return nil, fmt.Errorf("generation %s: read %s: %w", id, manifest, err)
	}
	if strconv.Itoa(g.Number) != number {
		return nil, fmt.Errorf("generation %s holds the generation number %d", id, g.Number)
	}
	for _, f := range g.Files {
		if err := CheckName(f.Name); err != nil {
			return nil, fmt.Errorf("generation %s: %w", id, err)
		}
	}
	return g, nil
}

// Read returns the generation with an id beneath a root.
func Read(root *rootfs.Root, id string) (*Generation, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	data, err := root.ReadFile(path.Join(Dir, id, manifest), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no generation %s on COS_OEM: %w", id, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("generation %s: %w", id, err)
	}
	return Parse(id, data)
}

// Booted returns the generation that the kernel command line names, nil when
// it names none.
func Booted(root *rootfs.Root) (*Generation, error) {
	line, err := root.ReadFile("/proc/cmdline", maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	id := FromCommandLine(string(line))
	if id == "" {
		return nil, nil
	}
	return Read(root, id)
}

// ReadFile returns a file of a generation after it verified its digest.
func (g *Generation) ReadFile(root *rootfs.Root, f File) ([]byte, error) {
	data, err := root.ReadFile(g.Path(f.Name), maxConfig)
	if err != nil {
		return nil, fmt.Errorf("generation %s: %w", g.ID, err)
	}
	if digest(data) != f.SHA256 {
		return nil, fmt.Errorf("generation %s is damaged: %s has another digest", g.ID, f.Name)
	}
	return data, nil
}

// Verify verifies the digests of all files of a generation.
func (g *Generation) Verify(root *rootfs.Root) error {
	var all []error
	for _, f := range g.Files {
		_, err := g.ReadFile(root, f)
		all = append(all, err)
	}
	return errors.Join(all...)
}

// Overlay returns the configs of COS_OEM that a generation uses: plain ones that it
// neither replaces nor leaves out, and its own, sorted by name.
func (g *Generation) Overlay(plain []string) []string {
	var list []string
	for _, file := range plain {
		name, inTop := strings.CutPrefix(file, OEM+"/")
		if strings.HasPrefix(name, dirName+"/") {
			continue
		}
		if g != nil && inTop && (g.Find(name) != nil || slices.Contains(g.Removed, name)) {
			continue
		}
		list = append(list, file)
	}
	if g != nil {
		for _, f := range g.Files {
			list = append(list, g.Path(f.Name))
		}
	}
	slices.SortStableFunc(list, func(a, b string) int { return slices.Compare(place(a), place(b)) })
	return list
}

// place returns the position of a config among the others: a staged config takes the
// position of the plain file that it replaces. The content of a directory has the
// position of the directory's name.
func place(file string) []string {
	if strings.HasPrefix(file, Dir+"/") {
		return []string{path.Base(file)}
	}
	return strings.Split(strings.TrimPrefix(file, OEM+"/"), "/")
}

// All returns the valid generations on COS_OEM, oldest first, and an error about
// damaged ones.
func All(root *rootfs.Root) ([]*Generation, error) {
	entries, err := root.ReadDir(Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list generations: %w", err)
	}
	var list []*Generation
	var damaged error
	for _, e := range entries {
		if CheckID(e.Name()) != nil {
			continue // unfinished
		}
		g, err := Read(root, e.Name())
		if err != nil {
			damaged = errors.Join(damaged, err)
			continue
		}
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *Generation) int { return a.Number - b.Number })
	return list, damaged
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
