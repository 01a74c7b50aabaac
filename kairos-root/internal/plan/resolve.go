package plan

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// maxLinks is how many symbolic links a path may have, as in the kernel.
const maxLinks = 40

// place is the resolved target of a path in the image.
type place struct {
	target string // absolute, without symbolic links
	exists bool
	dir    bool
}

// resolve resolves a path in the image as the running system will: absolute links stay
// inside. A missing path is returned as it is.
func resolve(image fs.ReadLinkFS, p string) (place, error) {
	at, rest := place{target: "/", exists: true, dir: true}, strings.Split(p, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			// Walk to the parent again: it may be missing, too.
			rest = append(strings.Split(path.Dir(at.target), "/"), rest...)
			at = place{target: "/", exists: true, dir: true}
			continue
		}
		next := path.Join(at.target, part)
		if !at.exists {
			at.target = next
			continue
		}
		if !at.dir {
			return place{}, fmt.Errorf("%s is not a directory in the image", at.target)
		}
		info, err := image.Lstat(name(next))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			at = place{target: next}
		case err != nil:
			return place{}, err
		case info.Mode()&fs.ModeSymlink == 0:
			at = place{target: next, exists: true, dir: info.IsDir()}
		default:
			if links++; links > maxLinks {
				return place{}, fmt.Errorf("%s: too many symbolic links in the image", p)
			}
			link, err := image.ReadLink(name(next))
			if err != nil {
				return place{}, err
			}
			if path.IsAbs(link) {
				at = place{target: "/", exists: true, dir: true}
			}
			rest = append(strings.Split(link, "/"), rest...)
		}
	}
	return at, nil
}

// name converts an absolute path for io/fs.
func name(p string) string {
	if p == "/" {
		return "."
	}
	return strings.TrimPrefix(p, "/")
}

// empty reports whether a directory of the image is empty. One that cannot be read
// counts as not empty.
func empty(image fs.FS, dir string) bool {
	entries, err := fs.ReadDir(image, name(dir))
	return err == nil && len(entries) == 0
}

// errFound stops a walk.
var errFound = errors.New("found")

// hasFile reports whether a directory of the image contains anything but directories,
// at any depth.
func hasFile(image fs.FS, dir string) bool {
	err := fs.WalkDir(image, name(dir), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return nil
		}
		return errFound
	})
	return err != nil
}
