// Package image opens a composefs image, verifies its digest, and mounts it: an EROFS
// file system with the metadata of all files, below an overlay that takes their
// contents from the objects of a store.
//
// The format is that of composefs 1.0.8: a regular file in the image redirects to an
// object by name and has the object's fs-verity digest, which overlayfs enforces with
// verity=require (Documentation/filesystems/overlayfs.rst, "fs-verity support").
package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"github.com/kairos-io/toolkit/lib/mount"

	"github.com/kairos-io/toolkit/kairos-root/internal/loop"
)

// Dir is the directory of the images in a store, Objects that of file contents.
const (
	Dir     = "images"
	Objects = "objects"
)

// Header of a composefs image, before the EROFS superblock: magic, version and
// flags, little endian.
const (
	magic   = 0xd078629a
	hasACLs = 1 << 0
)

// ErrDigest says that an image has another digest than the requested one.
var ErrDigest = errors.New("digest does not match")

// Image is an open image whose digest was verified.
type Image struct {
	file *os.File
	// Verity says that the kernel enforces the digests of the image and of all objects.
	// Otherwise the image was only read and hashed once.
	Verity bool
	acls   bool
}

// Open opens the image with a digest, 64 hex digits, in a store, and verifies it: by
// the digest that fs-verity enforces or, without verity, by reading the file. Nothing
// is mounted before that.
func Open(store *os.Root, digest string, verity bool) (*Image, error) {
	want, err := fsverity.Parse(digest)
	if err != nil {
		return nil, err
	}
	f, err := store.Open(path.Join(Dir, digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, exit.Hint(fmt.Errorf("image %s is not in the store: %w", digest, err),
			"choose another entry in the boot menu, and run kairos-upgrade verify to list what else is missing")
	}
	if err != nil {
		return nil, fmt.Errorf("open image %s: %w", digest, err)
	}
	im := &Image{file: f, Verity: verity}
	if err := errors.Join(im.check(want), im.readHeader()); err != nil {
		f.Close()
		return nil, err
	}
	return im, nil
}

// Close closes the file. Mounts of the image remain.
func (im *Image) Close() error { return im.file.Close() }

func (im *Image) check(want fsverity.Digest) error {
	got, err := im.digest()
	switch {
	case errors.Is(err, fsverity.ErrNotSupported), errors.Is(err, fsverity.ErrNotEnabled):
		return exit.Hint(fmt.Errorf("image %s: %w", want, err),
			"the store or the kernel lacks fs-verity; kairos.image=?sha256:… boots without its protection")
	case err != nil:
		return fmt.Errorf("image %s: %w", want, err)
	case got != want:
		return exit.Hint(fmt.Errorf("image %s: %w: the file has %s", want, ErrDigest, got),
			"the store is damaged or was tampered with; choose another entry in the boot menu, or reinstall")
	}
	return nil
}

func (im *Image) digest() (fsverity.Digest, error) {
	if im.Verity {
		return fsverity.Measure(im.file)
	}
	got, _, err := fsverity.File(im.file)
	return got, err
}

func (im *Image) readHeader() error {
	header := make([]byte, 12)
	if _, err := im.file.ReadAt(header, 0); err != nil {
		return fmt.Errorf("read header of image: %w", err)
	}
	if got := binary.LittleEndian.Uint32(header); got != magic {
		return fmt.Errorf("read header of image: magic %#x, want %#x: not a composefs image", got, magic)
	}
	im.acls = binary.LittleEndian.Uint32(header[8:])&hasACLs != 0
	return nil
}

// Create creates the file system of the image's metadata: from the file itself or, on
// kernels before 6.12, through a loop device.
func (im *Image) Create() (*mount.Tree, error) {
	t, err := im.create(fmt.Sprintf("/proc/self/fd/%d", im.file.Fd()))
	if errors.Is(err, unix.ENOTBLK) {
		device, lerr := loop.Attach(im.file, 4096, 0, 0)
		if lerr != nil {
			return nil, lerr
		}
		// The loop device detaches itself once nobody uses it.
		defer device.Close()
		t, err = im.create(device.Name())
	}
	return t, err
}

func (im *Image) create(source string) (*mount.Tree, error) {
	options := []mount.Option{{Key: "source", Value: source}, {Key: "ro"}}
	if !im.acls {
		// Spares a lookup of attributes that no file has, on every access.
		options = append(options, mount.Option{Key: "noacl"})
	}
	return mount.FileSystem{
		Type: "erofs", Options: options, Attr: mount.ReadOnly | mount.NoDev | mount.NoSuid,
	}.Create()
}
