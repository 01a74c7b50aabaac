// Package request stores the request for a reset and its progress on the EFI system
// partition.
//
// A reset consists of two files. kairos/reset.json has the options and the finished
// phases. The boot entry kairos-reset.conf boots the recovery system with the argument
// kairos.reset and sorts before every deployment. Its publication arms the reset; its
// removal ends or cancels it. Its boots are counted until a recovery system has come
// up: if none does, the old deployment boots again. From then on, every boot continues
// the reset until the entry is removed. No EFI variable is needed.
package request

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/bounded"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
)

const (
	// file is the path of the request on the ESP.
	file = "kairos/reset.json"
	// maxSize is the maximum size of the request, in bytes.
	maxSize = 64 << 10
	// recoveryBase is the base name of the recovery system's boot entry.
	recoveryBase = "kairos-recovery"
	// sortKey sorts before "kairos", and before the sort keys of common distributions.
	sortKey = "00-kairos-reset"
	// tries is how often the recovery system may fail to come up.
	tries = 3
	// Argument is the kernel argument of a boot for the reset.
	Argument = "kairos.reset"
)

// Phase is a part of a reset; Phases has them in order.
type Phase string

// Phases of a reset, in order.
const (
	Before Phase = "before" // the stage before-reset has run
	Erase  Phase = "erase"  // boot entries, keys and file systems are erased
	Format Phase = "format" // there are new, empty file systems
	Clear  Phase = "clear"  // the config is cleared; only if asked
	Stage  Phase = "stage"  // the image is deployed
	After  Phase = "after"  // the stage after-reset has run
)

var phases = []Phase{Before, Erase, Format, Clear, Stage, After}

// Phases returns all phases in their order.
func Phases() []Phase { return slices.Clone(phases) }

// Request holds the options and the progress of a reset.
type Request struct {
	OEM            bool   `json:"oem"`                       // clear the node's config too
	KeepPersistent bool   `json:"keep_persistent,omitempty"` // leave COS_PERSISTENT, with its keys, as it is
	PowerOff       bool   `json:"poweroff,omitempty"`        // at the end, instead of a reboot
	Image          string `json:"image,omitempty"`           // "": the image of the recovery system
	Done           Phase  `json:"done,omitempty"`            // the last finished phase, "" for none
	// Encrypted is the kind of key slot of the new COS_PERSISTENT beside its recovery
	// key, "tpm2" or "none", and "" where it is not encrypted. It is determined before
	// the volume is erased.
	Encrypted string `json:"encrypted,omitempty"`
}

// Has reports whether a phase is finished.
func (r Request) Has(p Phase) bool {
	return slices.Index(phases, r.Done) >= slices.Index(phases, p)
}

// Begun reports whether the node was changed already: then the reset cannot be
// cancelled.
func (r Request) Begun() bool { return r.Done != "" }

// Parse parses and validates a request, which is stored on a partition without
// checksums or owners.
func Parse(data []byte) (Request, error) {
	var r Request
	if len(data) > maxSize {
		return r, fmt.Errorf("reset request: larger than %d bytes", maxSize)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return Request{}, fmt.Errorf("reset request: %w", err)
	}
	if r.Done != "" && !slices.Contains(phases, r.Done) {
		return Request{}, fmt.Errorf("reset request: unknown phase %q", r.Done)
	}
	if err := CheckImage(r.Image); err != nil {
		return Request{}, fmt.Errorf("reset request: %w", err)
	}
	if !slices.Contains([]string{"", "tpm2", "none"}, r.Encrypted) {
		return Request{}, fmt.Errorf("reset request: encrypted %q: not tpm2 or none", r.Encrypted)
	}
	return r, nil
}

// CheckImage returns an error for a text that is no valid image source: it becomes an
// argument of kairos-upgrade.
func CheckImage(image string) error {
	if strings.HasPrefix(image, "-") || strings.ContainsFunc(image, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("image %q: not an image source", image)
	}
	return nil
}

// ESP is the mounted EFI system partition of a node.
type ESP struct{ Root *os.Root }

