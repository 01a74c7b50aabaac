package diff

import (
	"fmt"
	"path"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/bounded"
)

// Bounds of what images say about their packages.
const (
	MaxText     = 32 << 20 // bytes of a file that is read
	maxPackages = 200_000
	maxWord     = 256 // bytes of a name or a version
)

// Databases of packages in an image.
var (
	dpkgStatus = "var/lib/dpkg/status"
	dpkgDir    = "var/lib/dpkg/status.d" // distroless: a file for each package
	apkFiles   = []string{"lib/apk/db/installed", "usr/lib/apk/db/installed"}
	rpmFiles   = []string{"rpmdb.sqlite", "Packages.db", "Packages"}
	rpmDirs    = []string{"usr/lib/sysimage/rpm", "var/lib/rpm", "usr/share/rpm"}
)

// packages returns the versions of the installed packages, by name.
func packages(image Image) (map[string]string, error) {
	p := parser{versions: map[string]string{}}
	read := func(name string, parse func(text string) error) error {
		n := boot.Resolve(image.Root, name)
		if n == nil || !n.IsRegular() || n.Size == 0 {
			return nil
		}
		r, err := image.Open(n)
		if err == nil {
			defer r.Close()
			var data []byte
			if data, err = bounded.Read(r, MaxText); err == nil {
				err = parse(string(data))
			}
		}
		if err != nil {
			return fmt.Errorf("/%s: %w", name, err)
		}
		return nil
	}
	if err := read(dpkgStatus, p.dpkg); err != nil {
		return nil, err
	}
	if dir := boot.Resolve(image.Root, dpkgDir); dir != nil {
		for name := range dir.Children() {
			if strings.HasSuffix(name, ".md5sums") {
				continue
			}
			if err := read(path.Join(dpkgDir, name), p.dpkg); err != nil {
				return nil, err
			}
		}
	}
	seen := map[*tree.Inode]bool{} // one may be a link to the other
	for _, name := range apkFiles {
		n := boot.Resolve(image.Root, name)
		if seen[n] {
			continue
		}
		seen[n] = true
		if err := read(name, p.apk); err != nil {
			return nil, err
		}
	}
	return p.versions, nil
}

type parser struct{ versions map[string]string }

func (p parser) add(name, version, arch string) error {
	if name == "" {
		return nil
	}
	if len(name) > maxWord || len(version) > maxWord || len(arch) > maxWord {
		return fmt.Errorf("a name or version of more than %d bytes", maxWord)
	}
	if _, again := p.versions[name]; again { // of another architecture
		name += ":" + arch
	}
	if p.versions[name] = version; len(p.versions) > maxPackages {
		return fmt.Errorf("more than %d packages", maxPackages)
	}
	return nil
}

// dpkg reads paragraphs as of /var/lib/dpkg/status: dpkg-query(1).
func (p parser) dpkg(text string) error {
	return paragraphs(text, func(fields map[string]string) error {
		status := strings.Fields(fields["Status"])
		if len(status) == 3 && status[2] == "not-installed" || len(status) == 3 && status[2] == "config-files" {
			return nil
		}
		return p.add(fields["Package"], fields["Version"], fields["Architecture"])
	}, "Package", "Status", "Version", "Architecture")
}

// apk reads /lib/apk/db/installed: apk(5).
func (p parser) apk(text string) error {
	return paragraphs(text, func(fields map[string]string) error {
		return p.add(fields["P"], fields["V"], fields["A"])
	}, "P", "V", "A")
}

// paragraphs calls found with the fields wanted of each paragraph.
func paragraphs(text string, found func(map[string]string) error, wanted ...string) error {
	fields := map[string]string{}
	for line := range strings.SplitSeq(text+"\n\n", "\n") {
		if strings.TrimSpace(line) == "" {
			if err := found(fields); err != nil {
				return err
			}
			clear(fields)
			continue
		}
		for _, name := range wanted {
			if value, ok := strings.CutPrefix(line, name+":"); ok {
				fields[name] = strings.TrimSpace(value)
			}
		}
	}
	return nil
}

// rpm returns the node of an rpm database, nil where there is none.
func rpm(root *tree.Inode) *tree.Inode {
	for _, dir := range rpmDirs {
		for _, name := range rpmFiles {
			if n := boot.Resolve(root, path.Join(dir, name)); n != nil && n.IsRegular() {
				return n
			}
		}
	}
	return nil
}
