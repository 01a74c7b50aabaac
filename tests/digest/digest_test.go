// Package digest holds `kairos-upgrade digest` against what others make of the
// same image: GNU tar unpacks the layers, mkcomposefs 1.0.8 names the result.
//
// What it can't prove: that the rules of normalisation are the right ones;
// normalise below says them a second time, in its own words.
package digest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/tests/story"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// TestRealImage gives the Debian image one digest, whichever way it comes, and
// the one that mkcomposefs prints.
func TestRealImage(t *testing.T) {
	if os.Getenv("KAIROS_E2E") != "1" {
		t.Skip("needs the images: set KAIROS_E2E=1")
	}
	world, err := story.NewWorld(t.Context(), func(what string) { t.Log(what) })
	must(t, err)
	defer world.Close()

	root := filepath.Join(t.TempDir(), "root")
	must(t, world.Images.Unpack(t.Context(), "v2", root))
	want := oracle(t, root)

	archives := t.TempDir()
	for _, kind := range []string{"oci-archive", "docker-archive"} {
		_, err := workspace.RunTool(t.Context(), "skopeo", "copy", "--quiet", "--insecure-policy",
			world.Images.Ref("v2"), kind+":"+filepath.Join(archives, kind)+":node:v2")
		must(t, err)
	}
	_, err = workspace.RunTool(t.Context(), "skopeo", "copy", "--quiet", "--insecure-policy",
		world.Images.Ref("v2"), "dir:"+mkdir(t, archives, "dir"))
	must(t, err)

	for _, source := range []string{
		world.Images.Ref("v2"),
		world.Registry.LocalHost() + "/" + story.Repository + ":v2",
		"oci-archive:" + filepath.Join(archives, "oci-archive"),
		"docker-archive:" + filepath.Join(archives, "docker-archive"),
		"dir:" + filepath.Join(archives, "dir"),
		"dir:" + root, // a plain tree, as tar unpacked it
	} {
		if got := digest(t, source); got != want {
			t.Errorf("%s: kairos-upgrade says %s, mkcomposefs %s", source, got, want)
		}
	}
	if other := digest(t, world.Images.Ref("v1")); other == want {
		t.Errorf("v1 and v2 have the same digest %s", other)
	}
	t.Logf("sha256:%s", strings.TrimPrefix(want, "sha256:"))
}

// digest runs the tool as nobody, without capabilities where the source allows.
func digest(t *testing.T, source string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(workspace.Top(), "build/bin/kairos-upgrade"), "digest", "--insecure", source)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kairos-upgrade digest %s: %v\n%s", source, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// oracle returns the digest that mkcomposefs prints for a tree.
func oracle(t *testing.T, root string) string {
	t.Helper()
	normalise(t, root)
	list := filepath.Join(workspaceTemp(t), "dump")
	f, err := os.Create(list)
	must(t, err)
	must(t, dump(f, root))
	must(t, f.Close())
	out, err := workspace.RunTool(context.Background(), "mkcomposefs", "--from-file", "--print-digest-only", list)
	if err != nil {
		t.Skipf("no oracle: %v", err)
	}
	return "sha256:" + strings.TrimSpace(out)
}

// workspaceTemp returns a folder that programs of the tools root see as well.
func workspaceTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "kairos-digest-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func mkdir(t *testing.T, elem ...string) string {
	t.Helper()
	dir := filepath.Join(elem...)
	must(t, os.MkdirAll(dir, 0o755))
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
