package composefs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"golang.org/x/sys/unix"
)

// MaxSize is the size in bytes of the largest image that Read accepts: about
// 300 bytes for each of three million files.
const MaxSize = 1 << 30

// Read reads an image of at most MaxSize bytes and returns its tree, as Parse
// does. The image may be larger than the memory: it is not kept there.
func Read(image *os.File) (*tree.Inode, error) {
	info, err := image.Stat()
	if err != nil {
		return nil, fmt.Errorf("read composefs image: %w", err)
	}
	return parse(image, info.Size())
}

// Parse parses an image into the tree from which it was written. The bytes need not be
// trusted: time and memory are bounded by their length, and ErrImage is returned for
// everything that Write never writes. The tree does not refer to image.
func Parse(image []byte) (*tree.Inode, error) {
	return parse(bytes.NewReader(image), int64(len(image)))
}

func parse(image io.ReaderAt, size int64) (*tree.Inode, error) {
	if size > MaxSize {
		return nil, fmt.Errorf("read composefs image: %w: more than %d bytes", ErrImage, MaxSize)
	}
	p := &parser{
		windows: windows{r: image, size: uint64(size)},
		budget:  int(size),
		files:   make(map[uint64]*tree.Inode),
		dirs:    make(map[uint64]struct{}),
		shared:  make(map[uint32]tree.Xattr),
	}
	root, err := p.parse()
	if err != nil {
		return nil, fmt.Errorf("read composefs image: %w", err)
	}
	return root, nil
}

// parser reads an image.
type parser struct {
	windows
	// budget is how many bytes of the image may still be claimed. Every part
	// of a good image belongs to one thing only, so a small image can't
	// become a large tree.
	budget    int
	buildTime int64
	xattrBase uint64                 // offset of the block where shared attributes begin
	files     map[uint64]*tree.Inode // by nid, to find hard links
	dirs      map[uint64]struct{}    // nids of directories already seen
	shared    map[uint32]tree.Xattr  // shared attributes already read, by number
}

func badf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrImage}, args...)...)
}

// claim returns n bytes at off, which are used nowhere else.
func (p *parser) claim(off, n uint64) ([]byte, error) {
	if n > p.size {
		return nil, badf("%d bytes at %d are beyond its end", n, off)
	}
	if p.budget -= int(n); p.budget < 0 {
		return nil, badf("parts of it overlap")
	}
	return p.bytes(off, n)
}

func (p *parser) parse() (*tree.Inode, error) {
	head, err := p.claim(0, inodeStart)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	super := head[superOffset:]
	switch {
	case le.Uint32(head) != headerMagic, le.Uint32(super) != superMagic:
		return nil, badf("no magic number")
	case le.Uint32(head[4:]) != headerVersion, le.Uint32(head[12:]) > 1:
		return nil, badf("version %d.%d", le.Uint32(head[4:]), le.Uint32(head[12:]))
	case super[12] != blockBits, super[13] != 0, le.Uint32(super[40:]) != 0, le.Uint32(super[80:]) != 0:
		return nil, badf("unusual superblock")
	case le.Uint32(super[32:]) != 0:
		return nil, badf("mtimes with nanoseconds")
	}
	p.buildTime = int64(le.Uint64(super[24:]))
	p.xattrBase = uint64(le.Uint32(super[44:])) * blockSize
	nid := uint64(le.Uint16(super[14:]))
	in, err := p.inode(nid)
	if err != nil {
		return nil, below("", err)
	}
	if in.mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, badf("its root is not a directory")
	}
	return p.directory(in, nid, 0)
}

// stored is an inode as it is in the image.
type stored struct {
	nid    uint64
	layout uint16
	mode   uint32
	size   uint64
	union  uint32
	uid    uint32
	gid    uint32
	mtime  int64
	xattrs []byte
	tail   uint64 // offset of what follows inode and attributes
}

// inode reads the inode nid and claims it with its attributes.
func (p *parser) inode(nid uint64) (*stored, error) {
	if nid < inodeStart/slotSize || nid > p.size/slotSize {
		return nil, badf("no inode can be at %d", nid)
	}
	at := nid * slotSize
	b, err := p.claim(at, compactSize)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	format := le.Uint16(b)
	in := &stored{nid: nid, layout: format >> 1, mode: uint32(le.Uint16(b[4:])), tail: at + compactSize}
	switch {
	case format>>4 != 0:
		return nil, badf("inode %d of unknown format %#x", nid, format)
	case format&1 == 0:
		in.size = uint64(le.Uint32(b[8:]))
		in.uid, in.gid = uint32(le.Uint16(b[24:])), uint32(le.Uint16(b[26:]))
		in.mtime = p.buildTime
	default:
		rest, err := p.claim(at+compactSize, extendedSize-compactSize)
		if err != nil {
			return nil, err
		}
		in.size = le.Uint64(b[8:])
		in.uid, in.gid = le.Uint32(b[24:]), le.Uint32(b[28:])
		in.mtime = int64(le.Uint64(rest))
		in.tail = at + extendedSize
		if le.Uint32(rest[8:]) != 0 {
			return nil, badf("mtimes with nanoseconds")
		}
	}
	in.union = le.Uint32(b[16:])
	if count := uint64(le.Uint16(b[2:])); count > 0 {
		size := xattrHeaderSize + 4*(count-1)
		if in.xattrs, err = p.claim(in.tail, size); err != nil {
			return nil, err
		}
		in.tail += size
	}
	return in, nil
}

