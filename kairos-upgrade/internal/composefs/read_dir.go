package composefs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
)

// directory reads a directory and everything beneath it.
func (p *parser) directory(in *stored, parent uint64, depth int) (*tree.Inode, error) {
	if _, again := p.dirs[in.nid]; again {
		return nil, badf("a directory with two names")
	}
	if depth > maxDepth {
		return nil, badf("directories nested deeper than %d", maxDepth)
	}
	p.dirs[in.nid] = struct{}{}
	x, err := p.xattrs(in)
	if err != nil {
		return nil, err
	}
	n := tree.NewDir(in.mode)
	n.UID, n.GID, n.Mtime = in.uid, in.gid, in.mtime
	d := &dirParser{parser: p, node: n, nid: in.nid, parent: parent, depth: depth}
	if err := d.read(in); err != nil {
		return nil, err
	}
	if d.whiteouts && !x.takeWhiteouts() {
		return nil, badf("a directory with whiteouts that is not marked")
	}
	if x.opaque != (depth == 0) || !x.digest.IsZero() {
		return nil, badf("a directory with attributes of something else")
	}
	n.Xattrs = x.plain
	return n, nil
}

// dirParser reads the entries of one directory.
type dirParser struct {
	*parser
	node      *tree.Inode
	nid       uint64
	parent    uint64
	depth     int
	last      string // name of the last entry
	dots      int    // how many of "." and ".." were there
	whiteouts bool   // a child is a whiteout of the tree
}

func (d *dirParser) read(in *stored) error {
	blocks := in.size / blockSize
	if in.layout != layoutPlain && in.layout != layoutInline || in.layout == layoutPlain && in.size%blockSize != 0 {
		return badf("a directory of %d bytes of layout %d", in.size, in.layout)
	}
	if blocks > d.size {
		return badf("a directory of %d bytes", in.size)
	}
	whole, err := d.claim(uint64(in.union)*blockSize*min(blocks, 1), blocks*blockSize)
	if err != nil {
		return err
	}
	for ; len(whole) > 0; whole = whole[blockSize:] {
		if err := d.block(whole[:blockSize]); err != nil {
			return err
		}
	}
	tail, err := d.claim(in.tail, in.size%blockSize)
	if err != nil {
		return err
	}
	if len(tail) > 0 {
		if err := d.block(tail); err != nil {
			return err
		}
	}
	if d.dots != 2 {
		return badf(`a directory without "." and ".."`)
	}
	return nil
}

// block reads one block of entries: first the records, then the names that
// they point to.
func (d *dirParser) block(b []byte) error {
	le := binary.LittleEndian
	if len(b) < direntSize {
		return badf("a directory block of %d bytes", len(b))
	}
	records := int(le.Uint16(b[8:]))
	if records == 0 || records%direntSize != 0 || records > len(b) {
		return badf("a directory block with %d bytes of records", records)
	}
	nameAt := records
	for at := 0; at < records; at += direntSize {
		record := b[at : at+direntSize]
		end := len(b)
		if at+direntSize < records {
			end = int(le.Uint16(b[at+direntSize+8:]))
		}
		if int(le.Uint16(record[8:])) != nameAt || end < nameAt || end > len(b) {
			return badf("directory entries whose names overlap")
		}
		name := b[nameAt:end]
		if at+direntSize == records {
			name, _, _ = bytes.Cut(name, []byte{0}) // the rest is padding
		}
		nameAt = end
		if err := d.entry(string(name), le.Uint64(record), record[10]); err != nil {
			return below(string(name), err)
		}
	}
	return nil
}

// entry reads what one entry points to, and adds it to the directory.
func (d *dirParser) entry(name string, nid uint64, fileType uint8) error {
	if name <= d.last {
		return badf("directory entries out of order")
	}
	d.last = name
	switch name {
	case ".", "..":
		d.dots++
		want := d.nid
		if name == ".." {
			want = d.parent
		}
		if nid != want || fileType != typeDirectory {
			return badf("points to inode %d", nid)
		}
		return nil
	}
	if err := tree.CheckName(name); err != nil {
		return fmt.Errorf("%w: %w", ErrImage, err)
	}
	child, known, err := d.parser.node(nid, d.nid, d.depth+1)
	switch {
	case err == errHides && d.depth == 0 && isObjectDir(name) && fileType == typeCharDevice:
		return nil
	case err == errHides:
		return badf("a whiteout that is not escaped")
	case err != nil:
		return err
	case isWhiteout(child):
		d.whiteouts = d.whiteouts || !known
		if fileType != typeRegular {
			return badf("a whiteout with an entry of type %d", fileType)
		}
	case fileType != direntType(child.Mode):
		return badf("mode %o with an entry of type %d", child.Mode, fileType)
	}
	return d.node.Insert(name, child)
}

// isObjectDir reports whether a name is that of a directory of objects.
func isObjectDir(name string) bool {
	return len(name) == 2 && strings.Trim(name, "0123456789abcdef") == ""
}
