// Package mounttest makes what tests of mounting need: a store with a small composefs
// image, made by mkcomposefs 1.0.8, an ext4 device, a machine's /sys and /dev.
//
// It does not test fs-verity, which needs support of the kernel and the file system,
// nor systemd. The tests in virtual machines do.
package mounttest

import (
	"embed"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/fsverity"
)

//go:embed testdata/*.erofs
var images embed.FS

// Contents are the contents of the images' files that are objects, by path.
var Contents = map[string]string{
	"/usr/bin/tool":        strings.Repeat("the tool of the image\n", 20),
	"/etc/ssh/sshd_config": strings.Repeat("Port 22\n", 20),
	"/usr/local/bin/agent": strings.Repeat("agent of the image\n", 20),
	"/root/.bashrc":        strings.Repeat("alias ll=ls\n", 20),
	"/opt/vendor/data":     strings.Repeat("vendor\n", 40),
	"/var/log/installed":   strings.Repeat("log\n", 40),
	"/usr/libexec/helper":  strings.Repeat("nested\n", 40),
}

// Store creates a store at dir with the image "full" or "bare" and returns the digest
// of the image.
func Store(t testing.TB, dir, image string) (digest string) {
	t.Helper()
	data, err := images.ReadFile("testdata/" + image + ".erofs")
	if err != nil {
		t.Fatal(err)
	}
	digest = fsverity.Bytes(data).String()
	Write(t, filepath.Join(dir, "images", digest), string(data))
	for _, content := range Contents {
		object := fsverity.Bytes([]byte(content)).String()
		Write(t, filepath.Join(dir, "objects", object[:2], object[2:]), content)
	}
	return digest
}

// Write writes a file, and creates the directories above it.
func Write(t testing.TB, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Content returns the content of a file.
func Content(t testing.TB, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
