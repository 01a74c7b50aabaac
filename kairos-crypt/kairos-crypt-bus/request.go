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

// maxTransaction is how long kairos-crypt may take, a server on the network and
// a caller who does not write what a file descriptor promises included.
const maxTransaction = 5 * time.Minute

// request is one run of kairos-crypt.
type request struct {
	operation string
	args      []string
	files     []*os.File // of the caller: descriptors 3, 4, …
}

// newRequest begins a request with a command, and its options that are always
// given.
func newRequest(command ...string) *request {
	return &request{operation: command[0], args: append(command, "--quiet")}
}

func (r *request) close() {
	for _, f := range r.files {
		f.Close()
	}
}

// option adds an option with a value, unless that is empty. The value can't be
// taken for an option.
func (r *request) option(name, value string) {
	if value != "" {
		r.args = append(r.args, "--"+name+"="+value)
	}
}

// files are the file descriptors of a call by the options of kairos-crypt that
// they become.
type files map[string]**os.File

// newFiles is for the options of a method: each name takes a descriptor.
func newFiles(known bus.Options, names map[string]string) files {
	f := files{}
	for name, option := range names {
		target := new(*os.File)
		known[name], f[option] = target, target
	}
	return f
}

// pass hands the descriptors that were given to kairos-crypt, which inherits
// them: it reads, and writes, just what the caller could have.
func (r *request) pass(f files) {
	for option, file := range f {
		if *file != nil {
			r.option(option, "fd:"+strconv.Itoa(3+len(r.files)))
			r.files = append(r.files, *file)
		}
	}
}

// decode reads the options of a method. After an error nothing is left open.
func (r *request) decode(given options, known bus.Options, f files) error {
	err := known.Decode(given)
	r.pass(f)
	if err != nil {
		r.close()
	}
	return err
}

// thumbprint is that of a key as of RFC 7638, in base64url.
var thumbprint = regexp.MustCompile(`^[A-Za-z0-9_-]{27,86}$`)

// checkSlot refuses what names no key slot: a number, or a kind.
func checkSlot(name string) error {
	if slices.Contains(append(slices.Clone(volumes.Kinds), volumes.Orphan, volumes.Other), volumes.Kind(name)) {
		return nil
	}
	if n, err := strconv.Atoi(name); err != nil || strconv.Itoa(n) != name || n < 0 || n >= luks.MaxSlots {
		return exit.Usagef("%.64q is neither a key slot's number nor a kind", name)
	}
	return nil
}

// checkPCRs refuses what is no list of PCRs.
func checkPCRs(list string) error {
	if _, err := config.PCRs(list); err != nil {
		return exit.WithCode(err, exit.Usage)
	}
	return nil
}

// run runs kairos-crypt and returns what it prints.
func (r *request) run(ctx context.Context) ([]byte, error) {
	out, err := run.Runner{Files: r.files}.Output(ctx, append([]string{"kairos-crypt"}, r.args...)...)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("kairos-crypt took more than %s: %w", maxTransaction, err)
	}
	return out, err
}

// decode reads what kairos-crypt printed.
func decode(out []byte, result any) error {
	if err := json.Unmarshal(out, result); err != nil {
		return fmt.Errorf("read what kairos-crypt says: %w", err)
	}
	return nil
}
