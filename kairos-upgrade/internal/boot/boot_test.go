package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// grow makes a tree of paths; "a -> b" is a symbolic link, "a = b" a file with
// a content, others are files that hold their own names.
func grow(t testing.TB, paths ...string) *tree.Inode {
	t.Helper()
	root := tree.NewDir(0o755)
	for _, p := range paths {
		var n *tree.Inode
		if link, target, ok := strings.Cut(p, " -> "); ok {
			p, n = link, tree.NewSymlink(target)
		} else if file, content, ok := strings.Cut(p, " = "); ok {
			p, n = file, tree.NewInline(0o644, []byte(content))
		} else {
			n = tree.NewInline(0o644, []byte(p))
		}
		dir := root
		for part := range strings.SplitSeq(path.Dir(p), "/") {
			if part == "." {
				continue
			}
			next := dir.Lookup(part)
			if next == nil {
				next = tree.NewDir(0o755)
				if err := dir.Insert(part, next); err != nil {
					t.Fatal(err)
				}
			}
			dir = next
		}
		if err := dir.Insert(path.Base(p), n); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func inline(n *tree.Inode) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(n.Content)), nil
}

func TestFind(t *testing.T) {
	for _, test := range []struct {
		name    string
		paths   []string
		release string
		files   string
	}{
		{"bootc", []string{"usr/lib/modules/6.1/vmlinuz", "usr/lib/modules/6.1/initramfs.img"},
			"6.1", "linux usr/lib/modules/6.1/vmlinuz, initrd usr/lib/modules/6.1/initramfs.img"},
		{"bootc, the newest", []string{
			"usr/lib/modules/6.9.3/vmlinuz", "usr/lib/modules/6.9.3/initramfs.img",
			"usr/lib/modules/6.12.1/vmlinuz", "usr/lib/modules/6.12.1/initramfs.img",
			"usr/lib/modules/6.12~rc1/vmlinuz", "usr/lib/modules/6.12~rc1/initramfs.img"},
			"6.12.1", "linux usr/lib/modules/6.12.1/vmlinuz, initrd usr/lib/modules/6.12.1/initramfs.img"},
		{"bootc, the newest has no initrd", []string{
			"usr/lib/modules/6.9/vmlinuz", "usr/lib/modules/6.9/initramfs.img", "usr/lib/modules/6.12/vmlinuz"},
			"6.9", "linux usr/lib/modules/6.9/vmlinuz, initrd usr/lib/modules/6.9/initramfs.img"},
		{"/lib is a link", []string{"lib -> usr/lib", "usr/lib -> lib64", "usr/lib64/modules/5/vmlinuz", "usr/lib64/modules/5/initramfs.img"},
			"5", "linux usr/lib/modules/5/vmlinuz, initrd usr/lib/modules/5/initramfs.img"},
		{"Kairos", []string{"boot/vmlinuz -> vmlinuz-6.1.2", "boot/vmlinuz-6.1.2", "boot/initrd -> initrd-6.1.2", "boot/initrd-6.1.2"},
			"6.1.2", "linux boot/vmlinuz, initrd boot/initrd"},
		{"Kairos without versions", []string{"boot/vmlinuz", "boot/initrd", "usr/lib/modules/6.1.2/modules.dep"},
			"6.1.2", "linux boot/vmlinuz, initrd boot/initrd"},
		{"Debian", []string{"boot/vmlinuz-6.1.0-1-amd64", "boot/initrd.img-6.1.0-1-amd64", "boot/vmlinuz-6.1.0-12-amd64", "boot/initrd.img-6.1.0-12-amd64"},
			"6.1.0-12-amd64", "linux boot/vmlinuz-6.1.0-12-amd64, initrd boot/initrd.img-6.1.0-12-amd64"},
		{"Fedora", []string{"boot/vmlinuz-6.1.fc40", "boot/initramfs-6.1.fc40.img"},
			"6.1.fc40", "linux boot/vmlinuz-6.1.fc40, initrd boot/initramfs-6.1.fc40.img"},
		{"UKI", []string{"boot/EFI/Linux/os-7.efi", "boot/EFI/Linux/os-12.efi", "usr/lib/modules/6/vmlinuz", "usr/lib/modules/6/initramfs.img"},
			"os-12", "uki boot/EFI/Linux/os-12.efi"},
		{"Ubuntu's .old", []string{"boot/vmlinuz-6.8.0-31-generic", "boot/initrd.img-6.8.0-31-generic", "boot/vmlinuz-6.8.0-31-generic.old", "boot/initrd.img-6.8.0-31-generic.old"},
			"6.8.0-31-generic", "linux boot/vmlinuz-6.8.0-31-generic, initrd boot/initrd.img-6.8.0-31-generic"},
		{".old, but newer", []string{"boot/vmlinuz-6.8", "boot/initrd-6.8", "boot/vmlinuz-6.9.old", "boot/initrd-6.9.old"},
			"6.9.old", "linux boot/vmlinuz-6.9.old, initrd boot/initrd-6.9.old"},
		{"a shell beside the UKI", []string{"boot/EFI/Linux/zshell.efi = " + program(".text", ".data"), "boot/EFI/Linux/os.efi = " + program(".osrel", ".cmdline", ".linux")},
			"os", "uki boot/EFI/Linux/os.efi"},
		{"programs that are no UKIs", []string{"boot/EFI/Linux/memtest.efi = " + program(".text"), "boot/EFI/Linux/stub.efi = " + program(".linux"),
			"boot/vmlinuz-6.1", "boot/initrd-6.1"}, "6.1", "linux boot/vmlinuz-6.1, initrd boot/initrd-6.1"},
		{"UKI beside modules", []string{"usr/lib/modules/6.1/6.1.efi"}, "6.1", "uki usr/lib/modules/6.1/6.1.efi"},
	} {
		t.Run(test.name, func(t *testing.T) {
			k, err := Find(grow(t, test.paths...), inline)
			if err != nil {
				t.Fatal(err)
			}
			var have []string
			for _, f := range k.Files {
				have = append(have, f.Kind+" "+f.Path)
			}
			if k.Release != test.release || strings.Join(have, ", ") != test.files {
				t.Errorf("%s: %s; want %s: %s", k.Release, have, test.release, test.files)
			}
		})
	}
}

