package unpack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/lib/exit"
	"golang.org/x/sys/unix"
)

const acceptAll = `{"default":[{"type":"insecureAcceptAnything"}]}`

func request(t *testing.T, name string) Request {
	t.Helper()
	policy := filepath.Join(t.TempDir(), "policy.json")
	imagetest.Write(t, policy, []byte(acceptAll))
	return Request{Source: name, Dir: t.TempDir(), Options: source.Options{PolicyFile: policy}}
}

var (
	large = strings.Repeat("large", 1000)
	mtime = time.Unix(1_600_000_000, 0)
)

func file(name string, mode int64) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, ModTime: mtime}
}

func image(t *testing.T, layers ...imagetest.Layer) *imagetest.Built {
	return imagetest.Build(t, imagetest.Image{Layers: layers})
}

func layerOf(t *testing.T, bodies map[string]string, entries ...tar.Header) imagetest.Layer {
	return imagetest.Layer{Tar: imagetest.Tar(t, entries, bodies), Compression: "gzip"}
}

// tools has all that a layer can have, and a layer that takes some away.
func tools(t *testing.T) *imagetest.Built {
	capability := map[string]string{"SCHILY.xattr.user.kept": "yes", "SCHILY.xattr.trusted.overlay.opaque": "y"}
	attributed := file("bin/attributed", 0o644)
	attributed.PAXRecords, attributed.Format = capability, tar.FormatPAX
	owned := file("bin/tool", 0o4755)
	owned.Uid, owned.Gid = 1000, 1001
	return image(t,
		layerOf(t, map[string]string{"bin/tool": large, "bin/same": large, "bin/small": "small", "share/gone": large, "share/old/a": "a", "bin/attributed": "x"},
			tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o750, ModTime: mtime},
			owned, file("bin/same", 0o644), file("bin/small", 0o600), attributed,
			tar.Header{Name: "bin/link", Typeflag: tar.TypeLink, Linkname: "bin/tool"},
			tar.Header{Name: "bin/symbolic", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd", ModTime: mtime},
			file("share/gone", 0o644), file("share/old/a", 0o644)),
		layerOf(t, map[string]string{"share/new": "new", "bin/small": "smaller"},
			file("share/.wh.gone", 0), file("share/old/.wh..wh..opq", 0), file("share/new", 0o644), file("bin/small", 0o600)))
}

