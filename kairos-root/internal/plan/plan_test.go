package plan

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kairos-io/toolkit/kairos-root/internal/layout"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// image builds the root of an image: "dir/" is a directory, "a -> b" a link,
// anything else a file.
func image(entries ...string) fs.ReadLinkFS {
	m := fstest.MapFS{}
	for _, e := range entries {
		if from, to, ok := strings.Cut(e, " -> "); ok {
			m[from] = &fstest.MapFile{Mode: fs.ModeSymlink | 0o777, Data: []byte(to)}
		} else if d, ok := strings.CutSuffix(e, "/"); ok {
			m[d] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
		} else {
			m[e] = &fstest.MapFile{Mode: 0o644}
		}
	}
	return m
}

var debian = []string{
	"etc/ssh/sshd_config", "etc/ssl/certs/ca.pem", "etc/systemd/system/", "etc/kubernetes/", "etc/modprobe.d/",
	"home/", "opt/", "root/.bashrc", "srv/", "usr/bin/sh", "usr/libexec/tool", "usr/local/bin/", "usr/local/share/man/",
	"usr/local/man -> share/man", "var/log/journal/", "var/lib/dbus/machine-id", "var/lib/kairos/", "var/run -> /run",
}

func withLayout(text string) layout.Layout {
	l := layout.Default()
	if err := l.Add("test", []byte(text)); err != nil {
		panic(err)
	}
	return l
}

func TestPlans(t *testing.T) {
	for name, tc := range map[string]struct {
		image      fs.ReadLinkFS
		layout     layout.Layout
		persistent bool
	}{
		"debian":   {image(debian...), layout.Default(), true},
		"recovery": {image(debian...), layout.Default(), false},
		"carries": {image(append([]string{
			"usr/local/bin/agent", "usr/local/share/agent/data", "opt/vendor/bin/x", "usr/local/.state/x", "usr/local/etc/",
		}, debian...)...), layout.Default(), true},
		// Fedora's image-based variants keep the top level in /var.
		"fedora": {image("etc/ssh/sshd_config", "etc/sysconfig/network", "home -> var/home", "root -> var/roothome", "opt -> var/opt",
			"srv -> var/srv", "usr/local -> ../var/usrlocal", "usr/libexec/x", "var/log/", "var/lib/"), layout.Default(), true},
		"config": {image(append([]string{"scratch/", "data/", "var/lib/ceph/conf"}, debian...)...), withLayout(
			"CUSTOM_BIND_MOUNTS='/var/lib/ceph /var/lib/docker/overlay2 /data /missing/x /usr/local/x /usr/bin/sh /var/run/x'\n" +
				"RW_PATHS=/scratch\nVOLUMES='LABEL=DATA:/var/data UUID=1:/nowhere LABEL=H:/home'"), true},
		// What the image lacks is made beneath its empty directories, and nowhere else.
		"lacks": {image(append([]string{"mnt/", "media/", "run/", "boot/", "usr/share/doc/x", "usr/empty/"}, debian...)...), withLayout(
			"CUSTOM_BIND_MOUNTS='/mnt/data/a /mnt/data/b /data /usr/share/none /var/run/x /usr/local/x /usr/local/bin/x /usr/empty/x /srv/x'\n" +
				"CUSTOM_EPHEMERAL_MOUNTS='/mnt/scratch /var/scratch'\nVOLUMES=LABEL=DATA:/media/data"), true},
		"lacks, recovery": {image(append([]string{"mnt/", "media/"}, debian...)...), withLayout(
			"CUSTOM_BIND_MOUNTS=/mnt/data\nCUSTOM_EPHEMERAL_MOUNTS=/mnt/scratch"), false},
		"all of etc": {image(debian...), withLayout("PERSISTENT_STATE_PATHS='/etc /var/lib/a-b /var/lib/a/b'"), true},
		"minimal":    {image("etc/os-release", "usr/bin/sh", "var/"), layout.Default(), true},
		"odd": {image("etc/ssh -> loop", "etc/loop -> ssh", "etc/rancher -> /var/lib/../../../opt/r", "home", "root -> /nowhere/root",
			"var/log -> ../data/log", "var/lib/", "usr/local/", "srv", "opt/"), layout.Default(), true},
	} {
		t.Run(name, func(t *testing.T) {
			got := Make(tc.image, tc.layout, tc.persistent).String()
			golden := filepath.Join("testdata", strings.NewReplacer(",", "", " ", "-").Replace(name)+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("plan differs from %s:\n%s", golden, got)
			}
		})
	}
}

// TestOrder checks what the executor counts on: no step hides an earlier one,
// and no target is mounted twice.
func TestOrder(t *testing.T) {
	for _, persistent := range []bool{true, false} {
		p := Make(image(debian...), withLayout("RW_PATHS=/var/lib\nCUSTOM_BIND_MOUNTS=/var"), persistent)
		for i, a := range p.Steps {
			for _, b := range p.Steps[i+1:] {
				if a.Target == b.Target || within(a.Target, b.Target) {
					t.Errorf("%s is mounted after %s", b.Target, a.Target)
				}
			}
		}
	}
}

func FuzzResolve(f *testing.F) {
	f.Add("/a/../b/c", "../x", "/a")
	f.Add("/a/b", "/b", "c")
	f.Fuzz(func(t *testing.T, p, link1, link2 string) {
		m := image("a -> "+strings.ReplaceAll(link1, " -> ", ""), "b/c -> "+strings.ReplaceAll(link2, " -> ", ""), "b/d/e")
		got, err := resolve(m, p)
		if err == nil && (!strings.HasPrefix(got.target, "/") || strings.Contains(got.target, "/../") || got.exists && !fs.ValidPath(name(got.target))) {
			t.Errorf("resolve %q: %q", p, got.target)
		}
	})
}

// A path is followed as the kernel does; what follows a "." counts, too.
func TestResolve(t *testing.T) {
	root := image("etc/", "etc/ssh/", "etc/ssh/key", "srv -> ../etc/./ssh/")
	for p, want := range map[string]place{
		"/etc/ssh/key":   {target: "/etc/ssh/key", exists: true},
		"/etc/ssh/key/.": {target: "/etc/ssh/key", exists: true},
		"/etc//./ssh":    {target: "/etc/ssh", exists: true, dir: true},
		"/srv/../ssh":    {target: "/etc/ssh", exists: true, dir: true},
		"/srv/none/./x":  {target: "/etc/ssh/none/x"},
	} {
		if have, err := resolve(root, p); err != nil || have != want {
			t.Errorf("%s: %+v, %v, want %+v", p, have, err, want)
		}
	}
	if have, err := resolve(root, "/etc/ssh/key/x"); err == nil {
		t.Errorf("beneath a file: %+v", have)
	}
}
