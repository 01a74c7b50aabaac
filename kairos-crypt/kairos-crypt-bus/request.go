package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/config"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/run"

	volumes "github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
)

// maxTransaction is how long kairos-crypt may take, including a server on the network
// and a caller who does not write to a file descriptor.
const maxTransaction = 5 * time.Minute

// request is one run of kairos-crypt.
type request struct {
	operation string
	args      []string
	files     []*os.File // of the caller: descriptors 3, 4, …
}

// newRequest returns a request for a command with its fixed options.
func newRequest(command ...string) *request {
	return &request{operation: command[0], args: append(command, "--quiet")}
}

func (r *request) close() {
	for _, f := range r.files {
		f.Close()
	}
}

// option adds an option with a value, unless the value is empty. The value can't be
// mistaken for an option.
func (r *request) option(name, value string) {
	if value != "" {
		r.args = append(r.args, "--"+name+"="+value)
	}
}

// files are the file descriptors of a call, by the options of kairos-crypt that they
// become.
type files map[string]**os.File

// newFiles returns files for the options of a method that take a descriptor.
func newFiles(known bus.Options, names map[string]string) files {
	f := files{}
	for name, option := range names {
		target := new(*os.File)
		known[name], f[option] = target, target
	}
	return f
}

// pass passes the given descriptors to kairos-crypt, which inherits them: it can read
// and write only what the caller could.
func (r *request) pass(f files) {
	for option, file := range f {
		if *file != nil {
			r.option(option, "fd:"+strconv.Itoa(3+len(r.files)))
			r.files = append(r.files, *file)
		}
	}
}

// decode decodes the options of a method. After an error all descriptors are closed.
func (r *request) decode(given options, known bus.Options, f files) error {
	err := known.Decode(given)
	r.pass(f)
	if err != nil {
		r.close()
	}
	return err
}

// thumbprint matches the thumbprint of a key, RFC 7638, in base64url.
var thumbprint = regexp.MustCompile(`^[A-Za-z0-9_-]{27,86}$`)

// checkSlot returns an error unless the text is a number or a kind of a key slot.
func checkSlot(name string) error {
	if slices.Contains(append(slices.Clone(volumes.Kinds), volumes.Orphan, volumes.Other), volumes.Kind(name)) {
		return nil
	}
	if n, err := strconv.Atoi(name); err != nil || strconv.Itoa(n) != name || n < 0 || n >= luks.MaxSlots {
		return exit.Usagef("%.64q is neither a key slot's number nor a kind", name)
	}
	return nil
}

// checkPCRs returns an error unless the text is a list of PCRs.
func checkPCRs(list string) error {
	if _, err := config.PCRs(list); err != nil {
		return exit.WithCode(err, exit.Usage)
	}
	return nil
}

// run executes kairos-crypt and returns its stdout.
func (r *request) run(ctx context.Context) ([]byte, error) {
	out, err := run.Runner{Files: r.files}.Output(ctx, append([]string{"kairos-crypt"}, r.args...)...)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("kairos-crypt took more than %s: %w", maxTransaction, err)
	}
	return out, err
}

// decode decodes the output of kairos-crypt.
func decode(out []byte, result any) error {
	if err := json.Unmarshal(out, result); err != nil {
		return fmt.Errorf("read the output of kairos-crypt: %w", err)
	}
	return nil
}