// errHides is returned by node for a whiteout that hides a directory of the
// object store, and is no node of the tree.
var errHides = errors.New("hides a directory of the store")

// node returns the node of a nid: a new one, or one already known, which is a
// hard link then.
func (p *parser) node(nid, parent uint64, depth int) (n *tree.Inode, known bool, err error) {
	if n := p.files[nid]; n != nil {
		return n, true, nil
	}
	in, err := p.inode(nid)
	if err != nil {
		return nil, false, err
	}
	if in.mode&unix.S_IFMT == unix.S_IFDIR {
		n, err := p.directory(in, parent, depth)
		return n, false, err
	}
	x, err := p.xattrs(in)
	if err != nil {
		return nil, false, err
	}
	n = &tree.Inode{Mode: in.mode, UID: in.uid, GID: in.gid, Mtime: in.mtime}
	if err := p.fill(n, in, &x); err != nil {
		return nil, false, err
	}
	if x.opaque || n.HasObject() == x.digest.IsZero() {
		return nil, false, badf("mode %o, %d bytes, with attributes of something else", in.mode, in.size)
	}
	n.Xattrs = x.plain
	p.files[nid] = n
	return n, false, nil
}

// fill reads what a node that is no directory has of its own.
func (p *parser) fill(n *tree.Inode, in *stored, x *parsedXattrs) error {
	switch n.Type() {
	case unix.S_IFREG:
		return p.regular(n, in, x)
	case unix.S_IFLNK:
		return p.symlink(n, in)
	case unix.S_IFBLK, unix.S_IFCHR:
		if n.Rdev = in.union; isWhiteout(n) {
			return errHides
		}
	case unix.S_IFIFO, unix.S_IFSOCK:
	default:
		return badf("mode %o has no file type", in.mode)
	}
	if in.size != 0 || in.layout != layoutPlain {
		return badf("a special file with content")
	}
	return nil
}

func (p *parser) symlink(n *tree.Inode, in *stored) error {
	if in.size == 0 || in.size > maxTarget {
		return badf("a symbolic link's target of %d bytes", in.size)
	}
	at := in.tail
	switch in.layout {
	case layoutInline:
	case layoutPlain:
		at = uint64(in.union) * blockSize
	default:
		return badf("a symbolic link of layout %d", in.layout)
	}
	target, err := p.claim(at, in.size)
	if err != nil {
		return err
	}
	n.Size, n.Content = int64(in.size), string(target)
	if strings.Contains(n.Content, "\x00") {
		return badf("a symbolic link's target with a NUL")
	}
	return nil
}

// regular reads a regular file, or a whiteout that is written as one.
func (p *parser) regular(n *tree.Inode, in *stored, x *parsedXattrs) error {
	switch {
	case in.layout == layoutChunks && in.size > tree.InlineMax && in.size <= maxFileSize:
		n.Size, n.Digest = int64(in.size), x.digest
		return p.chunks(in)
	case in.layout == layoutPlain && in.size == 0:
		if x.takeWhiteout() {
			n.Mode = n.Mode&^unix.S_IFMT | unix.S_IFCHR
		}
		return nil
	case in.layout == layoutInline && in.size > 0 && in.size <= tree.InlineMax:
		content, err := p.claim(in.tail, in.size)
		n.Size, n.Content = int64(in.size), string(content)
		return err
	}
	return badf("a file of %d bytes of layout %d", in.size, in.layout)
}

// chunks checks the table of chunks, which is all holes: overlayfs takes the
// content from the object.
func (p *parser) chunks(in *stored) error {
	bits, count := chunking(int64(in.size))
	if in.union != uint32(bits-blockBits) {
		return badf("a file of %d bytes with chunks of format %#x", in.size, in.union)
	}
	table, err := p.claim(in.tail, 4*uint64(count))
	for ; len(table) > 0 && err == nil; table = table[4:] {
		if binary.LittleEndian.Uint32(table) != nullChunk {
			err = badf("a file with content of its own")
		}
	}
	return err
}
