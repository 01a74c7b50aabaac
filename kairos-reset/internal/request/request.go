// Package request keeps what somebody asked of a reset, and how far it is, on
// the EFI system partition.
//
// Two files make a reset. kairos/reset.json says what is wanted and which phases
// are done. The boot entry kairos-reset.conf boots the recovery system with
// the argument kairos.reset and sorts before every deployment. Its publication
// is the one step that arms, its removal the one step that ends or cancels. It
// counts its boots until a recovery system has come up by it: one that doesn't
// boot leads back to the deployment that was there. From then on, as long as it
// is there, every boot goes on with the reset, and it takes no EFI variable to
// make it so.
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
	// file is where the request is on the ESP.
	file = "kairos/reset.json"
	// maxSize bounds it, in bytes.
	maxSize = 64 << 10
	// recoveryBase is that of the recovery system.
	recoveryBase = "kairos-recovery"
	// sortKey sorts before "kairos", and before what others use.
	sortKey = "00-kairos-reset"
	// tries is how often the recovery system may fail to come up.
	tries = 3
	// Argument of the kernel says that this boot is for the reset.
	Argument = "kairos.reset"
)

// Phase is a part of a reset that is done or not, in the order of Phases.
type Phase string

// Phases of a reset, in order.
const (
	Before Phase = "before" // the stage before-reset has been run
	Erase  Phase = "erase"  // nothing old boots, keys and file systems are gone
	Format Phase = "format" // new, empty file systems
	Clear  Phase = "clear"  // the config is cleared; only if asked
	Stage  Phase = "stage"  // the image has been laid down
	After  Phase = "after"  // the stage after-reset has been run
)

var phases = []Phase{Before, Erase, Format, Clear, Stage, After}

// Phases returns all phases in their order.
func Phases() []Phase { return slices.Clone(phases) }

// Request is what a reset shall do, and how far it is.
type Request struct {
	OEM            bool   `json:"oem"`                       // clear the node's config too
	KeepPersistent bool   `json:"keep_persistent,omitempty"` // leave COS_PERSISTENT, with its keys, as it is
	PowerOff       bool   `json:"poweroff,omitempty"`        // when it is done, instead of a reboot
	Image          string `json:"image,omitempty"`           // "": the recovery's own
	Done           Phase  `json:"done,omitempty"`            // last phase that is done, "" for none
	// Encrypted is what opens the new COS_PERSISTENT beside its recovery key,
	// "tpm2" or "none", and "" where it is not encrypted. Found out before it is
	// erased.
	Encrypted string `json:"encrypted,omitempty"`
}

// Has reports whether a phase is done.
func (r Request) Has(p Phase) bool {
	return slices.Index(phases, r.Done) >= slices.Index(phases, p)
}

// Begun reports whether the node was changed already: then there is no way
// back but to go on.
func (r Request) Begun() bool { return r.Done != "" }

// Parse reads a request. It lies on a partition without checksums or owners.
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

// CheckImage refuses what can be no image source: it becomes an argument of
// kairos-upgrade.
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

// Write makes a request durable.
func (e ESP) Write(r Request) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := e.Root.MkdirAll("kairos", 0o755); err != nil {
		return fmt.Errorf("write reset request: %w", err)
	}
	if err := atomicfile.Write(e.Root, file, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write reset request: %w", err)
	}
	return nil
}

// Recovery returns the boot entry of the recovery system, and checks that every
// file it names is there.
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

// Arm makes every boot from now on one that resets the node. It refuses to
// change a reset that has begun.
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

// Hold is for the recovery system that has come up: the entry counts no more.
func (e ESP) Hold() error { return bls.ESP{Root: e.Root}.Count(bls.Name{Base: deployment.ResetEntry}) }

// Exhausted reports whether the reset is armed and no recovery system came up
// in any of its tries.
func (e ESP) Exhausted() (bool, error) {
	entry, armed, err := e.entry(deployment.ResetEntry)
	return armed && entry.Name.State() == bls.Bad, err
}

// Finish ends or cancels a reset: the entry goes first.
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
