package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/lib/exit"
	digest "github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/manifest"
	ociarchive "go.podman.io/image/v5/oci/archive"
	ocilayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/types"
)

// OCI layouts are read here and not by containers/image, which unpacks an
// archive into a temporary directory first, takes the manifest that index.json
// points to unchecked, and follows URLs of layers. Names and policy scopes
// stay its own.

// layoutReference is an image in an OCI layout, in a directory or an archive.
type layoutReference struct {
	types.ImageReference
	path    string
	image   string
	archive bool
}

func newLayoutReference(rest string) (types.ImageReference, error) {
	ref, err := ocilayout.ParseReference(rest)
	if err != nil {
		return nil, err
	}
	path, image, _ := strings.Cut(rest, ":")
	return &layoutReference{ImageReference: ref, path: path, image: image}, nil
}

func newArchiveReference(rest string) (types.ImageReference, error) {
	ref, err := ociarchive.ParseReference(rest)
	if err != nil {
		return nil, err
	}
	path, image, _ := strings.Cut(rest, ":")
	return &layoutReference{ImageReference: ref, path: path, image: image, archive: true}, nil
}

// NewImageSource implements types.ImageReference.
func (ref *layoutReference) NewImageSource(ctx context.Context, sys *types.SystemContext) (types.ImageSource, error) {
	var files layoutFiles = directoryFiles(ref.path)
	if ref.archive {
		archive, err := openArchive(ctx, ref.path, sys.BigFilesTemporaryDir)
		if err != nil {
			return nil, err
		}
		files = archive
	}
	s := &layoutSource{ref: ref, files: files}
	if err := s.readIndex(); err != nil {
		files.Close()
		return nil, err
	}
	return s, nil
}

// layoutFiles are the files of an OCI layout.
type layoutFiles interface {
	// open returns a file and its size in bytes.
	open(name string) (io.ReadCloser, int64, error)
	Close() error
}

// directoryFiles is the directory of an OCI layout.
type directoryFiles string

func (d directoryFiles) open(name string) (io.ReadCloser, int64, error) {
	f, err := os.Open(filepath.Join(string(d), name))
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.Name())
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func (directoryFiles) Close() error { return nil }

// layoutSource implements types.ImageSource.
type layoutSource struct {
	ref   *layoutReference
	files layoutFiles
	top   imgspecv1.Descriptor
}

// readIndex finds the image that the reference names in index.json.
func (s *layoutSource) readIndex() error {
	raw, err := s.read(imgspecv1.ImageIndexFile)
	if errors.Is(err, fs.ErrNotExist) {
		return exit.Hint(fmt.Errorf("not an OCI layout: %w", err), "file: detects the type of the archive")
	}
	if err != nil {
		return err
	}
	var index imgspecv1.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return fmt.Errorf("read %s: %w", imgspecv1.ImageIndexFile, err)
	}
	found, err := pick(index.Manifests, s.ref.image)
	if err != nil {
		return err
	}
	if err := found.Digest.Validate(); err != nil {
		return fmt.Errorf("read %s: digest %q: %w", imgspecv1.ImageIndexFile, found.Digest, err)
	}
	s.top = found
	return nil
}

// pick returns the image called name, or the only one. "@N" is the one with
// that index, counted from 0.
func pick(manifests []imgspecv1.Descriptor, name string) (imgspecv1.Descriptor, error) {
	var names []string
	for _, m := range manifests {
		names = append(names, m.Annotations[imgspecv1.AnnotationRefName])
	}
	if i, ok := strings.CutPrefix(name, "@"); ok {
		n, err := strconv.Atoi(i)
		if err != nil || n < 0 || n >= len(manifests) {
			return imgspecv1.Descriptor{}, fmt.Errorf("no image @%s: there are %d", i, len(manifests))
		}
		return manifests[n], nil
	}
	if name != "" {
		i := slices.IndexFunc(manifests, func(m imgspecv1.Descriptor) bool {
			return m.Annotations[imgspecv1.AnnotationRefName] == name || m.Annotations["io.containerd.image.name"] == name
		})
		if i < 0 {
			return imgspecv1.Descriptor{}, exit.Hint(fmt.Errorf("no image has the name %q there", name),
				"its names are: %s", strings.Join(names, " "))
		}
		return manifests[i], nil
	}
	if len(manifests) != 1 {
		return imgspecv1.Descriptor{}, exit.Hint(fmt.Errorf("there are %d images, not one", len(manifests)),
			"add :NAME or :@INDEX to choose one; its names are: %s", strings.Join(names, " "))
	}
	return manifests[0], nil
}

// read reads a small file whole.
func (s *layoutSource) read(name string) ([]byte, error) {
	f, size, err := s.files.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > maxManifest {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are accepted", name, size, maxManifest)
	}
	raw, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return raw, nil
}

func blobName(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("digest %q: %w", d, err)
	}
	return imgspecv1.ImageBlobsDir + "/" + d.Algorithm().String() + "/" + d.Encoded(), nil
}

// Reference implements types.ImageSource.
func (s *layoutSource) Reference() types.ImageReference { return s.ref }

// Close implements types.ImageSource.
func (s *layoutSource) Close() error { return s.files.Close() }

// GetManifest implements types.ImageSource.
func (s *layoutSource) GetManifest(_ context.Context, instance *digest.Digest) ([]byte, string, error) {
	want, mime := s.top.Digest, s.top.MediaType
	if instance != nil {
		want, mime = *instance, ""
	}
	name, err := blobName(want)
	if err != nil {
		return nil, "", err
	}
	raw, err := s.read(name)
	if err != nil {
		return nil, "", fmt.Errorf("read manifest: %w", err)
	}
	if have := want.Algorithm().FromBytes(raw); have != want {
		return nil, "", fmt.Errorf("read manifest: its digest is %s, want %s", have, want)
	}
	if mime == "" {
		mime = manifest.GuessMIMEType(raw)
	}
	return raw, mime, nil
}

// GetBlob implements types.ImageSource.
func (s *layoutSource) GetBlob(_ context.Context, info types.BlobInfo, _ types.BlobInfoCache) (io.ReadCloser, int64, error) {
	name, err := blobName(info.Digest)
	if err != nil {
		return nil, 0, err
	}
	return s.files.open(name)
}

// HasThreadSafeGetBlob implements types.ImageSource.
func (s *layoutSource) HasThreadSafeGetBlob() bool { return true }

// GetSignatures implements types.ImageSource. A layout has none.
func (s *layoutSource) GetSignatures(context.Context, *digest.Digest) ([][]byte, error) {
	return nil, nil
}

// LayerInfosForCopy implements types.ImageSource: those of the manifest.
func (s *layoutSource) LayerInfosForCopy(context.Context, *digest.Digest) ([]types.BlobInfo, error) {
	return nil, nil
}
