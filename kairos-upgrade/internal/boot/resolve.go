package boot

import (
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/bounded"
	"github.com/kairos-io/toolkit/lib/osrelease"
)

// maxLinks bounds how many symbolic links one path may go through, as the
// kernel does.
const maxLinks = 40

// Resolve returns the node at a path of an image, resolved as by a process in the
// image: symbolic links are followed, and ".." of the root is the root. It returns nil
// for missing paths and for loops.
func Resolve(root *tree.Inode, name string) *tree.Inode {
	stack := []*tree.Inode{root}
	left := strings.Split(name, "/")
	for links := 0; len(left) > 0; {
		part := left[0]
		left = left[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			stack = stack[:max(1, len(stack)-1)]
			continue
		}
		node := stack[len(stack)-1].Lookup(part)
		if node == nil {
			return nil
		}
		if !node.IsSymlink() {
			stack = append(stack, node)
			continue
		}
		if links++; links > maxLinks {
			return nil
		}
		if strings.HasPrefix(node.Content, "/") {
			stack = stack[:1]
		}
		left = append(strings.Split(node.Content, "/"), left...)
	}
	return stack[len(stack)-1]
}

// maxText bounds the text files of an image that are read, in bytes.
const maxText = 1 << 20

// OSRelease returns the fields of the image's os-release(5), empty when it has
// none.
func OSRelease(root *tree.Inode, content Content) (map[string]string, error) {
	for _, name := range osrelease.Files {
		n := file(root, strings.TrimPrefix(name, "/"))
		if n == nil {
			continue
		}
		r, err := content(n)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		data, err := bounded.Read(r, osrelease.Limit)
		return osrelease.Parse(data), err
	}
	return map[string]string{}, nil
}
