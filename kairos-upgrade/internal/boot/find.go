// Package boot knows how an image is booted: it finds kernel, initrd and
// kernel arguments in an image's tree, and hands them to the boot loader.
package boot

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/bls"
)

// Kinds of boot files.
const (
	Linux  = "linux"
	Initrd = "initrd"
	UKI    = "uki" // unified kernel image: kernel, initrd and more in one EFI program
)

// File is a boot file in an image.
type File struct {
	Kind string // Linux, Initrd or UKI
	Path string // in the image, without leading slash
	Node *tree.Inode
}

// Kernel is an image's kernel with its initrd, or its UKI.
type Kernel struct {
	Release string // in the form of uname -r, as far as file names contain it
	Files   []File
	// Notes describe, for people, other kernels of the image, and newer ones that can't
	// boot.
	Notes []string
}

// order compares kernels by their releases, by the order of package bls. What
// is kept as .old is older than what it was replaced by, and a release candidate
// than its release.
func order(a, b string) int {
	stemA, oldA := strings.CutSuffix(strings.Replace(a, "-rc", "~rc", 1), ".old")
	stemB, oldB := strings.CutSuffix(strings.Replace(b, "-rc", "~rc", 1), ".old")
	older := map[bool]int{true: -1}
	return cmp.Or(bls.CompareVersions(stemA, stemB), older[oldA]-older[oldB])
}

// Content opens the content of a regular file of an image.
type Content func(*tree.Inode) (io.ReadCloser, error)

// ErrNoKernel says that an image has no usable kernel.
var ErrNoKernel = errors.New("the image has no bootable kernel")

// Find returns what the image boots with. The tree must not have been
// normalised: that empties /boot. Looked for, first what is found:
//
//	/boot/EFI/Linux/*.efi, /usr/lib/modules/*/*.efi            a UKI
//	/usr/lib/modules/*/vmlinuz and initramfs.img               bootc's convention
//	/boot/vmlinuz* and /boot/initrd*, /boot/initramfs*         Kairos' and most distributions'
//
// Of several kernels the newest counts, and what is kept as .old less than
// others of its version. content is asked whether a program is a UKI.
func Find(root *tree.Inode, content Content) (Kernel, error) {
	var incomplete []Kernel
	var passed []string
	uki := func(root *tree.Inode) (found, _ []Kernel) {
		found, passed = findUKI(root, content)
		return found, nil
	}
	for _, look := range []func(*tree.Inode) (kernels, incomplete []Kernel){uki, findModules, findBoot} {
		kernels, without := look(root)
		incomplete = append(incomplete, without...)
		if len(kernels) > 0 {
			newest := slices.MaxFunc(kernels, func(a, b Kernel) int { return order(a.Release, b.Release) })
			newest.note(kernels, incomplete)
			return newest, nil
		}
	}
	if len(incomplete) > 0 {
		var paths []string
		for _, k := range incomplete {
			paths = append(paths, "/"+k.Files[0].Path)
		}
		return Kernel{}, fmt.Errorf("%w: no initrd for %s", ErrNoKernel, strings.Join(paths, ", "))
	}
	err := fmt.Errorf("%w: neither /usr/lib/modules/*/vmlinuz nor /boot/vmlinuz*, nor a UKI in /boot/EFI/Linux or /usr/lib/modules/*", ErrNoKernel)
	if len(passed) > 0 {
		err = fmt.Errorf("%w (no UKI, without the sections .linux and .osrel: %s)", err, strings.Join(passed, ", "))
	}
	return Kernel{}, err
}

// note says what else there was.
func (k *Kernel) note(all, incomplete []Kernel) {
	for _, other := range incomplete {
		if order(other.Release, k.Release) > 0 {
			k.Notes = append(k.Notes, fmt.Sprintf("the newest kernel has no initrd: /%s; %s boots instead", other.Files[0].Path, k.Release))
		}
	}
	var others []string
	for _, other := range all {
		if other.Files[0].Node != k.Files[0].Node { // links to the same are no choice
			others = append(others, "/"+other.Files[0].Path)
		}
	}
	if len(others) > 0 {
		k.Notes = append(k.Notes, fmt.Sprintf("the image has %d kernels: /%s boots, not %s", len(others)+1, k.Files[0].Path, strings.Join(others, ", ")))
	}
}

