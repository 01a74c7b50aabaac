package cmd

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	Manifests     []descriptor `json:"manifests"`
}

// writeImage adds an image to an OCI layout and returns its manifest digest.
func writeImage(layout, tag string, dirs []string) (string, error) {
	version := strings.TrimSuffix(tag, "!")
	var layers []descriptor
	var diffIDs []string
	for _, dir := range dirs {
		raw, err := archive(dir)
		if err != nil {
			return "", err
		}
		diffIDs = append(diffIDs, sum(raw))
		var packed bytes.Buffer
		z, _ := gzip.NewWriterLevel(&packed, gzip.NoCompression) // the contents are random
		z.Write(raw)
		z.Close()
		l, err := putBlob(layout, "application/vnd.oci.image.layer.v1.tar+gzip", packed.Bytes())
		if err != nil {
			return "", err
		}
		layers = append(layers, l)
	}
	if tag != version { // cut the last layer off
		name := filepath.Join(layout, "blobs/sha256", strings.TrimPrefix(layers[len(layers)-1].Digest, "sha256:"))
		if err := os.Truncate(name, int64(layers[len(layers)-1].Size/2)); err != nil {
			return "", err
		}
	}
	config, err := putJSON(layout, "application/vnd.oci.image.config.v1+json", map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": "2026-01-02T03:04:05Z",
		"config": map[string]any{"Labels": map[string]string{"org.opencontainers.image.version": version}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	if err != nil {
		return "", err
	}
	manifest, err := putJSON(layout, "application/vnd.oci.image.manifest.v1+json", map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers,
	})
	if err != nil {
		return "", err
	}
	manifest.Annotations = map[string]string{"org.opencontainers.image.ref.name": version}
	return manifest.Digest, addToIndex(layout, manifest)
}

func addToIndex(layout string, m descriptor) error {
	var ix index
	name := filepath.Join(layout, "index.json")
	if data, err := os.ReadFile(name); err == nil {
		if err := json.Unmarshal(data, &ix); err != nil {
			return err
		}
	}
	ix.SchemaVersion = 2
	ix.Manifests = append(ix.Manifests, m)
	data, err := json.Marshal(ix)
	if err != nil {
		return err
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(layout, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}

func putJSON(layout, mediaType string, v any) (descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	return putBlob(layout, mediaType, data)
}

func putBlob(layout, mediaType string, data []byte) (descriptor, error) {
	d := sum(data)
	dir := filepath.Join(layout, "blobs/sha256")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return descriptor{}, err
	}
	return descriptor{MediaType: mediaType, Digest: d, Size: len(data)}, os.WriteFile(filepath.Join(dir, d[7:]), data, 0o644)
}

func sum(data []byte) string {
	h := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(h[:])
}

// archive makes a reproducible tar archive of a directory. A file called
// NAME.link holds the target of a symbolic link NAME.
func archive(dir string) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		if d.IsDir() {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: rel + "/", Mode: 0o755})
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if link, ok := strings.CutSuffix(rel, ".link"); ok {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: link, Linkname: strings.TrimSpace(string(data)), Mode: 0o777})
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: rel, Size: int64(len(data)), Mode: 0o644}); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out.Bytes(), w.Close()
}

// holdLock takes the lock of a store as another transaction would.
func holdLock(store string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(store, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(f, `{"pid":4711,"command":"stage","reference":"quay.io/x/y:9","since":"2026-01-02T03:04:05Z"}`)
	return f, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}
