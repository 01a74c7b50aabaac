// Package luks parses the headers of LUKS2 volumes: key slots and tokens. It follows
// the "LUKS2 On-Disk Format Specification" 1.1.4.
//
// A header is not authenticated: anybody who had the disk may have written it.
// Everything is bounded and validated before use, and nothing here decides that a
// volume is genuine. cryptsetup writes headers; the one exception is Finish, which
// cryptsetup cannot do.
package luks

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrNotLUKS2 says that there is no LUKS2 header, as opposed to a damaged one.
var ErrNotLUKS2 = errors.New("no LUKS2 header")

const (
	binarySize    = 4096     // size of the binary header before the JSON area
	minHeaderSize = 16 << 10 // binary header and JSON area
	maxHeaderSize = 4 << 20
	checksumStart = 448 // offset of the checksum in the binary header
	checksumSize  = 64
)

var (
	magicPrimary   = []byte("LUKS\xba\xbe")
	magicSecondary = []byte("SKUL\xba\xbe")
)

// Header is the parsed header of a volume.
type Header struct {
	UUID      string
	Label     string
	Subsystem string
	Sequence  uint64 // grows with every write
	Metadata  Metadata

	// Damaged is why the other of the two copies can't be used, nil when both are
	// valid. cryptsetup restores it when it next writes the header.
	Damaged error
}

// Read reads the header of a volume: of two valid copies the newer one, otherwise the
// valid one. It returns ErrNotLUKS2 when neither copy exists.
func Read(volume io.ReaderAt) (*Header, error) {
	primary, size, primaryErr := readCopy(volume, 0, magicPrimary)
	var secondary *Header
	var secondaryErr error
	if primaryErr == nil {
		secondary, _, secondaryErr = readCopy(volume, size, magicSecondary)
	} else {
		secondary, secondaryErr = findSecondary(volume)
	}
	switch {
	case primary == nil && secondary == nil:
		if errors.Is(primaryErr, ErrNotLUKS2) && !errors.Is(secondaryErr, ErrNotLUKS2) {
			return nil, secondaryErr
		}
		return nil, primaryErr
	case primary == nil:
		secondary.Damaged = fmt.Errorf("primary header: %w", primaryErr)
		return secondary, nil
	case secondary == nil:
		primary.Damaged = fmt.Errorf("secondary header: %w", secondaryErr)
		return primary, nil
	case primary.UUID != secondary.UUID:
		primary.Damaged = fmt.Errorf("secondary header: it is of another volume, %q", secondary.UUID)
		return primary, nil
	case secondary.Sequence > primary.Sequence:
		return secondary, nil
	}
	return primary, nil
}

// findSecondary searches for the second copy where the first does not give its size: at
// each size that the specification allows.
func findSecondary(volume io.ReaderAt) (*Header, error) {
	result := ErrNotLUKS2
	for offset := int64(minHeaderSize); offset <= maxHeaderSize; offset *= 2 {
		header, size, err := readCopy(volume, offset, magicSecondary)
		switch {
		case err == nil && size == offset:
			return header, nil
		case err != nil && !errors.Is(err, ErrNotLUKS2):
			result = err
		}
	}
	return nil, result
}

// readCopy reads and validates one copy, and returns its size in bytes.
func readCopy(volume io.ReaderAt, offset int64, magic []byte) (*Header, int64, error) {
	head := make([]byte, binarySize)
	if _, err := volume.ReadAt(head, offset); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, 0, ErrNotLUKS2
		}
		return nil, 0, fmt.Errorf("read at %d: %w", offset, err)
	}
	if !bytes.Equal(head[:6], magic) || binary.BigEndian.Uint16(head[6:]) != 2 {
		return nil, 0, ErrNotLUKS2
	}
	size := binary.BigEndian.Uint64(head[8:])
	if size < minHeaderSize || size > maxHeaderSize || size&(size-1) != 0 {
		return nil, 0, fmt.Errorf("header at %d: size %d is not one of the specification", offset, size)
	}
	if at := binary.BigEndian.Uint64(head[256:]); at != uint64(offset) {
		return nil, 0, fmt.Errorf("header at %d: its offset field says %d", offset, at)
	}
	area := make([]byte, size-binarySize)
	if _, err := volume.ReadAt(area, offset+binarySize); err != nil {
		return nil, 0, fmt.Errorf("header at %d: read metadata: %w", offset, err)
	}
	if err := verify(head, area); err != nil {
		return nil, 0, fmt.Errorf("header at %d: %w", offset, err)
	}
	text, _, _ := bytes.Cut(area, []byte{0})
	metadata, err := ParseMetadata(text)
	if err != nil {
		return nil, 0, fmt.Errorf("header at %d: %w", offset, err)
	}
	return &Header{
		UUID:      field(head[168:208]),
		Label:     field(head[24:72]),
		Subsystem: field(head[208:256]),
		Sequence:  binary.BigEndian.Uint64(head[16:]),
		Metadata:  *metadata,
	}, int64(size), nil
}

// verify verifies the checksum.
func verify(head, area []byte) error {
	sum, err := checksum(head, area)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(sum, head[checksumStart:checksumStart+len(sum)]) == 0 {
		return errors.New("checksum does not match")
	}
	return nil
}

// field returns the text of a NUL-padded field, without control characters.
func field(raw []byte) string {
	text, _, _ := bytes.Cut(raw, []byte{0})
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return '?'
		}
		return r
	}, string(text))
}
