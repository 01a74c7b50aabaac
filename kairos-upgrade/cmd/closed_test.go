package cmd

import (
	"archive/tar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
)

// secretImage is an image with two files that only root may read: one becomes an
// object, the other is small enough to stand in the image itself.
func secretImage(t *testing.T) *imagetest.Built {
	bodies := map[string]string{
		"usr/lib/modules/6/vmlinuz": "kernel", "usr/lib/modules/6/initramfs.img": "initrd",
		"etc/shadow":                "root:$6$salt$" + strings.Repeat("HASHHASH", 20) + ":19000:0:99999:7:::\n",
		"etc/credstore/kairos.join": "join-token=SMALLSECRET\n",
	}
	var entries []tar.Header
	for _, name := range []string{"usr/lib/modules/6/vmlinuz", "usr/lib/modules/6/initramfs.img", "etc/shadow", "etc/credstore/kairos.join"} {
		entries = append(entries, tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600})
	}
	return imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{{Tar: imagetest.Tar(t, entries, bodies), Compression: "gzip"}}})
}

// TestStoreIsClosed sees that nobody but root reads in the store what only root
// may read in the image, in a new store and in one of an older version.
func TestStoreIsClosed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("to be somebody else needs root")
	}
	n := newNode(t)
	for dir := filepath.Dir(n.store); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	stranger := func() string {
		cmd := exec.Command("grep", "-raho", "HASHHASH\\|SMALLSECRET", n.store)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, _ := cmd.Output()
		return string(out)
	}
	n.want(0, "stage", "oci:"+secretImage(t).Layout(t, "v1"))
	if out := stranger(); out != "" {
		t.Errorf("in a new store: %q", out)
	}
	if err := os.Chmod(n.store, 0o755); err != nil {
		t.Fatal(err)
	}
	if out := stranger(); !strings.Contains(out, "HASHHASH") || !strings.Contains(out, "SMALLSECRET") {
		t.Fatalf("the test finds nothing in an open store: %q", out)
	}
	n.want(0, "gc")
	if out := stranger(); out != "" {
		t.Errorf("in an older store that was written to: %q", out)
	}
}
