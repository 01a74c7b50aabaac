// Package lint says whether an image can boot as a node, and what its users will
// be surprised by: kairos-upgrade(8), lint.
//
// An error keeps the image from booting; a warning is something that works
// otherwise than it looks. Every finding says what to do.
package lint

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/bounded"
	"github.com/kairos-io/toolkit/lib/report"
)

// Levels of findings.
const (
	Error   = report.Error   // the image does not boot as a node
	Warning = report.Warning // it boots, and something will surprise
)

// Finding is one thing that was found.
type Finding = report.Finding

// Image is what is looked at.
type Image struct {
	Root *tree.Inode
	// Boot are the boot files; nil to look for them in Root, whose /boot must be
	// as the image has it.
	Boot []boot.File
	// Open opens the contents of boot files and of small files.
	Open func(*tree.Inode) (File, error)
}

// File is an open content.
type File interface {
	io.ReadCloser
	io.ReaderAt
}

// collector collects findings.
type collector struct {
	image Image
	list  []Finding
}

func (r *collector) add(level report.Severity, code, where, hint, format string, args ...any) {
	r.list = append(r.list, Finding{Level: level, Code: code, Path: where, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// Check looks at an image: errors first.
func Check(image Image) []Finding {
	r := &collector{image: image}
	r.bootFiles()
	r.systemd()
	r.programs()
	r.checks()
	r.presets()
	r.hidden()
	r.identity()
	slices.SortStableFunc(r.list, func(a, b Finding) int { return cmp.Compare(a.Level, b.Level) })
	return r.list
}

// Boots reports whether no finding is an error.
func Boots(list []Finding) bool {
	return !slices.ContainsFunc(list, func(f Finding) bool { return f.Level == Error })
}

const dracutHint = `run dracut --force --no-hostonly --add kairos --kver "$kver" "/usr/lib/modules/$kver/initramfs.img" after the toolkit is installed`

// needed are the modules without which no root is mounted.
var needed = []string{"erofs", "overlay", "ext4"}

// bootFiles looks for a kernel, and into its initrd.
func (r *collector) bootFiles() {
	files, release := r.image.Boot, ""
	if files == nil {
		kernel, err := boot.Find(r.image.Root, func(n *tree.Inode) (io.ReadCloser, error) { return r.image.Open(n) })
		if err != nil {
			r.add(Error, "no_kernel", "", "put the kernel at /usr/lib/modules/VERSION/vmlinuz and its initrd beside it, as initramfs.img", "%v", err)
			return
		}
		files, release = kernel.Files, kernel.Release
	}
	for _, f := range files {
		if f.Kind != boot.Initrd && f.Kind != boot.UKI {
			continue
		}
		names, err := r.initrd(f)
		where := "/" + f.Path
		switch {
		case errors.Is(err, errCompression):
			r.add(Warning, "initrd_unread", where, "compress it with zstd, gzip or xz to have it checked", "the initrd is %v", err)
			continue
		case err != nil:
			r.add(Error, "initrd_damaged", where, dracutHint, "the initrd cannot be read: %v", err)
			continue
		}
		r.inInitrd(where, release, names)
	}
}

func (r *collector) initrd(f boot.File) (map[string]bool, error) {
	file, err := r.image.Open(f.Node)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var in io.Reader = file
	if f.Kind == boot.UKI {
		if in, err = ukiInitrd(file); err != nil {
			return nil, err
		}
	}
	names := map[string]bool{}
	err = initrdNames(in, func(name string) { names[name] = true })
	return names, err
}

func (r *collector) inInitrd(where, release string, names map[string]bool) {
	has := func(program string) bool {
		return names["usr/bin/"+program] || names["bin/"+program] || names["usr/sbin/"+program] || names["sbin/"+program]
	}
	if !has("kairos-root") {
		r.add(Error, "initrd_without_kairos_root", where, dracutHint, "the initrd has no kairos-root: the root would not be mounted")
	}
	if !has("kairos-config") {
		r.add(Warning, "initrd_without_kairos_config", where, dracutHint, "the initrd has no kairos-config: the stages rootfs and initramfs of the node's config do not run")
	}
	modules := map[string]bool{}
	for name := range names {
		base := path.Base(name)
		if stem, ok := cutModule(base); ok {
			modules[strings.ReplaceAll(stem, "-", "_")] = true
		}
	}
	builtin, known := r.builtin(release)
	for _, module := range needed {
		if !modules[module] && !builtin[module] && known {
			r.add(Error, "initrd_without_module", where, dracutHint, "the initrd has no module %s, and it is not built into the kernel", module)
		}
	}
}

// cutModule returns the name of a kernel module's file without its suffix.
func cutModule(file string) (string, bool) {
	for _, suffix := range []string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"} {
		if stem, ok := strings.CutSuffix(file, suffix); ok {
			return stem, true
		}
	}
	return "", false
}

// maxText is the size of the largest text file that is read.
const maxText = 1 << 20

// builtin returns what modules.builtin says; known is false where there is none.
func (r *collector) builtin(release string) (builtin map[string]bool, known bool) {
	dir := boot.Resolve(r.image.Root, "usr/lib/modules")
	if dir == nil {
		return nil, false
	}
	builtin = map[string]bool{}
	for name := range dir.Children() {
		if release != "" && name != release {
			continue
		}
		text, ok := r.text(path.Join("usr/lib/modules", name, "modules.builtin"))
		known = known || ok
		for line := range strings.Lines(text) {
			if stem, ok := cutModule(path.Base(strings.TrimSpace(line))); ok {
				builtin[strings.ReplaceAll(stem, "-", "_")] = true
			}
		}
	}
	return builtin, known
}

// text returns the content of a small file.
func (r *collector) text(name string) (string, bool) {
	n := boot.Resolve(r.image.Root, name)
	if n == nil || !n.IsRegular() || n.Size > maxText {
		return "", false
	}
	f, err := r.image.Open(n)
	if err != nil {
		return "", false
	}
	defer f.Close()
	data, err := bounded.Read(f, maxText)
	return string(data), err == nil
}

// file reports whether a file of the image is there.
func (r *collector) file(name string) *tree.Inode {
	if n := boot.Resolve(r.image.Root, name); n != nil && n.IsRegular() {
		return n
	}
	return nil
}