// ErrNone is returned when no reset is armed.
var ErrNone = errors.New("no reset is armed")

// Read returns the armed request.
func (e ESP) Read() (Request, error) {
	if _, armed, err := e.entry(deployment.ResetEntry); err != nil || !armed {
		return Request{}, errors.Join(err, none(armed))
	}
	data, err := bounded.In(e.Root, file, maxSize)
	if err != nil {
		return Request{}, fmt.Errorf("read reset request: %w", err)
	}
	return Parse(data)
}

func none(armed bool) error {
	if armed {
		return nil
	}
	return ErrNone
}

// Write stores a request durably.
func (e ESP) Write(r Request) error {
	if err := e.Root.MkdirAll("kairos", 0o755); err != nil {
		return fmt.Errorf("write reset request: %w", err)
	}
	if err := atomicfile.WriteJSON(e.Root, file, r, 0o644); err != nil {
		return fmt.Errorf("write reset request: %w", err)
	}
	return nil
}

// Recovery returns the boot entry of the recovery system, and checks that all its boot
// files exist.
func (e ESP) Recovery() (bls.Entry, error) {
	entry, ok, err := e.entry(recoveryBase)
	if err != nil {
		return entry, err
	}
	if !ok {
		return entry, exit.Hint(errors.New("this node has no recovery system, which is needed for a reset"),
			"kairos-upgrade stage --recovery IMAGE makes one")
	}
	for _, name := range entry.Files() {
		if info, err := e.Root.Stat(name); err != nil {
			return entry, fmt.Errorf("boot entry of the recovery system: %w", err)
		} else if info.Size() == 0 {
			return entry, fmt.Errorf("boot entry of the recovery system: %s is empty", name)
		}
	}
	return entry, nil
}

// Arm publishes the boot entry: every boot from now on resets the node. It returns an
// error if a reset has begun already.
func (e ESP) Arm(r Request) error {
	old, err := e.Read()
	if err == nil && old.Begun() {
		return exit.Hint(errors.New("a reset of this node has already begun"), "reboot to continue it")
	}
	entry, err := e.Recovery()
	if err != nil {
		return err
	}
	// An entry that was armed before may have used up its tries.
	esp := bls.ESP{Root: e.Root}
	if err := esp.Remove(deployment.ResetEntry); err != nil {
		return err
	}
	r.Done = ""
	if err := e.Write(r); err != nil {
		return err
	}
	entry.Name = bls.Name{Base: deployment.ResetEntry, Counted: true, Left: tries}
	entry.Title = "Reset this node"
	entry.SortKey = sortKey
	entry.Options = strings.TrimSpace(entry.Options + " " + Argument)
	return esp.Publish(entry)
}

// Hold removes the counters from the boot entry, once the recovery system has come up.
func (e ESP) Hold() error { return bls.ESP{Root: e.Root}.Count(bls.Name{Base: deployment.ResetEntry}) }

// Exhausted reports whether a reset is armed and the recovery system did not come up in
// any of its tries.
func (e ESP) Exhausted() (bool, error) {
	entry, armed, err := e.entry(deployment.ResetEntry)
	return armed && entry.Name.State() == bls.Bad, err
}

// Finish ends or cancels a reset. It removes the boot entry first.
func (e ESP) Finish() error {
	if err := (bls.ESP{Root: e.Root}).Remove(deployment.ResetEntry); err != nil {
		return err
	}
	if err := atomicfile.Remove(e.Root, file); err != nil {
		return fmt.Errorf("remove reset request: %w", err)
	}
	return nil
}

func (e ESP) entry(base string) (bls.Entry, bool, error) {
	entries, err := bls.ESP{Root: e.Root}.Entries()
	if err != nil {
		return bls.Entry{}, false, err
	}
	i := slices.IndexFunc(entries, func(have bls.Entry) bool { return strings.EqualFold(have.Name.Base, base) })
	if i < 0 {
		return bls.Entry{}, false, nil
	}
	return entries[i], true, nil
}
