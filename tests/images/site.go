package images

import (
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/tests/oci"
	"github.com/kairos-io/toolkit/tests/tree"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// siteFiles is what the owner of a site adds to an image, and here also the agent of the tests.
//
//go:embed all:site
var siteFiles embed.FS

// release is the file by which Kairos' users tell versions apart.
func release(version string) map[string]string {
	return map[string]string{"etc/kairos-release": "KAIROS_NAME=kairos-test-node\nKAIROS_VERSION=" + version + "\n"}
}

// siteLinks are the symbolic links of the site layer.
var siteLinks = map[string]string{
	// A getty on the serial port hangs it up under the test that reads it.
	"etc/systemd/system/serial-getty@ttyS0.service": "/dev/null",
}

// buildSite makes layer 3.
func buildSite(ctx context.Context) (oci.Layer, error) {
	work, err := os.MkdirTemp("", "kairos-site-")
	if err != nil {
		return oci.Layer{}, err
	}
	defer os.RemoveAll(work)
	if err := WriteSite(ctx, work); err != nil {
		return oci.Layer{}, err
	}
	layer, err := layerOf("site", work)
	if err != nil {
		return oci.Layer{}, fmt.Errorf("build the site layer: %w", err)
	}
	return layer, nil
}

// WriteSite writes the content of the site layer to the tree root.
func WriteSite(ctx context.Context, root string) error {
	err := fs.WalkDir(siteFiles, "site", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := siteFiles.ReadFile(path)
		if err != nil {
			return err
		}
		return writeFile(root, strings.TrimPrefix(path, "site/"), string(data))
	})
	if err != nil {
		return err
	}
	for name, content := range release("v1") {
		if err := writeFile(root, name, content); err != nil {
			return err
		}
	}
	for name, target := range siteLinks {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(target, path); err != nil {
			return err
		}
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=",
		"-o", filepath.Join(root, "usr/lib/kairos-test/agent"), "./cmd/agent")
	build.Dir = filepath.Join(workspace.Top(), "tests")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	_, err = workspace.Run(build)
	return err
}

// writeFile writes a file beneath root. A file that begins with #! is executable: what is embedded
// has lost its mode.
func writeFile(root, name, content string) error {
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if strings.HasPrefix(content, "#!") {
		mode = 0o755
	}
	return os.WriteFile(path, []byte(content), mode)
}

// layerOf makes a layer of all that is in the tree root. Directories that the base has too come out
// as the base has them: owned by root, mode 0755.
func layerOf(title, root string) (oci.Layer, error) {
	temporary := workspace.Cache("images", title+".layer") // prune removes it if there is one already
	layer, err := oci.CreateLayer(temporary, title, func(w io.Writer) error {
		return tree.WriteDiff(w, "", root, epoch)
	})
	if err != nil {
		return oci.Layer{}, err
	}
	dir, err := cached(title+"-"+layer.Digest.Encoded()[:16], func(dir string) error {
		for _, suffix := range []string{"", ".json"} {
			if err := os.Rename(temporary+suffix, filepath.Join(dir, "layer"+suffix)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return oci.Layer{}, err
	}
	return oci.OpenLayer(filepath.Join(dir, "layer"))
}
