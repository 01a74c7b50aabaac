package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/lock"
)

// takeLock excludes other installations on this machine until the process ends or
// unlock is called. The lock file has the process id of its holder.
func takeLock(ctx context.Context, file string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, fmt.Errorf("take the lock: %w", err)
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("take the lock: %w", err)
	}
	err = lock.Take(ctx, f, func() error {
		holder, _ := io.ReadAll(io.NewSectionReader(f, 0, 32))
		return fmt.Errorf("another installation is running: process %s", strings.TrimSpace(string(holder)))
	})
	if exit.Code(err) == exit.Busy {
		f.Close()
		return nil, err
	}
	if err == nil {
		err = errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintf("%d\n", os.Getpid())))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("take the lock %s: %w", file, err)
	}
	return func() { f.Close() }, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}
