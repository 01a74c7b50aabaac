package source

import (
	"fmt"

	"go.podman.io/image/v5/docker/reference"
)

// Pinned returns the source that names exactly this image: of a
// registry reference the repository with the manifest's digest, whatever its
// tag means by now. Other sources are returned as they are; whoever opens one
// compares ManifestDigest.
func Pinned(given, manifestDigest string) (string, error) {
	src, err := Parse(given)
	if err != nil {
		return "", err
	}
	if src.Kind != KindImage || src.transport != registry {
		return given, nil
	}
	repository, err := src.repository()
	if err != nil {
		return "", err
	}
	return repository + "@" + manifestDigest, nil
}

// Repository returns the repository of a registry reference, without tag and
// digest, as it was written: a short name stays one. ok is false for other
// sources.
func Repository(given string) (name string, ok bool) {
	src, err := Parse(given)
	if err != nil || src.Kind != KindImage || src.transport != registry {
		return "", false
	}
	name, err = src.repository()
	return name, err == nil
}

// Tag returns the tag of a registry reference, "" where it has none.
func Tag(given string) string {
	src, err := Parse(given)
	if err != nil || src.transport != registry {
		return ""
	}
	ref, err := reference.Parse(src.rest)
	if tagged, ok := ref.(reference.Tagged); ok && err == nil {
		return tagged.Tag()
	}
	return ""
}

func (src Source) repository() (string, error) {
	ref, err := reference.Parse(src.rest)
	if err != nil {
		return "", fmt.Errorf("source %q: %w", src.Given, err)
	}
	named, ok := ref.(reference.Named)
	if !ok {
		return "", fmt.Errorf("source %q: it has no name", src.Given)
	}
	return named.Name(), nil
}
