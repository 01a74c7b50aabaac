package layer

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Decode reads the record of a layer, which must end where r ends. A record
// that is damaged, goes beyond the limits or was written by another version of
// the format is ErrRecord: the layer has to be fetched again.
func Decode(r io.Reader, limits Limits) (*Layer, error) {
	limits = limits.WithDefaults()
	magic := make([]byte, len(recordMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != recordMagic {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrRecord, recordMagic)
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(1<<20))
	if err != nil {
		return nil, fmt.Errorf("read layer record: %w", err)
	}
	defer z.Close()
	d := newDecoder(z, limits)
	if err := d.record(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return d.layer, nil
}

type decoder struct {
	layer *Layer
	r     *bufio.Reader
	sum   hash.Hash
	spent spent
	// nodes are those that hard links can be to.
	nodes []*tree.Inode
	one   [1]byte
	buf   []byte
}

func newDecoder(r io.Reader, limits Limits) *decoder {
	return &decoder{layer: newLayer(), r: bufio.NewReader(r), sum: sha256.New(), spent: spent{limits: limits}}
}

// record reads a payload to its end.
func (d *decoder) record() error {
	if err := d.directory(d.layer.root, 0); err != nil {
		return err
	}
	want := d.sum.Sum(nil)
	have := make([]byte, len(want))
	if _, err := io.ReadFull(d.r, have); err != nil {
		return short(err)
	}
	if !bytes.Equal(want, have) {
		return fmt.Errorf("SHA-256 is %x, want %x", want, have)
	}
	if _, err := d.r.ReadByte(); err != io.EOF {
		return fmt.Errorf("more bytes behind the end (%v)", err)
	}
	d.layer.entries, d.layer.metadata = d.spent.entries, d.spent.metadata
	return nil
}

// directory reads what follows the kind of a directory into dir, whose path
// has a length of depth bytes.
func (d *decoder) directory(dir *tree.Inode, depth int) error {
	if err := d.metadata(dir); err != nil {
		return err
	}
	flags, err := d.number(flagImplicit | flagOpaque)
	if err != nil {
		return err
	}
	m := mark{implicit: flags&flagImplicit != 0, opaque: flags&flagOpaque != 0}
	delete(d.layer.marks, dir)
	if m.whiteouts, err = d.whiteouts(); err != nil {
		return err
	}
	if flags != 0 || len(m.whiteouts) > 0 {
		*d.layer.mark(dir) = m
	}
	children, err := d.number(uint64(d.spent.limits.Entries))
	if err != nil {
		return err
	}
	last := ""
	for range children {
		name, err := d.name(last)
		if err != nil {
			return err
		}
		last = name
		if depth+1+len(name) > pathMax+1 {
			return fmt.Errorf("path of more than %d bytes", pathMax)
		}
		n, err := d.node(depth + 1 + len(name))
		if err != nil {
			return err
		}
		if err := dir.Insert(name, n); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) whiteouts() (map[string]struct{}, error) {
	count, err := d.number(uint64(d.spent.limits.Entries))
	if err != nil || count == 0 {
		return nil, err
	}
	names := make(map[string]struct{})
	last := ""
	for range count {
		if last, err = d.name(last); err != nil {
			return nil, err
		}
		names[last] = struct{}{}
	}
	return names, nil
}

// name reads a name that comes behind last in its directory.
func (d *decoder) name(last string) (string, error) {
	if err := d.spent.entry(); err != nil {
		return "", err
	}
	name, err := d.text(tree.NameMax)
	if err != nil {
		return "", err
	}
	if err := tree.CheckName(name); err != nil {
		return "", err
	}
	if name <= last {
		return "", fmt.Errorf("name %q behind %q", name, last)
	}
	return name, nil
}

func (d *decoder) node(depth int) (*tree.Inode, error) {
	if err := d.full(d.one[:]); err != nil {
		return nil, err
	}
	var n *tree.Inode
	kind := d.one[0]
	switch kind {
	case kindDir:
		n := tree.NewDir(0)
		return n, d.directory(n, depth)
	case kindLink:
		i, err := d.number(uint64(len(d.nodes)))
		if err != nil {
			return nil, err
		}
		if i == uint64(len(d.nodes)) {
			return nil, fmt.Errorf("hard link to node %d of %d", i, len(d.nodes))
		}
		n := d.nodes[i]
		if isLowerLink(n) {
			d.layer.lowerLinks++
		}
		return n, nil
	case kindObject, kindInline:
		n = &tree.Inode{Mode: unix.S_IFREG}
	case kindSymlink:
		n = &tree.Inode{Mode: unix.S_IFLNK}
	case kindChar:
		n = &tree.Inode{Mode: unix.S_IFCHR}
	case kindBlock:
		n = &tree.Inode{Mode: unix.S_IFBLK}
	case kindFifo:
		n = &tree.Inode{Mode: unix.S_IFIFO}
	case kindLower:
		n = &tree.Inode{Mode: lowerLink}
		d.layer.lowerLinks++
	default:
		return nil, fmt.Errorf("unknown kind %q", kind)
	}
	if kind != kindLower {
		if err := d.metadata(n); err != nil {
			return nil, err
		}
	}
	if err := d.content(n, kind); err != nil {
		return nil, err
	}
	d.nodes = append(d.nodes, n)
	return n, nil
}

func (d *decoder) content(n *tree.Inode, kind byte) error {
	switch kind {
	case kindObject:
		size, err := d.number(1<<63 - 1)
		if err != nil {
			return err
		}
		if size <= tree.InlineMax {
			return fmt.Errorf("object of %d bytes", size)
		}
		n.Size = int64(size)
		if err := d.spent.file(n.Size); err != nil {
			return err
		}
		return d.full(n.Digest[:fsverity.Size])
	case kindInline:
		return d.string(n, tree.InlineMax)
	case kindSymlink, kindLower:
		if err := d.string(n, pathMax); err != nil {
			return err
		}
		if kind == kindLower {
			return d.lowerPath(n.Content)
		}
		return checkTarget(n.Content)
	case kindChar, kindBlock:
		rdev, err := d.number(1<<32 - 1)
		n.Rdev = uint32(rdev)
		return err
	}
	return nil
}

// lowerPath checks the target of a hard link to a lower layer: it is as Import
// writes it.
func (d *decoder) lowerPath(target string) error {
	path, err := splitPath(target)
	if err != nil {
		return err
	}
	if strings.Join(path, "/") != target {
		return fmt.Errorf("hard link to %q", clip(target))
	}
	return nil
}

func (d *decoder) metadata(n *tree.Inode) error {
	perm, err := d.number(0o7777)
	if err != nil {
		return err
	}
	uid, err := d.number(1<<32 - 1)
	if err != nil {
		return err
	}
	gid, err := d.number(1<<32 - 1)
	if err != nil {
		return err
	}
	n.Mode = n.Mode&unix.S_IFMT | uint32(perm)
	n.UID, n.GID = uint32(uid), uint32(gid)
	mtime, err := d.varint()
	if err != nil {
		return err
	}
	n.Mtime = int64(mtime>>1) ^ -int64(mtime&1)
	count, err := d.number(xattrsMax)
	if err != nil {
		return err
	}
	for range count {
		name, err := d.text(xattrNameMax)
		if err != nil {
			return err
		}
		value, err := d.text(xattrMax)
		if err != nil {
			return err
		}
		if k := len(n.Xattrs); name == "" || k > 0 && n.Xattrs[k-1].Name >= name {
			return fmt.Errorf("extended attribute %q out of order", name)
		}
		n.Xattrs = append(n.Xattrs, tree.Xattr{Name: name, Value: value})
	}
	return nil
}
