package bench

import (
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// contents are the distinct contents of the files of a tree: SHA-256, and the
// path of one of the files that have it.
type contents map[[sha256.Size]byte]string

// size is what files have in bytes, as they are and each compressed on its own.
type size struct{ raw, compressed float64 }

// contentsOf reads the files of a tree.
func contentsOf(root string) (contents, error) {
	all := make(contents)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		all[sha256.Sum256(data)] = path
		return err
	})
	return all, err
}

// since returns the size of what before did not have.
func (c contents) since(t *testing.T, before contents) (changed size) {
	t.Helper()
	encoder, err := zstd.NewWriter(nil) // the level at which layers are made
	must(t, err)
	defer encoder.Close()
	var buf []byte
	for key, path := range c {
		if _, had := before[key]; had {
			continue
		}
		data, err := os.ReadFile(path)
		must(t, err)
		buf = encoder.EncodeAll(data, buf[:0])
		changed.raw += float64(len(data))
		changed.compressed += float64(len(buf))
	}
	return changed
}
