package composefs

import (
	"bufio"
	"fmt"
	"io"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"golang.org/x/sys/unix"
)

// WriteDump writes a tree in the format of composefs-dump(5): one line for each
// name, depth-first. mkcomposefs --from-file makes of it the image that Write
// makes of the tree, so a dump lets anybody check a digest with other tools,
// and two dumps show what two images differ in. Errors: ErrTree, and those of
// w.
func WriteDump(w io.Writer, root *tree.Inode) error {
	p, err := plan(root)
	if err != nil {
		return fmt.Errorf("dump tree: %w", err)
	}
	links := make(map[*tree.Inode]uint32)
	for i := range p.inodes {
		links[p.inodes[i].node] = p.inodes[i].nlink
	}
	out := bufio.NewWriterSize(w, 64<<10)
	first := make(map[*tree.Inode]string)
	for path, n := range root.Walk() {
		if path = "/" + path; n == root {
			path = "/"
		}
		if at, again := first[n]; again {
			fmt.Fprintf(out, "%s 0 @%o 1 0 0 0 0.0 %s - -\n", escape(path, ' '), n.Mode, escape(at, ' '))
			continue
		}
		if !n.IsDir() && links[n] > 1 {
			first[n] = path
		}
		dumpLine(out, path, n, links[n])
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("dump tree: %w", err)
	}
	return nil
}

func dumpLine(w *bufio.Writer, path string, n *tree.Inode, nlink uint32) {
	payload, content, digest := "-", "-", "-"
	switch {
	case n.IsSymlink():
		payload = escape(n.Content, ' ')
	case n.HasObject():
		payload, digest = ObjectPath(n.Digest), n.Digest.String()
	case n.Size > 0:
		content = escape(n.Content, ' ')
	}
	var rdev uint32
	if t := n.Type(); t == unix.S_IFCHR || t == unix.S_IFBLK {
		rdev = n.Rdev
	}
	fmt.Fprintf(w, "%s %d %o %d %d %d %d %d.0 %s %s %s",
		escape(path, ' '), n.Size, n.Mode, nlink, n.UID, n.GID, rdev, n.Mtime, payload, content, digest)
	for _, x := range n.Xattrs {
		fmt.Fprintf(w, " %s=%s", escape(x.Name, '='), escape(x.Value, '='))
	}
	w.WriteByte('\n')
}

// escape writes bytes that are not printable, and those with a meaning in the
// format, as \xNN. A field that would read as "not set" is escaped, too.
func escape(s string, special byte) string {
	if s == "-" {
		return `\x2d`
	}
	const hex = "0123456789abcdef"
	b := make([]byte, 0, len(s))
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '\\' || c == special {
			b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}
