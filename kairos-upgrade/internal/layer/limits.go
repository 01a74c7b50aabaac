package layer

import (
	"errors"
	"fmt"
	"io"
)

// Limits bound what one layer may cost. A field that is 0 has the value of
// DefaultLimits.
type Limits struct {
	// Entries is the number of entries in the tar stream.
	Entries int
	// Metadata is the sum in bytes of names, link targets, inline contents and
	// extended attributes: what a layer takes in memory.
	Metadata int64
	// Content is the sum in bytes of the sizes of all files, holes included.
	Content int64
	// Stream is the length in bytes of the uncompressed tar stream.
	Stream int64
}

// DefaultLimits are far above the sizes of operating system images.
var DefaultLimits = Limits{
	Entries:  1_000_000,
	Metadata: 128 << 20,
	Content:  64 << 30,
	Stream:   65 << 30,
}

// WithDefaults returns the limits with every 0 filled in.
func (l Limits) WithDefaults() Limits {
	if l.Entries == 0 {
		l.Entries = DefaultLimits.Entries
	}
	if l.Metadata == 0 {
		l.Metadata = DefaultLimits.Metadata
	}
	if l.Content == 0 {
		l.Content = DefaultLimits.Content
	}
	if l.Stream == 0 {
		l.Stream = DefaultLimits.Stream
	}
	return l
}

// Sizes in bytes that Linux sets to single values.
const (
	pathMax      = 4095  // PATH_MAX without the NUL
	xattrNameMax = 255   // XATTR_NAME_MAX
	xattrMax     = 65536 // XATTR_SIZE_MAX, for the value
	xattrsMax    = 65536 // of all names and values of one file: XATTR_LIST_MAX
	maxMajor     = 1<<12 - 1
	maxMinor     = 1<<20 - 1
)

var (
	// ErrLimit says that a layer exceeds its Limits.
	ErrLimit = errors.New("layer exceeds a limit")
	// ErrLayer says that a layer has entries that can't be, or must not be, unpacked.
	ErrLayer = errors.New("invalid layer")
)

// spent counts what a layer has cost so far.
type spent struct {
	limits   Limits
	entries  int
	metadata int64
	content  int64
}

func (s *spent) entry() error {
	if s.entries++; s.entries > s.limits.Entries {
		return fmt.Errorf("%w: more than %d entries", ErrLimit, s.limits.Entries)
	}
	return nil
}

func (s *spent) meta(n int) error {
	if s.metadata += int64(n); s.metadata > s.limits.Metadata {
		return fmt.Errorf("%w: more than %d bytes of names and metadata", ErrLimit, s.limits.Metadata)
	}
	return nil
}

func (s *spent) file(size int64) error {
	if size < 0 {
		return fmt.Errorf("%w: negative size", ErrLayer)
	}
	if size > s.limits.Content-s.content {
		return fmt.Errorf("%w: more than %d bytes of content", ErrLimit, s.limits.Content)
	}
	s.content += size
	return nil
}

// limitedStream fails with ErrLimit, not io.EOF, behind its last byte.
type limitedStream struct {
	r     io.Reader
	left  int64
	whole bool // r has ended, and by io.EOF
}

func (s *limitedStream) Read(p []byte) (int, error) {
	if s.left < 0 {
		return 0, fmt.Errorf("%w: the tar stream is too long", ErrLimit)
	}
	if int64(len(p)) > s.left+1 {
		p = p[:s.left+1]
	}
	n, err := s.r.Read(p)
	if s.left -= int64(n); s.left < 0 {
		return n, fmt.Errorf("%w: the tar stream is too long", ErrLimit)
	}
	s.whole = err == io.EOF
	return n, err
}
