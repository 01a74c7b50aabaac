package images

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/tests/oci"
	"github.com/kairos-io/toolkit/tests/tree"
	"github.com/klauspost/compress/zstd"
)

// Variants writes an image layout with images that are v1 with another initrd and some more files, each
// with its own: what an upgrade that also replaces boot files has to write.
func (s *Set) Variants(dir string, names ...string) error {
	base := s.LayersOf("v1")
	initrd, content, err := findFile(base, func(name string) bool {
		return strings.HasPrefix(name, "usr/lib/modules/") && path.Base(name) == "initramfs.img"
	})
	if err != nil {
		return fmt.Errorf("find the initrd of v1: %w", err)
	}
	var variants []oci.Image
	for i, name := range names {
		layer, err := variant(filepath.Join(dir, "layer-"+name), name, uint64(i), initrd, content)
		if err != nil {
			return fmt.Errorf("make variant %s: %w", name, err)
		}
		variants = append(variants, image(name, slices.Concat(base, []oci.Layer{layer})))
	}
	return oci.WriteLayout(dir, variants)
}

// variant makes the layer that differs. The kernel passes over zeros after the archives of an initrd, in
// multiples of four bytes (Documentation/driver-api/early-userspace/buffer-format.rst).
func variant(dir, name string, seed uint64, initrd string, content []byte) (oci.Layer, error) {
	root := filepath.Join(dir, "tree")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return oci.Layer{}, err
	}
	files := release(name)
	files[initrd] = string(content) + strings.Repeat("\x00", 4096*int(seed+1))
	random := rand.NewChaCha8([32]byte{byte(seed)})
	for i := range 60 {
		data := make([]byte, 1000+i*i*20)
		random.Read(data)
		files[fmt.Sprintf("usr/share/variant/%d/%d", i%4, i)] = string(data)
	}
	for name, data := range files {
		if err := writeFile(root, name, data); err != nil {
			return oci.Layer{}, err
		}
	}
	layer, err := oci.CreateLayer(filepath.Join(dir, "layer"), "variant "+name, func(w io.Writer) error {
		return tree.WriteDiff(w, "", root, epoch)
	})
	return layer, errors.Join(err, os.RemoveAll(root))
}

// findFile returns the first file of the topmost layer that has one that is wanted.
func findFile(layers []oci.Layer, wanted func(name string) bool) (name string, content []byte, err error) {
	for i := len(layers) - 1; i >= 0; i-- {
		name, content, err := findInLayer(layers[i], wanted)
		if err != io.EOF {
			return name, content, err
		}
	}
	return "", nil, errors.New("no layer has it")
}

// findInLayer is io.EOF when there is none.
func findInLayer(layer oci.Layer, wanted func(name string) bool) (string, []byte, error) {
	file, err := os.Open(layer.Path)
	if err != nil {
		return "", nil, err
	}
	defer file.Close()
	decoder, err := zstd.NewReader(file)
	if err != nil {
		return "", nil, err
	}
	defer decoder.Close()
	archive := tar.NewReader(decoder)
	for {
		header, err := archive.Next()
		if err != nil {
			return "", nil, err
		}
		if header.Typeflag == tar.TypeReg && wanted(path.Clean(header.Name)) {
			content, err := io.ReadAll(archive)
			return path.Clean(header.Name), content, err
		}
	}
}
