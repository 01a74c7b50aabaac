package medium

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/bounded"
)

// ManifestFormat is the version of the manifest's format.
const ManifestFormat = 1

// Manifest says what is in a medium: FILE.manifest.json.
type Manifest struct {
	Format         int        `json:"format"`
	Digest         string     `json:"digest"` // sha256 of the file
	Size           int64      `json:"size"`   // of the file, bytes
	Reference      string     `json:"reference"`
	ManifestDigest string     `json:"manifest_digest,omitempty"` // of the image
	ImageDigest    string     `json:"image_digest"`
	System         string     `json:"system"`
	Architecture   string     `json:"architecture"`
	Created        time.Time  `json:"created"`  // the image's
	Firmware       []string   `json:"firmware"` // that boots it: "uefi", "bios"
	Partitions     []Part     `json:"partitions"`
	BootFiles      []BootFile `json:"boot_files"`
	Configs        []BootFile `json:"configs"` // on COS_SEED
}

// Part is a partition of a medium.
type Part struct {
	Label  string `json:"label"`
	UUID   string `json:"uuid"`
	Start  int64  `json:"start"` // bytes
	Size   int64  `json:"size"`  // bytes
	Digest string `json:"digest"`
}

// BootFile is a file on the ESP or on COS_SEED.
type BootFile struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"` // bytes
	Digest string `json:"digest"`
}

// ManifestPath returns where the manifest of a medium lies.
func ManifestPath(file string) string { return file + ".manifest.json" }

// maxManifest bounds a manifest, in bytes.
const maxManifest = 1 << 20

// ErrNoManifest says that a medium has none beside it.
var ErrNoManifest = errors.New("no manifest beside the file")

// ReadManifest reads the manifest of a medium.
func ReadManifest(file string) (Manifest, error) {
	var m Manifest
	data, err := bounded.File(ManifestPath(file), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return m, ErrNoManifest
	}
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err == nil && m.Format != ManifestFormat {
		err = fmt.Errorf("format %d, this program knows %d", m.Format, ManifestFormat)
	}
	if err != nil {
		return m, fmt.Errorf("read %s: %w", ManifestPath(file), err)
	}
	return m, nil
}

// mode is that of a file that tells of configs: they may have secrets, and a digest lets
// anybody try out short ones.
func mode(configs int) fs.FileMode {
	if configs > 0 {
		return 0o600
	}
	return 0o644
}

// write writes the manifest beside the medium.
func (m Manifest) write(file string) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer root.Close()
	return atomicfile.Write(root, ManifestPath(filepath.Base(file)), append(data, '\n'), mode(len(m.Configs)))
}

// digests reads a medium once and fills in the digests of it and of its partitions,
// which lie in the order of their places.
func (m *Manifest) digests(f io.ReaderAt) error {
	whole := sha256.New()
	at := int64(0)
	pass := func(to int64, also io.Writer) error {
		w := io.Writer(whole)
		if also != nil {
			w = io.MultiWriter(whole, also)
		}
		n, err := io.CopyBuffer(onlyWriter{w}, onlyReader{io.NewSectionReader(f, at, to-at)}, make([]byte, 1<<20))
		if err == nil && n != to-at {
			err = io.ErrUnexpectedEOF
		}
		at = to
		return err
	}
	for i := range m.Partitions {
		p := &m.Partitions[i]
		if p.Start < at || p.Start+p.Size > m.Size {
			return fmt.Errorf("partition %s lies outside of the file", p.Label)
		}
		if err := pass(p.Start, nil); err != nil {
			return err
		}
		own := sha256.New()
		if err := pass(p.Start+p.Size, own); err != nil {
			return err
		}
		p.Digest = digestOf(own.Sum(nil))
	}
	if err := pass(m.Size, nil); err != nil {
		return err
	}
	m.Digest = digestOf(whole.Sum(nil))
	return nil
}

func digestOf(sum []byte) string { return "sha256:" + hex.EncodeToString(sum) }

func digestBytes(data []byte) string {
	sum := sha256.Sum256(data)
	return digestOf(sum[:])
}

// onlyReader and onlyWriter keep io.CopyBuffer to the given buffer.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)
