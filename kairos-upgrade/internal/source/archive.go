package source

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// maxArchived bounds the number of files in an archive of an image.
const maxArchived = 100_000

// archiveFiles is an OCI layout in a tar archive. Files are read in place.
type archiveFiles struct {
	f     *os.File
	files map[string]section
}

type section struct{ offset, size int64 }

// openArchive reads the headers of the archive. A compressed archive is
// uncompressed into a nameless file in tempDir first, since it can't be read
// in place.
func openArchive(ctx context.Context, name, tempDir string) (*archiveFiles, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	compression, err := compressionOf(f)
	if err == nil && compression != uncompressed {
		f, err = uncompress(ctx, f, compression, tempDir)
	}
	if err == nil {
		a := &archiveFiles{f: f, files: make(map[string]section)}
		if err = a.index(ctx); err == nil {
			return a, nil
		}
	}
	f.Close()
	return nil, fmt.Errorf("read archive: %w", err)
}

// index finds every regular file of the archive.
func (a *archiveFiles) index(ctx context.Context) error {
	if _, err := a.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return eachFile(ctx, a.f, func(name string, length int64) (bool, error) {
		// archive/tar reads nothing ahead: the content begins here. That it is
		// all there shows when the next header is read.
		at, err := a.f.Seek(0, io.SeekCurrent)
		if err != nil {
			return false, err
		}
		a.files[name] = section{at, length}
		return true, nil
	})
}

var errTruncated = errors.New("the archive is truncated")

// eachFile calls visit for the regular files of an archive until it returns
// false.
func eachFile(ctx context.Context, r io.Reader, visit func(name string, size int64) (bool, error)) error {
	t := tar.NewReader(r)
	for range maxArchived {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := t.Next()
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return errTruncated
		case err != nil:
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		more, err := visit(strings.TrimPrefix(path.Clean("/"+h.Name), "/"), h.Size)
		if err != nil || !more {
			return err
		}
	}
	return fmt.Errorf("more than %d files", maxArchived)
}

func (a *archiveFiles) open(name string) (io.ReadCloser, int64, error) {
	s, ok := a.files[name]
	if !ok {
		return nil, 0, &fs.PathError{Op: "open", Path: a.f.Name() + "/" + name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(a.f, s.offset, s.size)), s.size, nil
}

func (a *archiveFiles) Close() error { return a.f.Close() }

// uncompress copies the archive to a nameless file and closes f.
func uncompress(ctx context.Context, f *os.File, c compression, tempDir string) (*os.File, error) {
	defer f.Close()
	r, err := c.reader(f)
	if err != nil {
		return f, err
	}
	defer r.Close()
	to, err := os.CreateTemp(tempDir, "kairos-upgrade-archive-")
	if err != nil {
		return f, err
	}
	if err := os.Remove(to.Name()); err != nil {
		return to, err
	}
	_, err = io.Copy(to, &contextReader{ctx, r})
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errTruncated
	}
	return to, err
}

// sniff tells what kind of image archive a file is: ociArchive or
// dockerArchive. An archive that is both, as new versions of docker save write
// it, is read as the former: it has the manifest that a registry would have.
func sniff(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	compression, err := compressionOf(f)
	if err != nil {
		return "", err
	}
	r := io.ReadCloser(f)
	if compression != uncompressed {
		if r, err = compression.reader(f); err != nil {
			return "", err
		}
		defer r.Close()
	}
	found := ""
	err = eachFile(context.Background(), r, func(name string, _ int64) (bool, error) {
		switch name {
		case "index.json":
			found = ociArchive
			return false, nil
		case "manifest.json":
			found = dockerArchive
		}
		return true, nil
	})
	if found == "" && err == nil {
		err = errors.New("no index.json and no manifest.json in it")
	}
	if err != nil {
		return "", fmt.Errorf("%s is not an image archive: %w", name, err)
	}
	return found, nil
}