// listing is what is in a directory: names, modes, sizes and targets.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		switch target, _ := os.Readlink(name); {
		case info.IsDir():
			fmt.Fprintf(&b, "%s %v\n", rel, info.Mode())
		case target != "":
			fmt.Fprintf(&b, "%s -> %s\n", rel, target)
		default:
			fmt.Fprintf(&b, "%s %v %d\n", rel, info.Mode(), info.Size())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestUnpack(t *testing.T) {
	r := request(t, "oci:"+tools(t).Layout(t, ""))
	// What is there stays, unless the image has it too; no link is followed.
	outside := t.TempDir()
	imagetest.Write(t, filepath.Join(r.Dir, "share/gone"), []byte("of the node"))
	imagetest.Write(t, filepath.Join(r.Dir, spoolName, "left"), []byte("of an attempt that was cut off"))
	for link, target := range map[string]string{"bin": outside, "share/new": filepath.Join(outside, "victim")} {
		if err := os.Symlink(target, filepath.Join(r.Dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	u, err := Unpack(t.Context(), r)
	if err != nil || u.Files != 7 || u.Bytes != int64(2*len(large)+len("smaller")+len("x")+len("new")) {
		t.Fatalf("%+v, %v", u, err)
	}
	want := `.kairos-unpacked.json -rw-r--r-- SIZE
bin drwxr-x---
bin/attributed -rw-r--r-- 1
bin/link urwxr-xr-x 5000
bin/same -rw-r--r-- 5000
bin/small -rw------- 7
bin/symbolic -> /etc/passwd
bin/tool urwxr-xr-x 5000
share drwxr-xr-x
share/gone -rw-r--r-- 11
share/new -rw-r--r-- 3
share/old drwxr-xr-x
`
	st, err := os.Stat(filepath.Join(r.Dir, recordName))
	if err != nil {
		t.Fatal(err)
	}
	if got := listing(t, r.Dir); got != strings.Replace(want, "SIZE", fmt.Sprint(st.Size()), 1) {
		t.Errorf("unpacked:\n%s", got)
	}
	if got := listing(t, outside); got != "" {
		t.Errorf("written outside:\n%s", got)
	}
	if data, _ := os.ReadFile(filepath.Join(r.Dir, "bin/same")); string(data) != large {
		t.Error("bin/same has another content")
	}
	var tool, link unix.Stat_t
	var symbolic unix.Stat_t
	if err := unix.Lstat(filepath.Join(r.Dir, "bin/symbolic"), &symbolic); err != nil || symbolic.Mtim.Sec != mtime.Unix() {
		t.Errorf("symbolic link: time %d, %v", symbolic.Mtim.Sec, err)
	}
	if unix.Stat(filepath.Join(r.Dir, "bin/tool"), &tool) != nil || unix.Stat(filepath.Join(r.Dir, "bin/link"), &link) != nil || tool.Ino != link.Ino || tool.Mtim.Sec != mtime.Unix() {
		t.Errorf("the hard link: %+v, %+v", tool, link)
	}
	if os.Geteuid() == 0 && (tool.Uid != 1000 || tool.Gid != 1001) {
		t.Errorf("the owner is %d:%d", tool.Uid, tool.Gid)
	}
	value := make([]byte, 10)
	n, err := unix.Getxattr(filepath.Join(r.Dir, "bin/attributed"), "user.kept", value)
	if err != nil && !errors.Is(err, unix.ENOTSUP) || err == nil && string(value[:n]) != "yes" {
		t.Errorf("the attribute: %q, %v", value[:max(n, 0)], err)
	}
	if _, err := unix.Getxattr(filepath.Join(r.Dir, "bin/attributed"), "trusted.overlay.opaque", value); err == nil {
		t.Error("an attribute that means something to overlayfs was set")
	}
}

// TestAgain: what is there is known by its digest, and unpacked again when the
// name stands for another image.
func TestAgain(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	registry.Push("tools", "1", tools(t))
	r := request(t, registry.Host+"/tools:1")
	r.Options.RegistriesConf = registry.Conf(t)
	first, err := Unpack(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Unpack(t.Context(), r); !errors.Is(err, ErrAlready) || !strings.Contains(err.Error(), first.ManifestDigest) {
		t.Errorf("again: %v", err)
	}
	registry.Push("tools", "1", image(t, layerOf(t, map[string]string{"bin/small": "2"}, file("bin/small", 0o600))))
	second, err := Unpack(t.Context(), r)
	if err != nil || second.ManifestDigest == first.ManifestDigest || second.Files != 1 {
		t.Errorf("another image: %+v, %v", second, err)
	}
	r.Force = true
	if _, err := Unpack(t.Context(), r); err != nil {
		t.Errorf("by force: %v", err)
	}
	// By its digest it is known without a registry.
	r.Force, r.Source = false, registry.Host+"/tools@"+second.ManifestDigest
	if _, err := Unpack(t.Context(), r); err != nil {
		t.Errorf("by digest: %v", err)
	}
	r.Options.RegistriesConf = "/nowhere"
	if _, err := Unpack(t.Context(), r); !errors.Is(err, ErrAlready) {
		t.Errorf("by digest, again: %v", err)
	}
}

// TestRefused: nothing of these images is written.
func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		entries []tar.Header
		saying  string
	}{
		"escape":   {[]tar.Header{file("../x", 0o644)}, ".."},
		"device":   {[]tar.Header{{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}}, "is not unpacked"},
		"pipe":     {[]tar.Header{{Name: "pipe", Typeflag: tar.TypeFifo}}, "is not unpacked"},
		"record":   {[]tar.Header{file(recordName, 0o644)}, "has a file of this name"},
		"hardlink": {[]tar.Header{{Name: "x", Typeflag: tar.TypeLink, Linkname: "/etc/shadow"}}, "etc/shadow"},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, "oci:"+image(t, layerOf(t, nil, test.entries...)).Layout(t, ""))
			if _, err := Unpack(t.Context(), r); err == nil || !strings.Contains(err.Error(), test.saying) {
				t.Errorf("got %v", err)
			}
			if got := listing(t, r.Dir); got != "" {
				t.Errorf("written:\n%s", got)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	good := "oci:" + tools(t).Layout(t, "")
	r := request(t, "dir:/tmp")
	if _, err := Unpack(t.Context(), r); !errors.Is(err, source.ErrUsage) {
		t.Errorf("a directory: %v", err)
	}
	r = request(t, good)
	imagetest.Write(t, filepath.Join(r.Dir, "bin/tool/data"), nil)
	if _, err := Unpack(t.Context(), r); err == nil || !strings.Contains(err.Error(), "bin/tool: a directory is in the place of a file") {
		t.Errorf("a directory in the way: %v", err)
	}
	if got := listing(t, filepath.Join(r.Dir, "bin/tool")); !strings.HasPrefix(got, "data ") {
		t.Errorf("it was removed:\n%s", got)
	}
	r = request(t, good)
	imagetest.Write(t, r.Options.PolicyFile, []byte(`{"default":[{"type":"reject"}]}`))
	if _, err := Unpack(t.Context(), r); !errors.Is(err, source.ErrRefused) {
		t.Errorf("refused by policy: %v", err)
	}
	r = request(t, good)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Unpack(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	top, err := os.Open(r.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	if err := unix.Flock(int(top.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := Unpack(t.Context(), r); exit.Code(err) != exit.Busy {
		t.Errorf("two at once: %v", err)
	}
}

// TestCutOff: an image that could not be written whole is not recorded, nor is
// the one before, whose files may be gone.
func TestCutOff(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	registry.Push("tools", "1", tools(t))
	r := request(t, registry.Host+"/tools:1")
	r.Options.RegistriesConf = registry.Conf(t)
	if _, err := Unpack(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	registry.Push("tools", "1", image(t, layerOf(t, map[string]string{"bin": "a file"}, file("bin", 0o600))))
	if _, err := Unpack(t.Context(), r); err == nil {
		t.Fatal("a directory was replaced by a file")
	}
	dir, err := os.OpenRoot(r.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if known, err := readRecord(dir); err != nil || len(known.Images) != 0 {
		t.Errorf("recorded: %+v, %v", known, err)
	}
	registry.Push("tools", "1", tools(t))
	if u, err := Unpack(t.Context(), r); err != nil || u.Files != 7 {
		t.Errorf("after that: %+v, %v", u, err)
	}
}
