// Package bounded reads untrusted input up to a limit.
package bounded

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kairos-io/toolkit/lib/terminal"
)

// ErrTooLarge says that the input is larger than the limit.
var ErrTooLarge = errors.New("larger than")

// Read reads all of r. Input of more than limit bytes is ErrTooLarge.
func Read(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w %s", ErrTooLarge, terminal.Bytes(limit))
	}
	return data, nil
}

// File reads a file of at most limit bytes.
func File(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	return read(f, err, limit)
}

// In reads a file of at most limit bytes, resolved beneath root.
func In(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.Open(name)
	return read(f, err, limit)
}

func read(f *os.File, err error, limit int64) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := Read(f, limit)
	if errors.Is(err, ErrTooLarge) {
		err = fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return data, err
}