func TestFindNothing(t *testing.T) {
	for want, paths := range map[string][]string{
		"neither /usr/lib/modules/*/vmlinuz nor": {"usr/bin/true"},
		"no initrd for /boot/vmlinuz-6.1":        {"boot/vmlinuz-6.1", "boot/initrd-6.2"},
		"no initrd for /usr/lib/modules/1/vml":   {"usr/lib/modules/1/vmlinuz", "usr/lib/modules/1/initramfs.img -> gone"},
		"neither /usr/lib/modules":               {"usr/lib/modules/1/vmlinuz -> vmlinuz", "usr/lib/modules/1/initramfs.img"},
	} {
		_, err := Find(grow(t, paths...), inline)
		if !errors.Is(err, ErrNoKernel) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", paths, err)
		}
	}
}

func TestResolve(t *testing.T) {
	root := grow(t, "a/b/c", "a/up -> ../a/b/c", "a/out -> ../../../../a/b/c", "abs -> /a/b/c", "loop -> loop", "ping -> pong", "pong -> ping", "dir -> a/b")
	for name, found := range map[string]bool{
		"a/b/c": true, "/a//b/./c": true, "a/up": true, "a/out": true, "abs": true, "dir/c": true, "../../a/b/c": true,
		"loop": false, "ping": false, "a/b/c/d": false, "x": false,
	} {
		if n := Resolve(root, name); (n != nil) != found || found && n.Content != "a/b/c" {
			t.Errorf("%s: %v", name, n)
		}
	}
}

func TestKargs(t *testing.T) {
	root := grow(t,
		`usr/lib/bootc/kargs.d/20-b.toml = kargs = ["b=1,2", "c=\"x y\""]`,
		`usr/lib/bootc/kargs.d/10-a.toml = kargs = ["a"]`,
		`usr/lib/bootc/kargs.d/30-c.toml = kargs = ["never"]`+"\n"+`match-architectures = ["s390x"]`,
		`usr/lib/bootc/kargs.d/README = not toml`)
	have, err := Kargs(root, inline)
	if want := []string{"a", "b=1,2", `c="x y"`}; err != nil || !slices.Equal(have, want) {
		t.Errorf("%q, %v; want %q", have, err, want)
	}
	if have, err := Kargs(grow(t, "usr/bin/true"), inline); have != nil || err != nil {
		t.Errorf("nothing: %q, %v", have, err)
	}
}