// findUKI returns UKIs, and the paths of programs that are none.
func findUKI(root *tree.Inode, content Content) (found []Kernel, passed []string) {
	add := func(dir, release string) {
		all := files(root, dir)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			stem, ok := strings.CutSuffix(name, ".efi")
			switch {
			case !ok:
			case mayBeUKI(all[name], content):
				found = append(found, Kernel{orElse(release, stem), []File{{UKI, path.Join(dir, name), all[name]}}, nil})
			default:
				passed = append(passed, "/"+path.Join(dir, name))
			}
		}
	}
	add("boot/EFI/Linux", "")
	if len(found) > 0 {
		return found, nil
	}
	for _, release := range releases(root) {
		add(path.Join("usr/lib/modules", release), release)
	}
	return found, passed
}

// mayBeUKI reads the header of a program. One that isn't here yet may be.
func mayBeUKI(n *tree.Inode, content Content) bool {
	if content == nil {
		return true
	}
	r, err := content(n)
	if err != nil {
		return true
	}
	defer r.Close()
	return isUKI(r)
}

func findModules(root *tree.Inode) (found, incomplete []Kernel) {
	for _, release := range releases(root) {
		dir := path.Join("usr/lib/modules", release)
		kernel := file(root, path.Join(dir, "vmlinuz"))
		initrd := file(root, path.Join(dir, "initramfs.img"))
		switch {
		case kernel == nil:
		case initrd == nil:
			incomplete = append(incomplete, Kernel{release, []File{{Linux, path.Join(dir, "vmlinuz"), kernel}}, nil})
		default:
			found = append(found, Kernel{release, []File{
				{Linux, path.Join(dir, "vmlinuz"), kernel},
				{Initrd, path.Join(dir, "initramfs.img"), initrd},
			}, nil})
		}
	}
	return found, incomplete
}

// leftOver is what packages, and signatures beside kernels, are called.
var leftOver = regexp.MustCompile(`(\.dpkg-\w+|\.rpm(save|new)|\.sig|\.hmac|~)$`)

// findBoot pairs /boot/vmlinuz-X with the initrd that has X in its name, and
// /boot/vmlinuz with one that has no version.
func findBoot(root *tree.Inode) (found, incomplete []Kernel) {
	boot := files(root, "boot")
	for _, name := range slices.Sorted(maps.Keys(boot)) {
		version, ok := strings.CutPrefix(name, "vmlinuz")
		if !ok || leftOver.MatchString(name) {
			continue
		}
		initrd := ""
		for _, form := range []string{"initrd.img%s", "initrd%s", "initramfs%s.img", "initrd%s.img", "initramfs%s"} {
			if candidate := fmt.Sprintf(form, version); initrd == "" && boot[candidate] != nil {
				initrd = candidate
			}
		}
		if initrd == "" {
			incomplete = append(incomplete, Kernel{bootRelease(root, version), []File{{Linux, "boot/" + name, boot[name]}}, nil})
			continue
		}
		found = append(found, Kernel{bootRelease(root, version), []File{
			{Linux, "boot/" + name, boot[name]},
			{Initrd, "boot/" + initrd, boot[initrd]},
		}, nil})
	}
	return found, incomplete
}

// bootRelease tells the release of /boot/vmlinuz<version>. Without a version
// in its name, a single directory of modules or the target of a symbolic link
// may know it.
func bootRelease(root *tree.Inode, version string) string {
	stem, old := strings.CutSuffix(version, ".old")
	if stem != "" {
		return strings.TrimLeft(version, "-.")
	}
	if link := root.Find("boot/vmlinuz" + version); link != nil && link.IsSymlink() {
		if _, v, ok := strings.Cut(path.Base(link.Content), "vmlinuz-"); ok {
			return v
		}
	}
	release := ""
	if all := releases(root); len(all) == 1 {
		release = all[0]
	}
	if old {
		release += ".old"
	}
	return release
}

// releases returns the names of the directories of modules.
func releases(root *tree.Inode) (names []string) {
	dir := Resolve(root, "usr/lib/modules")
	if dir == nil {
		return nil
	}
	for name, child := range dir.Children() {
		if child.IsDir() {
			names = append(names, name)
		}
	}
	return names
}

// files returns the regular files of a directory, by name, through symbolic
// links.
func files(root *tree.Inode, dir string) map[string]*tree.Inode {
	d := Resolve(root, dir)
	if d == nil {
		return nil
	}
	found := map[string]*tree.Inode{}
	for name := range d.Children() {
		if f := file(root, path.Join(dir, name)); f != nil {
			found[name] = f
		}
	}
	return found
}

// file returns a regular file that isn't empty, through symbolic links.
func file(root *tree.Inode, name string) *tree.Inode {
	if n := Resolve(root, name); n != nil && n.IsRegular() && n.Size > 0 {
		return n
	}
	return nil
}

func orElse(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}
