// Package bls reads, orders and publishes boot loader entries: Type #1 of the
// UAPI Boot Loader Specification (https://uapi-group.org/specifications/specs/boot_loader_specification/)
// with the counters of Automatic Boot Assessment
// (https://systemd.io/AUTOMATIC_BOOT_ASSESSMENT/).
package bls

import (
	"fmt"
	"strconv"
	"strings"
)

// Name is the parsed file name of an entry: <Base>[+Left[-Done]].conf.
type Name struct {
	Base    string // the entry's id without suffix and counters
	Counted bool   // whether the name carries counters
	Left    int    // tries left
	Done    int    // tries done
}

// maxName is the longest file name that the specification allows, in bytes.
const maxName = 255

// ParseName parses the file name of an entry. Names that the specification
// forbids are errors. A "+" that is not followed by counters belongs to the
// base name, as it does for systemd-boot.
func ParseName(file string) (Name, error) {
	if len(file) > maxName || strings.Trim(file, nameChars) != "" {
		return Name{}, fmt.Errorf("entry name %q: not of the form [A-Za-z0-9+_.-], at most %d bytes", file, maxName)
	}
	cut := len(file) - len(suffix)
	if cut <= 0 || !strings.EqualFold(file[cut:], suffix) {
		return Name{}, fmt.Errorf("entry name %q: does not end in %s", file, suffix)
	}
	base := file[:cut]
	plus := strings.LastIndexByte(base, '+')
	if plus <= 0 {
		return Name{Base: base}, nil
	}
	left, done, hasDone := strings.Cut(base[plus+1:], "-")
	n := Name{Base: base[:plus], Counted: true}
	var ok bool
	if n.Left, ok = counter(left); !ok {
		return Name{Base: base}, nil
	}
	if n.Done, ok = counter(done); hasDone && !ok {
		return Name{Base: base}, nil
	}
	return n, nil
}

const (
	suffix    = ".conf"
	nameChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+_.-"
)

// counter parses a counter: digits only. systemd-boot saturates large values;
// nine digits are enough for everyone.
func counter(s string) (int, bool) {
	if s == "" || len(s) > 9 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// String returns the file name.
func (n Name) String() string {
	switch {
	case n.Counted && n.Done > 0:
		return fmt.Sprintf("%s+%d-%d%s", n.Base, n.Left, n.Done, suffix)
	case n.Counted:
		return fmt.Sprintf("%s+%d%s", n.Base, n.Left, suffix)
	}
	return n.Base + suffix
}

// State is what the counters in its name say about an entry.
type State string

const (
	Good    State = "good"    // no counters: blessed, or never counted
	Pending State = "pending" // tries are left, no verdict yet
	Bad     State = "bad"     // no tries are left
)

// State returns the state that the counters stand for.
func (n Name) State() State {
	switch {
	case !n.Counted:
		return Good
	case n.Left > 0:
		return Pending
	}
	return Bad
}

// BaseOf returns the base name of an entry id as boot loaders report it: with
// or without .conf, with counters (systemd-boot up to 257) or without.
func BaseOf(id string) string {
	if !strings.HasSuffix(strings.ToLower(id), suffix) {
		id += suffix
	}
	n, err := ParseName(id)
	if err != nil {
		return strings.TrimSuffix(id, suffix)
	}
	return n.Base
}
