package digest

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

// dump writes a directory tree in the format of composefs-dump(5), with hard
// links, whole seconds, and of all attributes only security.capability.
func dump(w io.Writer, root string) error {
	out := bufio.NewWriter(w)
	seen := map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, root)
		if name == "" {
			name = "/"
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if first, ok := seen[st.Ino]; ok && !isDir && st.Nlink > 1 {
			fmt.Fprintf(out, "%s 0 @%o 1 0 0 0 0.0 %s - -\n", escape(name), st.Mode, escape(first))
			return nil
		}
		seen[st.Ino] = name
		return dumpInode(out, path, name, &st)
	})
	if err != nil {
		return err
	}
	return out.Flush()
}

func dumpInode(out io.Writer, path, name string, st *unix.Stat_t) error {
	size, payload, content, digest := st.Size, "-", "-", "-"
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		size = 0
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		payload = escape(target)
	case unix.S_IFREG:
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if len(data) > 64 {
			digest = fsverity.Bytes(data).String()
			payload = digest[:2] + "/" + digest[2:]
		} else if len(data) > 0 {
			content = escape(string(data))
		}
	}
	fmt.Fprintf(out, "%s %d %o %d %d %d %d %d.0 %s %s %s", escape(name), size, st.Mode, st.Nlink, st.Uid, st.Gid,
		st.Rdev, st.Mtim.Sec, payload, content, digest)
	value := make([]byte, 256)
	if n, err := unix.Lgetxattr(path, "security.capability", value); err == nil {
		fmt.Fprintf(out, " security.capability=%s", escape(string(value[:n])))
	}
	_, err := fmt.Fprintln(out)
	return err
}

// escape writes a field: everything that is not a plain visible character as
// \xNN.
func escape(s string) string {
	if s == "-" {
		return `\x2d`
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f && c != '\\' && c != '=' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}