func TestParseKargs(t *testing.T) {
	for _, test := range []struct {
		toml, arch string
		want       []string
		fails      string
	}{
		{"kargs = [\"a\"]\nmatch-architectures = [\"x86_64\"]", "amd64", []string{"a"}, ""},
		{"kargs = [\"a\"]\nmatch-architectures = [\"aarch64\"]", "amd64", nil, ""},
		{"kargs = [\"a\"]\nmatch-architectures = [\"aarch64\", \"arm64\"]", "arm64", []string{"a"}, ""},
		{"kargs = [\"a\"]\nmatch-architectures = []", "amd64", nil, ""},
		{"", "amd64", nil, ""},
		{`karg = ["a"]`, "amd64", nil, "unknown key"},
		{`kargs = "a"`, "amd64", nil, "incompatible types"},
		{`kargs = ["kairos.image=sha256:0"]`, "amd64", nil, "set by the deployment"},
		{`kargs = ["quiet kairos.store=COS_RECOVERY"]`, "amd64", nil, "set by the deployment"},
		{`kargs = ["\"kairos.store=COS_RECOVERY\""]`, "amd64", nil, "set by the deployment"},
		{`kargs = ["kairos.config_url=https://example.com"]`, "amd64", nil, "set by the node"},
		{`kargs = ["quiet systemd.run=/bin/evil"]`, "amd64", nil, "run a command"},
		{`kargs = ["systemd.run-success-action=none"]`, "amd64", nil, "run a command"},
		{`kargs = ["rd.kairos.shell"]`, "amd64", nil, "must not open a shell"},
		{`kargs = ["systemd.debug-shell=1"]`, "amd64", nil, "must not open a shell"},
		{`kargs = ["kairos.timeout=90", "a=\"b c\" d"]`, "amd64", []string{"kairos.timeout=90", `a="b c" d`}, ""},
		{`kargs = ["a\nlinux /evil"]`, "amd64", nil, "printable"},
		{`kargs = [" "]`, "amd64", nil, "empty"},
	} {
		have, err := parseKargs([]byte(test.toml), test.arch)
		if (err != nil) != (test.fails != "") || err != nil && !strings.Contains(err.Error(), test.fails) || !slices.Equal(have, test.want) {
			t.Errorf("%q on %s: %q, %v", test.toml, test.arch, have, err)
		}
	}
}

// A part of the node's own arguments can't be what belongs to the deployment,
// however it is spelled.
func TestCheckKarg(t *testing.T) {
	for arg, refused := range map[string]bool{
		"quiet": false, "a b": false, `a="b c"`: false, "rd.kairos.shell": false, "kairos.config_url=https://x": false,
		"kairos.store=COS_RECOVERY": true, "quiet kairos.store=COS_RECOVERY": true, `"kairos.store=COS_RECOVERY"`: true,
		`kairos.sto""re=COS_RECOVERY`: true, "x\tkairos.image=sha256:0": true, "kairos.store\u00a0=x": true, `a="`: true,
		"init=/bin/sh": true, "a rdinit=/bin/sh": true, "root=/dev/sda1": true, "initrd=/evil": true, "kairos.crypt=": true,
		"rd.systemd.gpt-auto=1": true, "a -- b": true, "": true, `""`: true,
	} {
		if err := CheckKarg(arg); (err != nil) != refused || err != nil && !errors.Is(err, ErrKarg) {
			t.Errorf("%q: %v", arg, err)
		}
	}
}

func FuzzParseKargs(f *testing.F) {
	f.Add([]byte(`kargs = ["quiet"]` + "\n" + `match-architectures = ["x86_64"]`))
	f.Add([]byte("kargs = [1]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		kargs, err := parseKargs(data, "amd64")
		for _, arg := range kargs {
			if err != nil || CheckKarg(arg) != nil {
				t.Errorf("%q was accepted", arg)
			}
		}
	})
}

func TestOSRelease(t *testing.T) {
	root := grow(t, "etc/os-release -> ../usr/lib/os-release",
		"usr/lib/os-release = # c\nID=x\nPRETTY_NAME=\"A \\\"B\\\" $C\"\nVERSION_ID='1 2'\n\nbroken")
	have, err := OSRelease(root, inline)
	if err != nil || fmt.Sprint(have) != fmt.Sprint(map[string]string{"ID": "x", "PRETTY_NAME": `A "B" $C`, "VERSION_ID": "1 2"}) {
		t.Errorf("%q, %v", have, err)
	}
	if have, err := OSRelease(grow(t, "etc/os-release -> /etc/os-release"), inline); len(have) > 0 || err != nil {
		t.Errorf("a loop: %q, %v", have, err)
	}
}

