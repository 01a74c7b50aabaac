package initrd

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/lib/exit"
)

// failureFile has the error and its hint, for the unit that shows it to the operator.
const failureFile = "kairos/failure"

// NoteFailure records why the root cannot be mounted.
func NoteFailure(run string, err error) error {
	text := err.Error() + "\n"
	if hint := exit.HintOf(err); hint != "" {
		text += "hint: " + hint + "\n"
	}
	file := filepath.Join(run, failureFile)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(text), 0o644)
}

// ForgetFailure removes the record of NoteFailure.
func ForgetFailure(run string) error {
	err := os.Remove(filepath.Join(run, failureFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ReadFailure returns the record of NoteFailure, "" when there is none.
func ReadFailure(run string) (string, error) {
	text, err := os.ReadFile(filepath.Join(run, failureFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(text)), err
}
