package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"golang.org/x/sys/unix"
)

// Import reads an uncompressed tar stream to its end, puts contents into
// objects and returns the rest as a Layer. Bytes behind the end of the archive
// are read, too, so that digests over the stream come out right.
//
// Nothing is written anywhere but into objects, and names never mean anything
// outside the layer: ".." is refused, "/a" and "./a" are "a". Refused with
// ErrLayer are also names and targets that Linux can't hold, hard links to
// directories, through symbolic links of lower layers or to nothing, entries
// beneath something that is no directory, and types that are no files. A name
// that leads through a symbolic link of the layer itself means what is behind
// it, within the layer. Of duplicates the last one stays. Fractions of mtimes are cut off (towards the past), global PAX
// headers and the files of AUFS (.wh..wh.*) are skipped.
//
// archive/tar reads the headers: it knows PAX, GNU and sparse formats, bounds
// special headers to 1 MiB, is fuzzed upstream, and bit-exact reassembly, for
// which others use a fork of it (tar-split), is not needed here.
//
// Errors: ErrLayer, ErrLimit, those of r, of objects and of ctx.
func Import(ctx context.Context, r io.Reader, objects Objects, limits Limits) (*Layer, error) {
	limits = limits.WithDefaults()
	im := importer{
		ctx:     ctx,
		objects: objects,
		layer:   newLayer(),
		spent:   spent{limits: limits},
	}
	stream := &limitedStream{r: r, left: limits.Stream}
	im.tar = tar.NewReader(stream)
	im.content = func(h *tar.Header) (*tree.Inode, error) { return im.file(h.Size) }
	if err := im.run(); err != nil {
		if stream.whole && errors.Is(err, io.ErrUnexpectedEOF) {
			// Not wrapped: it is not the connection that broke off.
			err = fmt.Errorf("%w: the archive ends in the middle: %v", ErrLayer, err)
		}
		return nil, err
	}
	if err := drain(ctx, stream); err != nil {
		return nil, fmt.Errorf("read behind the end of the archive: %w", err)
	}
	im.layer.entries, im.layer.metadata = im.spent.entries, im.spent.metadata
	return im.layer, nil
}

type importer struct {
	ctx     context.Context
	objects Objects
	tar     *tar.Reader
	layer   *Layer
	spent   spent
	small   [tree.InlineMax]byte
	// content makes the node of a regular file, without metadata.
	content func(*tar.Header) (*tree.Inode, error)
}

func (im *importer) run() error {
	for {
		if err := im.ctx.Err(); err != nil {
			return err
		}
		h, err := im.tar.Next()
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong):
			return fmt.Errorf("%w: entry %d: %w", ErrLayer, im.spent.entries+1, err)
		case err != nil:
			return fmt.Errorf("read entry %d: %w", im.spent.entries+1, err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := im.spent.entry(); err != nil {
			return err
		}
		if err := im.entry(h); err != nil {
			return fmt.Errorf("entry %q: %w", clip(h.Name), err)
		}
	}
}

func (im *importer) entry(h *tar.Header) error {
	path, err := splitPath(h.Name)
	if err != nil {
		return err
	}
	if err := im.spent.meta(len(h.Name)); err != nil {
		return err
	}
	if path, err = im.resolve(path); err != nil {
		return err
	}
	if done, err := im.whiteout(path); done || err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		return im.hardLink(path, h)
	}
	n, err := im.node(h)
	if err != nil {
		return err
	}
	return im.place(path, n)
}

// node makes the node of any entry but a hard link.
func (im *importer) node(h *tar.Header) (*tree.Inode, error) {
	var n *tree.Inode
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		file, err := im.content(h)
		if err != nil {
			return nil, err
		}
		n = file
	case tar.TypeDir:
		n = tree.NewDir(0)
	case tar.TypeSymlink:
		if err := checkTarget(h.Linkname); err != nil {
			return nil, err
		}
		if err := im.spent.meta(len(h.Linkname)); err != nil {
			return nil, err
		}
		n = tree.NewSymlink(strings.Clone(h.Linkname))
	case tar.TypeChar, tar.TypeBlock:
		if h.Devmajor < 0 || h.Devmajor > maxMajor || h.Devminor < 0 || h.Devminor > maxMinor {
			return nil, fmt.Errorf("%w: no such device number: %d:%d", ErrLayer, h.Devmajor, h.Devminor)
		}
		mode := uint32(unix.S_IFCHR)
		if h.Typeflag == tar.TypeBlock {
			mode = unix.S_IFBLK
		}
		n = tree.NewSpecial(mode, tree.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	case tar.TypeFifo:
		n = tree.NewSpecial(unix.S_IFIFO, 0)
	default:
		return nil, fmt.Errorf("%w: entries of type %q are no files", ErrLayer, h.Typeflag)
	}
	return n, im.metadata(n, h)
}

// file reads the content of a regular file.
func (im *importer) file(size int64) (*tree.Inode, error) {
	if err := im.spent.file(size); err != nil {
		return nil, err
	}
	if size <= tree.InlineMax {
		if err := im.spent.meta(int(size)); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(im.tar, im.small[:size]); err != nil {
			return nil, fmt.Errorf("read content: %w", err)
		}
		return tree.NewInline(0, im.small[:size]), nil
	}
	content := &counted{r: im.tar}
	digest, err := im.objects.Put(im.ctx, content, size)
	if content.err != nil {
		return nil, fmt.Errorf("read content: %w", content.err)
	}
	if err != nil {
		return nil, fmt.Errorf("write object: %w", err)
	}
	if content.n != size {
		return nil, fmt.Errorf("write object: %d of %d bytes were taken", content.n, size)
	}
	return tree.NewFile(0, size, digest), nil
}

// metadata gives n the metadata of an entry.
func (im *importer) metadata(n *tree.Inode, h *tar.Header) error {
	uid, gid := int64(h.Uid), int64(h.Gid)
	if uid < 0 || uid >= math.MaxUint32 || gid < 0 || gid >= math.MaxUint32 {
		return fmt.Errorf("%w: no such owner: %d:%d", ErrLayer, uid, gid)
	}
	n.UID, n.GID = uint32(uid), uint32(gid)
	n.Mtime = h.ModTime.Unix() // the floor: nanoseconds are never negative
	if !n.IsSymlink() {        // whose mode is always 0777 on Linux
		n.Mode = n.Mode&unix.S_IFMT | uint32(h.Mode&0o7777)
	}
	return im.xattrs(n, h)
}

// paxXattr begins the PAX keywords of extended attributes.
const paxXattr = "SCHILY.xattr."

func (im *importer) xattrs(n *tree.Inode, h *tar.Header) error {
	total := 0
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok {
			continue
		}
		if name == "" || len(name) > xattrNameMax || strings.IndexByte(name, 0) >= 0 || len(value) > xattrMax {
			return fmt.Errorf("%w: extended attribute %q of %d bytes", ErrLayer, clip(name), len(value))
		}
		if total += len(name) + len(value); total > xattrsMax {
			return fmt.Errorf("%w: more than %d bytes of extended attributes", ErrLayer, xattrsMax)
		}
		n.SetXattr(strings.Clone(name), strings.Clone(value))
	}
	return im.spent.meta(total)
}

// counted counts what is read from r and remembers what went wrong there, so
// that errors of the layer are told from those of the object store.
type counted struct {
	r   io.Reader
	n   int64
	err error
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// drain reads r to its end.
func drain(ctx context.Context, r io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch _, err := r.Read(buf); {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}