func newESP(t *testing.T, uki bool) (*SystemdBoot, string) {
	t.Helper()
	dir := t.TempDir()
	v, err := view.Writable(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return NewSystemdBoot(v, uki), dir
}

func bootFile(kind, content string) (deployment.File, func() (io.ReadCloser, error)) {
	d := fsverity.Bytes([]byte(content)).String()
	return deployment.File{Kind: kind, Path: FilePath(kind, d), Digest: d, Size: int64(len(content))},
		func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
}

func TestPut(t *testing.T) {
	l, dir := newESP(t, false)
	f, open := bootFile(Linux, "a kernel")
	if n, err := l.Missing([]deployment.File{f}); n != 8 || err != nil {
		t.Errorf("missing: %d, %v", n, err)
	}
	if err := l.Put(f, open); err != nil {
		t.Fatal(err)
	}
	if n, err := l.Missing([]deployment.File{f}); n != 0 || err != nil {
		t.Errorf("missing: %d, %v", n, err)
	}
	never := func() (io.ReadCloser, error) { t.Error("written again"); return open() }
	if err := l.Put(f, never); err != nil {
		t.Error(err)
	}
	// A damaged file of the right size is found and replaced.
	if err := os.WriteFile(path.Join(dir, f.Path), []byte("a kernal"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(f); !errors.Is(err, fsverity.ErrMismatch) {
		t.Errorf("check of a damaged file: %v", err)
	}
	if err := errors.Join(l.Put(f, open), l.Check(f)); err != nil {
		t.Error(err)
	}
	// Content that is not what it is named is refused.
	wrong, _ := bootFile(Initrd, "an initrd")
	if err := l.Put(wrong, open); !errors.Is(err, fsverity.ErrMismatch) {
		t.Errorf("wrong content: %v", err)
	}
}

func TestEntry(t *testing.T) {
	linux, _ := bootFile(Linux, "k")
	initrd, _ := bootFile(Initrd, "i")
	uki, _ := bootFile(UKI, "u")
	l, _ := newESP(t, false)
	e := l.Entry(deployment.Record{Options: "quiet", Boot: []deployment.File{linux, initrd}})
	if e.Linux != "/"+linux.Path || !slices.Equal(e.Initrd, []string{"/" + initrd.Path}) || e.Options != "quiet" || e.EFI+e.UKI != "" {
		t.Errorf("%+v", e)
	}
	if e := l.Entry(deployment.Record{Boot: []deployment.File{uki}}); e.EFI != "/"+uki.Path || e.UKI != "" || !strings.HasSuffix(e.EFI, ".efi") {
		t.Errorf("systemd-boot 257: %+v", e)
	}
	l, _ = newESP(t, true)
	if e := l.Entry(deployment.Record{Boot: []deployment.File{uki}}); e.UKI != "/"+uki.Path || e.EFI != "" {
		t.Errorf("systemd-boot 258: %+v", e)
	}
}

// Boot files that an entry names stay, whatever else; what we did not write
// stays, too.
func TestSweep(t *testing.T) {
	l, dir := newESP(t, false)
	var files []deployment.File
	for _, content := range []string{"one", "two", "three"} {
		f, open := bootFile(Linux, content)
		if err := l.Put(f, open); err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	for i, base := range []string{"kairos-1-0123456789ab", "foreign"} {
		e := l.Entry(deployment.Record{Boot: files[i : i+1]})
		e.Name = bls.Name{Base: base}
		e.Linux = strings.ToUpper(e.Linux) // FAT knows no case
		if err := l.Publish(e); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"kairos/other", "kairos/linux-short", "kairos/.#linux-x", "loader/entries/.#x.conf"} {
		if err := os.WriteFile(path.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if removed, err := l.Sweep(true, "kairos-1-0123456789ab"); err != nil || len(removed) != 3 {
		t.Errorf("dry run: %+v, %v", removed, err)
	}
	removed, err := l.Sweep(false)
	if err != nil || len(removed) != 2 {
		t.Errorf("%+v, %v", removed, err)
	}
	for name, stays := range map[string]bool{
		files[0].Path: true, files[1].Path: true, files[2].Path: false, "kairos/other": true, "kairos/linux-short": true,
		"kairos/.#linux-x": false, "loader/entries/.#x.conf": false,
	} {
		if _, err := os.Stat(path.Join(dir, name)); (err == nil) != stays {
			t.Errorf("%s: %v", name, err)
		}
	}
}
