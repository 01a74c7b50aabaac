package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/lib/exit"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/shortnames"
)

// Kind tells what a source is.
type Kind int

const (
	// KindImage is a container image: Open it.
	KindImage Kind = iota
	// KindTree is the root of a file system in a plain directory.
	KindTree
	// KindStore is a deployment in another store.
	KindStore
)

func (k Kind) String() string { return [...]string{"image", "tree", "store"}[k] }

// Source is a parsed source of an operating system.
type Source struct {
	Kind Kind
	// Given is the source as it was written.
	Given string
	// Path is the directory of a tree or a store.
	Path string
	// ID is the deployment in a store, "" for any.
	ID string

	transport string // of an image: as in containers-transports(5)
	rest      string // of an image: what is behind "transport:"
}

// Names of transports, as in containers-transports(5). registry is the one
// that is called docker there.
const (
	registry          = "docker"
	ociLayout         = "oci"
	ociArchive        = "oci-archive"
	dockerArchive     = "docker-archive"
	containersStorage = "containers-storage"
	dirLayout         = "dir"
)

const forms = "sources are REGISTRY/REPOSITORY:TAG or @DIGEST, oci:DIRECTORY[:TAG], oci-archive:FILE, " +
	"docker-archive:FILE, file:FILE, containers-storage:NAME, dir:DIRECTORY and store:DIRECTORY[:ID]"

// Parse reads a source: a registry reference, with or without docker://, or a
// transport and what it names. It looks at the file system to tell apart what
// is spelt the same:
//
//   - oci:NAME is an OCI layout if there is a directory called so, otherwise
//     a registry reference, which is how Kairos spells them;
//   - dir:PATH is an image in containers/image's layout if it has a file
//     called version, otherwise the root of a file system;
//   - oci://NAME is always a registry reference: Kairos writes both;
//   - file:PATH is an OCI or a docker archive, by its content; ocifile:PATH is the same.
//
// Errors have exit status 2, and a hint.
func Parse(s string) (Source, error) {
	src := Source{Given: s}
	transport, rest, ok := strings.Cut(s, ":")
	if !ok || !isTransport(transport) {
		return src.registry(s)
	}
	if rest == "" {
		return src, usage("source %q: nothing after %s:", s, transport)
	}
	switch transport {
	case "docker":
		return src.registry(strings.TrimPrefix(rest, "//"))
	case "oci":
		if name, ok := strings.CutPrefix(rest, "//"); ok { // as Kairos prints them
			return src.registry(name)
		}
		return src.oci(rest)
	case "dir":
		return src.dir(rest)
	case "file":
		return src.file(rest)
	case "ocifile": // Kairos' name of it
		return src.file(strings.TrimPrefix(rest, "//"))
	case "store":
		return src.store(rest)
	case "oci-archive", "docker-archive":
		path, _, _ := strings.Cut(rest, ":")
		if err := checkFile(path); err != nil {
			return src, err
		}
		src.transport, src.rest = transport, rest
		return src, nil
	case "containers-storage":
		src.transport, src.rest = transport, rest
		return src, nil
	}
	return src, usage("source %q: %s: is not supported", s, transport)
}

// FullRepository returns the full name of the repository that a source names,
// "quay.io/x/y", and false where it names none: a source on this machine, or a
// name without registry, of which registries.conf(5) makes one. It does not look
// at the file system, so that nobody learns what is there: oci: is never taken
// for a registry.
func FullRepository(source string) (name string, ok bool) {
	rest := source
	if transport, behind, ok := strings.Cut(source, ":"); ok && isTransport(transport) {
		if transport != registry {
			return "", false
		}
		rest = strings.TrimPrefix(behind, "//")
	}
	named, err := reference.ParseNormalizedNamed(rest)
	if err != nil || shortnames.IsShortName(rest) {
		return "", false
	}
	return named.Name(), true
}

// Remote reports whether the source is in a registry.
func (s Source) Remote() bool { return s.Kind == KindImage && s.transport == registry }

// Mounts reports whether reading a source takes mounts: a containers-storage's
// layers are overlays.
func Mounts(source string) bool {
	transport, _, _ := strings.Cut(source, ":")
	return transport == containersStorage
}

// IsStore reports whether a source is another store: store:DIRECTORY or
// store:DIRECTORY:ID.
func IsStore(source string) bool {
	transport, _, _ := strings.Cut(source, ":")
	return transport == "store"
}

// isTransport tells the name of a transport from that of a registry host
// (HOST:PORT/…) or of a short name (NAME:TAG).
func isTransport(s string) bool {
	switch s {
	case "docker", "oci", "dir", "file", "ocifile", "store", "oci-archive", "docker-archive", "containers-storage",
		// Known, but not for nodes.
		"docker-daemon", "ostree", "ostree-image-signed", "ostree-unverified-image", "sif", "atomic", "tarball",
		"http", "https":
		return true
	}
	return false
}

func (src Source) registry(ref string) (Source, error) {
	if strings.HasPrefix(ref, "/") || strings.HasPrefix(ref, ".") {
		return src, exit.Hint(usagef("source %q is not a reference, and has no known transport", src.Given),
			"write dir:%s for a directory, file:%s for an archive", ref, ref)
	}
	if err := checkReference(ref); err != nil {
		return src, usage("source %q: %w", src.Given, err)
	}
	src.transport, src.rest = registry, ref
	return src, nil
}

func (src Source) oci(rest string) (Source, error) {
	path, _, _ := strings.Cut(rest, ":")
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		src.transport, src.rest = ociLayout, rest
		return src, nil
	case err == nil:
		return src, exit.Hint(usagef("source %q: %s is not a directory", src.Given, path),
			"write oci-archive:%s for an archive", rest)
	case !errors.Is(err, fs.ErrNotExist), isPath(path):
		return src, usagef("source %q: %w", src.Given, err)
	}
	return src.registry(rest)
}

func (src Source) dir(path string) (Source, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return src, usagef("source %q: %w", src.Given, err)
	case !info.IsDir():
		return src, exit.Hint(usagef("source %q: %s is not a directory", src.Given, path),
			"write file:%s for an archive", path)
	}
	_, errVersion := os.Stat(filepath.Join(path, "version"))
	_, errManifest := os.Stat(filepath.Join(path, "manifest.json"))
	if errVersion == nil && errManifest == nil {
		src.transport, src.rest = dirLayout, path
		return src, nil
	}
	src.Kind, src.Path = KindTree, path
	return src, nil
}

func (src Source) file(path string) (Source, error) {
	if err := checkFile(path); err != nil {
		return src, err
	}
	transport, err := sniff(path)
	if err != nil {
		return src, exit.Hint(fmt.Errorf("source %q: %w", src.Given, err),
			"file: needs an archive as written by podman save or docker save")
	}
	src.transport, src.rest = transport, path
	return src, nil
}

// store splits store:PATH[:ID]. An ID has no slash.
func (src Source) store(rest string) (Source, error) {
	src.Kind, src.Path = KindStore, rest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.Contains(rest[i:], "/") {
		src.Path, src.ID = rest[:i], rest[i+1:]
	}
	if src.Path == "" {
		return src, usage("source %q: no directory", src.Given)
	}
	return src, nil
}

func isPath(s string) bool { return strings.HasPrefix(s, "/") || strings.HasPrefix(s, ".") }

func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return usagef("open archive: %w", err)
	case info.IsDir():
		return exit.Hint(usagef("open archive %s: it is a directory", path), "write oci:%s or dir:%s", path, path)
	}
	return nil
}

func usage(format string, args ...any) error {
	return exit.Hint(usagef(format, args...), "%s", forms)
}
