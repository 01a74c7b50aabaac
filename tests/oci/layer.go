package oci

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layer is a compressed layer in a file.
type Layer struct {
	Path   string        `json:"-"`
	Title  string        `json:"title"`  // what made it, for the image's history
	Digest digest.Digest `json:"digest"` // of the file
	Size   int64         `json:"size"`   // of the file, in bytes
	DiffID digest.Digest `json:"diff_id"`
	Raw    int64         `json:"raw"` // bytes before compression
}

// Descriptor names the layer in a manifest.
func (l Layer) Descriptor() v1.Descriptor {
	return v1.Descriptor{MediaType: v1.MediaTypeImageLayerZstd, Digest: l.Digest, Size: l.Size}
}

// CreateLayer writes the archive that write produces, compressed, to path, and what it is to
// path+".json". The result depends on the archive alone.
func CreateLayer(path, title string, write func(io.Writer) error) (Layer, error) {
	layer, err := createLayer(path, title, write)
	if err != nil {
		os.Remove(path)
		return Layer{}, fmt.Errorf("create layer %q: %w", title, err)
	}
	return layer, nil
}

func createLayer(path, title string, write func(io.Writer) error) (Layer, error) {
	file, err := os.Create(path)
	if err != nil {
		return Layer{}, err
	}
	defer file.Close()
	compressed := counter{to: file, hash: sha256.New()}
	encoder, err := zstd.NewWriter(&compressed, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return Layer{}, err
	}
	raw := counter{to: encoder, hash: sha256.New()}
	if err := write(&raw); err != nil {
		return Layer{}, err
	}
	if err := encoder.Close(); err != nil {
		return Layer{}, err
	}
	if err := file.Close(); err != nil {
		return Layer{}, err
	}
	layer := Layer{
		Path: path, Title: title,
		Digest: compressed.digest(), Size: compressed.n,
		DiffID: raw.digest(), Raw: raw.n,
	}
	return layer, writeJSON(path+".json", layer)
}

// OpenLayer returns the layer that CreateLayer wrote to path.
func OpenLayer(path string) (Layer, error) {
	data, err := os.ReadFile(path + ".json")
	if err != nil {
		return Layer{}, err
	}
	layer := Layer{Path: path}
	if err := json.Unmarshal(data, &layer); err != nil {
		return Layer{}, fmt.Errorf("read %s.json: %w", path, err)
	}
	if info, err := os.Stat(path); err != nil {
		return Layer{}, err
	} else if info.Size() != layer.Size {
		return Layer{}, fmt.Errorf("layer %s has %d bytes, not %d", path, info.Size(), layer.Size)
	}
	return layer, nil
}

// counter counts and hashes what passes through it.
type counter struct {
	to   io.Writer
	hash hash.Hash
	n    int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.hash.Write(p[:n])
	c.n += int64(n)
	return n, err
}

func (c *counter) digest() digest.Digest { return digest.NewDigest(digest.SHA256, c.hash) }
