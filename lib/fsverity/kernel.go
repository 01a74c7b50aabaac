package fsverity

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

var (
	// ErrNotSupported says that the file system, its settings (ext4 without the verity
	// feature) or the kernel do not support fs-verity.
	ErrNotSupported = errors.New("fs-verity is not supported here")
	// ErrNotEnabled says that fs-verity is not enabled for the file.
	ErrNotEnabled = errors.New("fs-verity is not enabled on the file")
)

// enableArg is struct fsverity_enable_arg.
type enableArg struct {
	version       uint32
	hashAlgorithm uint32
	blockSize     uint32
	saltSize      uint32
	saltPtr       uint64
	sigSize       uint32
	_             uint32
	sigPtr        uint64
	_             [11]uint64
}

// measureArg is struct fsverity_digest with room for a SHA-256 digest.
type measureArg struct {
	algorithm uint16
	size      uint16
	digest    Digest
}

// Enable enables fs-verity for f, for good: from then on its content cannot change, and
// the kernel checks every read. f must be open read-only and no other process may have
// it open for writing (ETXTBSY). Enabling a file twice is no error. The kernel reads
// the whole file and writes the Merkle tree to the disk before Enable returns; a power
// cut in the middle leaves an ordinary file.
func Enable(f *os.File) error {
	arg := enableArg{version: 1, hashAlgorithm: unix.FS_VERITY_HASH_ALG_SHA256, blockSize: BlockSize}
	err := ioctl(f, unix.FS_IOC_ENABLE_VERITY, unsafe.Pointer(&arg))
	if err == nil || errors.Is(err, unix.EEXIST) {
		return nil
	}
	return fmt.Errorf("enable fs-verity on %s: %w", f.Name(), translate(err))
}

// Measure returns the digest that the kernel enforces for f. It reads no content.
// Errors: ErrNotEnabled, ErrNotSupported; a file enabled with another hash algorithm is
// an error, too.
func Measure(f *os.File) (Digest, error) {
	arg := measureArg{size: Size}
	if err := ioctl(f, unix.FS_IOC_MEASURE_VERITY, unsafe.Pointer(&arg)); err != nil {
		return Digest{}, fmt.Errorf("measure fs-verity of %s: %w", f.Name(), translate(err))
	}
	if arg.algorithm != unix.FS_VERITY_HASH_ALG_SHA256 || arg.size != Size {
		return Digest{}, fmt.Errorf("measure fs-verity of %s: hash algorithm %d, want SHA-256", f.Name(), arg.algorithm)
	}
	return arg.digest, nil
}

// ioctl runs one request on f, and repeats it if a signal interrupts it.
func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno unix.Errno
	err = conn.Control(func(fd uintptr) {
		for {
			_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(arg))
			if errno != unix.EINTR {
				return
			}
		}
	})
	runtime.KeepAlive(f)
	if err != nil {
		return err
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// translate wraps the kernel's error in the sentinel error on which callers decide.
func translate(err error) error {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTTY):
		return fmt.Errorf("%w (%w)", ErrNotSupported, err)
	case errors.Is(err, unix.ENODATA):
		return fmt.Errorf("%w (%w)", ErrNotEnabled, err)
	}
	return err
}
