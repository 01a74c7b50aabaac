// Package oci writes container images without a container daemon: layers as zstd-compressed tar
// archives, and image layouts (OCI image specification 1.1, image-layout.md).
package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is what a layout holds under one name.
type Image struct {
	Name    string // the tag in the layout, "v1"
	Layers  []Layer
	Created time.Time
	Labels  map[string]string
}

// WriteLayout writes an image layout with these images to the directory dir, which must not exist.
// Layers are hard-linked into it.
func WriteLayout(dir string, images []Image) error {
	blobs := filepath.Join(dir, v1.ImageBlobsDir, string(digest.SHA256))
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	for _, image := range images {
		manifest, err := writeImage(blobs, image)
		if err != nil {
			return fmt.Errorf("write image %s: %w", image.Name, err)
		}
		manifest.Annotations = map[string]string{v1.AnnotationRefName: image.Name}
		index.Manifests = append(index.Manifests, manifest)
	}
	if err := writeJSON(filepath.Join(dir, v1.ImageIndexFile), index); err != nil {
		return err
	}
	return writeJSON(filepath.Join(dir, v1.ImageLayoutFile), v1.ImageLayout{Version: v1.ImageLayoutVersion})
}

func writeImage(blobs string, image Image) (v1.Descriptor, error) {
	config := v1.Image{
		Created:  &image.Created,
		Platform: v1.Platform{Architecture: "amd64", OS: "linux"},
		Config:   v1.ImageConfig{Labels: image.Labels, Cmd: []string{"/sbin/init"}},
		RootFS:   v1.RootFS{Type: "layers"},
	}
	manifest := v1.Manifest{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   v1.MediaTypeImageManifest,
		Annotations: image.Labels,
	}
	for _, layer := range image.Layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, layer.DiffID)
		config.History = append(config.History, v1.History{Created: &image.Created, CreatedBy: layer.Title})
		descriptor := layer.Descriptor()
		manifest.Layers = append(manifest.Layers, descriptor)
		blob := filepath.Join(blobs, descriptor.Digest.Encoded())
		if err := os.Link(layer.Path, blob); err != nil && !os.IsExist(err) {
			return v1.Descriptor{}, err
		}
	}
	var err error
	if manifest.Config, err = writeBlob(blobs, v1.MediaTypeImageConfig, config); err != nil {
		return v1.Descriptor{}, err
	}
	return writeBlob(blobs, v1.MediaTypeImageManifest, manifest)
}

// writeBlob stores value as JSON under its digest.
func writeBlob(blobs, mediaType string, value any) (v1.Descriptor, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return v1.Descriptor{}, err
	}
	name := digest.FromBytes(data)
	descriptor := v1.Descriptor{MediaType: mediaType, Digest: name, Size: int64(len(data))}
	return descriptor, os.WriteFile(filepath.Join(blobs, name.Encoded()), data, 0o644)
}

func writeJSON(path string, value any) error {
	var buf bytes.Buffer
	if err := json.NewEncoder(&buf).Encode(value); err != nil {
		return err
	}
	return os.WriteFile(path, buf.Bytes(), 0o644)
}
