package secret

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Memory holds a secret that never reaches swap or a core dump: in memory that even the
// kernel cannot access (memfd_secret(2)), or in locked memory where the kernel doesn't
// support that. The owner wipes it.
type Memory struct {
	mapped []byte
	length int
}

// MaxLength is the maximum length of a secret, in bytes, far above what people type and
// what a TPM seals.
const MaxLength = 4096

// New returns zeroed memory for a secret of length bytes.
func New(length int) (*Memory, error) {
	if length < 0 || length > MaxLength {
		return nil, fmt.Errorf("a secret of %d bytes: at most %d are allowed", length, MaxLength)
	}
	mapped, err := hidden()
	if err != nil {
		mapped, err = locked()
	}
	if err != nil {
		return nil, fmt.Errorf("memory for a secret: %w", err)
	}
	return &Memory{mapped, length}, nil
}

// Take moves a secret into a Memory. It wipes the source, even when there is an error.
func Take(source []byte) (*Memory, error) {
	defer clear(source)
	m, err := New(len(source))
	if err != nil {
		return nil, err
	}
	copy(m.mapped, source)
	return m, nil
}

// Bytes returns the secret, which must not be used after Wipe.
func (m *Memory) Bytes() []byte {
	if m == nil {
		return nil
	}
	return m.mapped[:m.length:m.length]
}

// Wipe erases the secret and frees its memory. It may be called several times, and on a
// nil Memory.
func (m *Memory) Wipe() {
	if m == nil || m.mapped == nil {
		return
	}
	clear(m.mapped)
	_ = unix.Munmap(m.mapped)
	m.mapped, m.length = nil, 0
}

// hidden maps memory that is in no other address space, not even the kernel's. Linux
// supports it since 5.14; some architectures and command lines disable it.
func hidden() ([]byte, error) {
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, MaxLength); err != nil {
		return nil, err
	}
	return unix.Mmap(fd, 0, MaxLength, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// locked maps memory that is neither swapped nor dumped nor inherited.
func locked() ([]byte, error) {
	mapped, err := unix.Mmap(-1, 0, MaxLength, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	if err := unix.Mlock(mapped); err != nil {
		_ = unix.Munmap(mapped)
		return nil, err
	}
	for _, advice := range []int{unix.MADV_DONTDUMP, unix.MADV_DONTFORK} {
		_ = unix.Madvise(mapped, advice)
	}
	return mapped, nil
}
