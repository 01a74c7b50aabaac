package cmd

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/lib/measuretest"
)

// These tests give the program images that mean harm. What each part refuses,
// and how, is tested beside that part; here it counts what comes of it all:
// nothing changes outside the store and the ESP, what is deployed stays as it
// was, and memory and space are bounded.

// secret is what lies outside and must neither be changed nor be read.
const secret = "nobody's business"

// hostile is a node on which an image is deployed, beside a file that is not
// the program's.
type hostile struct {
	node
	dir, outside string
	before       string
}

func newHostile(t *testing.T) hostile {
	n := newNode(t)
	h := hostile{node: n, dir: filepath.Dir(n.store)}
	h.outside = filepath.Join(h.dir, "outside")
	if err := os.WriteFile(h.outside, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	n.want(0, "stage", "oci:"+bootable(t).Layout(t, "good"))
	n.bless(1)
	h.before = files(t, n.store, n.esp)
	return h
}

// bootable is an image with a kernel, and with more layers on top of it.
func bootable(t testing.TB, layers ...imagetest.Layer) *imagetest.Built {
	bodies := map[string]string{
		"usr/lib/modules/6/vmlinuz": "kernel", "usr/lib/modules/6/initramfs.img": "initrd",
		"usr/bin/tool": strings.Repeat("tool", 50), "etc/conf": strings.Repeat("conf", 50),
	}
	entries := entriesOf(slices.Sorted(maps.Keys(bodies))...)
	base := imagetest.Layer{Tar: imagetest.Tar(t, entries, bodies), Compression: "gzip"}
	return imagetest.Build(t, imagetest.Image{Layers: append([]imagetest.Layer{base}, layers...)})
}

// peak is how much memory a staging of these images may take, in bytes.
const peak = 256 << 20

// stage stages an image, which must end with the given exit status, and checks
// that nothing came of it but, with status 0, a deployment.
func (h hostile) stage(t *testing.T, status int, source string, args ...string) string {
	t.Helper()
	u, err := measuretest.Run(h.command("stage", append(args, source)...))
	if err != nil {
		t.Fatal(err)
	}
	if u.Status != status || status != 0 && len(u.Stderr) == 0 {
		t.Fatalf("exit status %d, want %d:\n%s", u.Status, status, u.Stderr)
	}
	if u.Memory > peak {
		t.Errorf("%.0f bytes of memory", u.Memory)
	}
	if bytes.Contains(u.Stderr, []byte("goroutine ")) {
		t.Errorf("the program crashed:\n%s", u.Stderr)
	}
	h.check(t, status == 0)
	return string(u.Stderr)
}

func (h hostile) check(t *testing.T, deployed bool) {
	t.Helper()
	if data, err := os.ReadFile(h.outside); err != nil || string(data) != secret {
		t.Errorf("the file outside: %q, %v", data, err)
	}
	names, err := os.ReadDir(h.dir)
	if err != nil || len(names) != 3 {
		t.Errorf("beside the store and the ESP: %v, %v", names, err)
	}
	if now := files(t, h.store, h.esp); !deployed && now != h.before {
		t.Errorf("the store and the ESP changed:\n%s\nwere:\n%s", now, h.before)
	}
	for _, dir := range []string{h.store, h.esp} {
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if info.Mode()&^fs.ModePerm != 0 || info.Mode()&0o022 != 0 {
				t.Errorf("%s has mode %v", name, info.Mode())
			}
			data, err := os.ReadFile(name)
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s holds what lies outside", name)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if now := h.entries(); len(now) == 0 || strings.Contains(now[0], "+") {
		t.Errorf("the good entry is gone: %v", now)
	}
	h.want(0, "verify")
}

// entriesOf makes headers from short forms: "PATH/", "PATH", "PATH -> TARGET",
// "PATH => TARGET" for a directory, a file, a symbolic and a hard link.
func entriesOf(short ...string) (all []tar.Header) {
	for _, s := range short {
		h := tar.Header{Name: s, Typeflag: tar.TypeReg, Mode: 0o644}
		if name, target, ok := strings.Cut(s, " -> "); ok {
			h.Name, h.Linkname, h.Typeflag = name, target, tar.TypeSymlink
		} else if name, target, ok := strings.Cut(s, " => "); ok {
			h.Name, h.Linkname, h.Typeflag = name, target, tar.TypeLink
		} else if strings.HasSuffix(s, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		all = append(all, h)
	}
	return all
}

func TestHostileLayers(t *testing.T) {
	manyProcesses(t)
	h := newHostile(t)
	up := strings.Repeat("../", 20)
	for name, c := range map[string]struct {
		status  int
		entries []tar.Header
	}{
		"..":            {1, entriesOf("../outside")},
		".. far":        {1, entriesOf("usr/" + up + h.outside[1:])},
		"absolute path": {0, entriesOf(h.outside)},
		// What is behind a link of the layer is in the layer, whatever the target is.
		"through an absolute link":  {0, entriesOf("usr/out -> "+h.dir, "usr/out/outside")},
		"through a relative link":   {0, entriesOf("usr/out -> "+up+h.dir[1:], "usr/out/outside")},
		"through a loop":            {1, entriesOf("a -> b", "b -> a", "a/x")},
		"a loop":                    {0, entriesOf("a -> b", "b -> a", "c -> c")},
		"a link outside":            {0, entriesOf("a -> " + h.outside)},
		"hard link outside":         {1, entriesOf("a => " + up + h.outside[1:])},
		"absolute hard link":        {1, entriesOf("a => " + h.outside)},
		"hard link to nothing":      {1, entriesOf("a => usr/nothing")},
		"hard link to itself":       {1, entriesOf("a => a")},
		"hard links in a ring":      {1, entriesOf("a => b", "b => a")},
		"hard link to a directory":  {1, entriesOf("a => usr")},
		"whiteout of the parent":    {1, entriesOf("usr/.wh..")},
		"whiteout of the parent's":  {1, entriesOf("usr/.wh...")},
		"whiteout of /usr":          {1, entriesOf(".wh.usr")}, // no kernel is left
		"whiteout without a name":   {1, entriesOf("usr/.wh.")},
		"opaque /":                  {1, entriesOf(".wh..wh..opq")},
		"the root as a link":        {1, entriesOf(". -> " + h.dir)},
		"the kernel as a link":      {1, entriesOf("usr/lib/modules/6/vmlinuz -> " + h.outside)},
		"the initrd as a link":      {1, entriesOf("usr/lib/modules/6/initramfs.img -> " + up + h.outside[1:])},
		"the modules as a link":     {1, entriesOf(".wh.usr", "usr/lib/modules -> "+h.dir)},
		"the kernel as a directory": {1, entriesOf("usr/lib/modules/6/.wh.vmlinuz", "usr/lib/modules/6/vmlinuz/")},
		"the kernel as a pipe":      {1, []tar.Header{{Name: "usr/lib/modules/6/vmlinuz", Typeflag: tar.TypeFifo}}},
		"the kernel as a device":    {1, []tar.Header{{Name: "usr/lib/modules/6/vmlinuz", Typeflag: tar.TypeBlock, Devmajor: 8}}},
		"os-release as a link":      {0, entriesOf("usr/lib/os-release -> "+h.outside, "etc/os-release -> ../usr/lib/os-release")},
		"kernel arguments as links": {0, entriesOf("usr/lib/bootc/kargs.d/1.toml -> " + h.outside)},
		"every type, one name":      {0, entriesOf("a", "a/", "a -> b", "a", "a/", "a/b/c")},
		"devices":                   {0, []tar.Header{{Name: "mem", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 1}, {Name: "disk", Typeflag: tar.TypeBlock, Mode: 0o666, Devmajor: 8}}},
		"setuid":                    {0, []tar.Header{{Name: "usr/bin/su", Typeflag: tar.TypeReg, Mode: 0o6755}}},
		"foreign owner":             {0, []tar.Header{{Name: "usr/bin/own", Typeflag: tar.TypeReg, Uid: 12345, Gid: 12345, Mode: 0o7777}}},
		"overlay attributes":        {0, []tar.Header{{Name: "usr/bin/redirected", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.redirect": h.outside, "SCHILY.xattr.trusted.overlay.metacopy": "", "SCHILY.xattr.user.x": "y"}}}},
		"a long name":               {1, entriesOf(strings.Repeat("n", 300))},
		"a deep path":               {1, entriesOf(strings.Repeat("d/", 3000))},
		"a name in two lines":       {0, entriesOf("a\nb")},
		"a name that is no UTF-8":   {0, entriesOf("\xff\xfe")},
	} {
		for _, compression := range []string{"", "zstd:chunked"} {
			if name == "every type, one name" && compression != "" {
				continue // a table of contents has each name once
			}
			t.Run(name+"/"+compression, func(t *testing.T) {
				h := h
				if c.status == 0 {
					h = newHostile(t)
				}
				h.node.t = t
				bodies := make(map[string]string)
				for _, e := range c.entries {
					bodies[e.Name] = strings.Repeat("overwritten", 10)
				}
				bad := bootable(t, imagetest.Layer{Tar: imagetest.Tar(t, c.entries, bodies), Compression: compression})
				if compression == "" {
					h.stage(t, c.status, "oci:"+bad.Layout(t, "bad"))
					return
				}
				// From a registry it is read by its table of contents.
				registry := imagetest.NewRegistry(t)
				registry.Push("os", "bad", bad)
				h.stage(t, c.status, registry.Host+"/os:bad", "--insecure")
			})
		}
	}
}
