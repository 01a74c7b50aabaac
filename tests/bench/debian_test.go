package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/tests/images"
	"github.com/kairos-io/toolkit/tests/oci"
	"github.com/kairos-io/toolkit/tests/registry"
	"github.com/kairos-io/toolkit/tests/tree"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// The images of a node that runs Debian 12, in one registry:
const (
	release = "release" // the last point release
	updated = "updated" // with all updates since then
	single  = "single"  // the release with one package's update
	rebuilt = "rebuilt" // the release built anew: other times, other layers, every 20th file another one
)

// changedPackage is the one that differs in single.
const changedPackage = "libssl3"

// repository names the images that are compressed in one way.
func repository(compression string) string {
	return "bench/" + strings.ReplaceAll(compression, ":", "-")
}

const (
	chunked = "zstd:chunked"
	gzip    = "gzip"
)

// asGzip are the images that are compressed with gzip, too.
var asGzip = []string{release, single}

// debian is the registry with these images, and what they hold.
type debian struct {
	registry *registry.Registry
	roots    map[string]string // the root file systems, by tag
	contents map[string]contents
}

var made struct {
	sync.Once
	debian *debian
	err    error
}

// theDebian makes the images when they are first asked for.
func theDebian(t *testing.T) *debian {
	t.Helper()
	made.Do(func() { made.debian, made.err = newDebian(context.Background()) })
	must(t, made.err)
	return made.debian
}

func closeDebian() {
	if made.debian != nil {
		made.debian.registry.Stop()
	}
}

func newDebian(ctx context.Context) (*debian, error) {
	say := func(what string) { fmt.Println("debian:", what) }
	before, after, err := images.Updates(ctx, say)
	if err != nil {
		return nil, err
	}
	dir := workspace.Cache("bench", filepath.Base(filepath.Dir(before)))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		say("making images that differ, as zstd, zstd:chunked and gzip")
		if err := os.RemoveAll(workspace.Cache("bench")); err != nil {
			return nil, err
		}
		unfinished := dir + ".new"
		if err := makeImages(ctx, unfinished, before, after); err != nil {
			return nil, err
		}
		if err := os.Rename(unfinished, dir); err != nil {
			return nil, err
		}
	}
	d := &debian{
		roots: map[string]string{
			release: before, updated: after,
			single: filepath.Join(dir, single), rebuilt: filepath.Join(dir, rebuilt),
		},
		contents: make(map[string]contents),
	}
	if d.registry, err = registry.Start(ctx); err != nil {
		return nil, err
	}
	say("filling the registry")
	for tag, root := range d.roots {
		if d.contents[tag], err = contentsOf(root); err != nil {
			return nil, err
		}
		for _, compression := range []string{chunked, gzip} {
			if compression == gzip && !slices.Contains(asGzip, tag) {
				continue
			}
			if err := d.registry.Push(ctx, "oci:"+layout(dir, compression, tag), repository(compression)+":"+tag); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

// makeImages makes, in dir, the root file systems that are derived, and image
// layouts with each compression.
func makeImages(ctx context.Context, dir, before, after string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	roots := map[string]string{
		release: before, updated: after,
		single: filepath.Join(dir, single), rebuilt: filepath.Join(dir, rebuilt),
	}
	if err := makeSingle(ctx, before, after, roots[single]); err != nil {
		return err
	}
	if err := makeRebuilt(ctx, before, roots[rebuilt]); err != nil {
		return err
	}
	var all []oci.Image
	var err error
	for tag, root := range roots {
		layerOf := byKind
		if tag == rebuilt {
			layerOf = byName
		}
		layers, err := split(ctx, root, filepath.Join(dir, "layers", tag), layerOf)
		if err != nil {
			return err
		}
		all = append(all, oci.Image{Name: tag, Layers: layers, Created: newest, Labels: map[string]string{"org.opencontainers.image.version": tag}})
	}
	base := filepath.Join(dir, "base")
	if err := oci.WriteLayout(base, all); err != nil {
		return err
	}
	failed := make(chan error, len(roots))
	for tag := range roots {
		go func() { failed <- recompress(ctx, "oci:"+base+":"+tag, dir, tag) }()
	}
	for range roots {
		err = errors.Join(err, <-failed)
	}
	return errors.Join(err, os.RemoveAll(filepath.Join(dir, "layers")), os.RemoveAll(base))
}

// recompress makes layouts of an image, of one way to compress layers each.
func recompress(ctx context.Context, image, dir, tag string) error {
	for _, compression := range []string{chunked, gzip} {
		if compression == gzip && !slices.Contains(asGzip, tag) {
			continue
		}
		to := layout(dir, compression, tag)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		_, err := workspace.RunTool(ctx, "skopeo", "copy", "--quiet", "--insecure-policy",
			"--dest-compress-format", compression, image, "oci:"+to)
		if err != nil {
			return err
		}
	}
	return nil
}

// layout names an image in a layout of its own.
func layout(dir, compression, tag string) string {
	return filepath.Join(dir, strings.ReplaceAll(compression, ":", "-"), tag) + ":" + tag
}

// newest is the time that no file in a layer exceeds.
var newest = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// makeSingle copies the release, with the files of one package as they are
// after the updates.
func makeSingle(ctx context.Context, before, after, root string) error {
	if err := copyLinked(ctx, before, root); err != nil {
		return err
	}
	lists, err := filepath.Glob(filepath.Join(after, "var/lib/dpkg/info", changedPackage+"[.:]*list"))
	if err != nil || len(lists) != 1 {
		return fmt.Errorf("files of package %s: %v, %w", changedPackage, lists, err)
	}
	list, err := os.Open(lists[0])
	if err != nil {
		return err
	}
	defer list.Close()
	for lines := bufio.NewScanner(list); lines.Scan(); {
		name := lines.Text()
		info, err := os.Lstat(filepath.Join(after, name))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue // left out of the image, or no content
		} else if err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(root, name)); err != nil {
			return err
		}
		if _, err := workspace.Run(exec.CommandContext(ctx, "cp", "-a", filepath.Join(after, name), filepath.Join(root, name))); err != nil {
			return err
		}
	}
	return nil
}

