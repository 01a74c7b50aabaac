package checks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Tail runs a program like a check, with only PATH in its environment, and returns the
// last lines of its stdout, with the limits and masking of a check's output. The error
// is the program's stderr.
func Tail(ctx context.Context, timeout time.Duration, argv ...string) ([]string, error) {
	lines := newTranscript(func(string) {})
	c := Check{Name: filepath.Base(argv[0]), Timeout: timeout, Do: func(ctx context.Context, _, problem io.Writer) error {
		return execute(ctx, argv, []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}, nil, lines.stdout(), problem)
	}}
	result, err := Run(ctx, c, func(string) {})
	lines.flush()
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	case result.OK():
		return lines.lines(), nil
	case result.Message != "":
		return nil, errors.New(result.Message)
	}
	return nil, fmt.Errorf("%s: %s %s", c.Name, result.State, result.Detail)
}

// LastLines returns the last lines of a text, with the same limits.
func LastLines(r io.Reader) ([]string, error) {
	lines := newTranscript(func(string) {})
	if _, err := io.Copy(lines.stdout(), r); err != nil {
		return nil, err
	}
	lines.flush()
	return lines.lines(), nil
}