// makeRebuilt copies the release as another build would have made it: all
// times differ, and one byte of every 20th file.
func makeRebuilt(ctx context.Context, before, root string) error {
	if _, err := workspace.Run(exec.CommandContext(ctx, "cp", "-a", before, root)); err != nil {
		return err
	}
	files := 0
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		if files++; files%20 == 0 {
			if err := changeByte(path); err != nil {
				return err
			}
		}
		at := newest.Add(-time.Duration(files) * time.Second)
		return os.Chtimes(path, at, at)
	})
}

func changeByte(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	var b [1]byte
	if _, err := file.ReadAt(b[:], info.Size()/2); err != nil {
		return err
	}
	b[0] ^= 1
	_, err = file.WriteAt(b[:], info.Size()/2)
	return err
}

// layers is the number of layers of each image.
const layers = 3

// byKind puts the kernel into layer 0, libraries into layer 1, and the rest
// into layer 2, as the steps of a build would.
func byKind(path string) int {
	switch {
	case strings.HasPrefix(path, "usr/lib/modules/"):
		return 0
	case strings.HasPrefix(path, "usr/lib/"):
		return 1
	}
	return 2
}

// byName shuffles all files.
func byName(path string) int {
	h := fnv.New32a()
	io.WriteString(h, path)
	return int(h.Sum32() % layers)
}

// split makes layers of a tree; each has all directories.
func split(ctx context.Context, root, dir string, layerOf func(path string) int) ([]oci.Layer, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	part := filepath.Join(dir, "part")
	defer os.RemoveAll(part)
	var all []oci.Layer
	for i := range layers {
		if err := os.RemoveAll(part); err != nil {
			return nil, err
		}
		if err := copyLinked(ctx, root, part); err != nil {
			return nil, err
		}
		err := filepath.WalkDir(part, func(path string, entry fs.DirEntry, err error) error {
			name, relErr := filepath.Rel(part, path)
			if err = errors.Join(err, relErr); err != nil || entry.IsDir() || layerOf(name) == i {
				return err
			}
			return os.Remove(path)
		})
		if err != nil {
			return nil, err
		}
		layer, err := oci.CreateLayer(filepath.Join(dir, fmt.Sprint(i)), fmt.Sprint("layer ", i), func(w io.Writer) error {
			return tree.WriteDiff(w, "", part, newest)
		})
		if err != nil {
			return nil, err
		}
		all = append(all, layer)
	}
	return all, nil
}

// copyLinked copies a tree; its files stay the same files.
func copyLinked(ctx context.Context, from, to string) error {
	_, err := workspace.Run(exec.CommandContext(ctx, "cp", "-al", from, to))
	return err
}
