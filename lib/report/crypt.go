package report

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Verdict says whether something opens, as far as is known.
type Verdict string

const (
	Yes     Verdict = "yes"
	No      Verdict = "no"
	Unknown Verdict = "unknown"
)

// Kind is what a key slot's secret comes from.
type Kind string

const (
	TPM2       Kind = "tpm2"         // sealed by the TPM
	Tang       Kind = "tang"         // bound to the network by clevis
	Recovery   Kind = "recovery-key" // a generated key that somebody keeps
	Passphrase Kind = "passphrase"   // a passphrase that somebody types
	Other      Kind = "other"        // a token that is not known here
	// Orphan is a slot without a token whose key nobody could have typed: an
	// enrolment that was cut off left it.
	Orphan Kind = "orphan"
)

// Crypt is the object that kairos-crypt status prints.
type Crypt struct {
	Staged  string   `json:"staged"` // id of the deployment that boots next, "" when it is the one that runs
	Volumes []Volume `json:"volumes"`
	// Foreign are the partitions on which something else lies than the encrypted
	// volume that belongs to the node.
	Foreign []Foreign `json:"foreign"`
}

// Foreign is a partition that does not hold what belongs there.
type Foreign struct {
	Label    string `json:"label"`           // of the partition
	Device   string `json:"device"`          // "" where there is no such partition
	Expected string `json:"expected"`        // volume that belongs there, as kairos.crypt names it
	Found    string `json:"found,omitempty"` // the one that is there, "" for none
}

// Volume is one encrypted volume.
type Volume struct {
	Device      string  `json:"device"`
	Label       string  `json:"label"`
	UUID        string  `json:"uuid"`
	Damaged     string  `json:"damaged,omitempty"` // why one copy of the header can't be used
	Conversion  bool    `json:"conversion"`        // it is being encrypted in place
	RecoveryKey bool    `json:"recovery_key"`      // there is one
	Now         Verdict `json:"unlocks_now"`       // without anybody's help
	AfterReboot Verdict `json:"unlocks_after_reboot"`
	LastUnlock  *Unlock `json:"last_unlock,omitempty"` // since the machine was started
	Slots       []Slot  `json:"slots"`
}

// Slot is one key slot.
type Slot struct {
	Slot        int     `json:"slot"`
	Kind        Kind    `json:"kind"`
	Policy      *Policy `json:"policy,omitempty"` // of a TPM slot
	URL         string  `json:"url,omitempty"`    // of a tang server
	Asks        bool    `json:"asks"`             // somebody has to type something
	Now         Verdict `json:"opens_now"`        // given the right answer
	WhyNot      string  `json:"why_not,omitempty"`
	AfterReboot Verdict `json:"opens_after_reboot"`
	WhyNotAfter string  `json:"why_not_after,omitempty"`
}

// Policy is what a TPM slot is bound to.
type Policy struct {
	PCRs          []int  `json:"pcrs"`
	PublicKeyPCRs []int  `json:"public_key_pcrs"`
	PublicKey     string `json:"public_key,omitempty"` // its fingerprint, hex
	Bank          string `json:"bank,omitempty"`
	PIN           bool   `json:"pin"`
	Text          string `json:"-"`
}

// Enrolled is the result of enroll and rotate.
type Enrolled struct {
	Device      string `json:"device"`
	Slot        int    `json:"slot"`
	Kind        Kind   `json:"kind"`
	RecoveryKey string `json:"recovery_key,omitempty"` // shown once
	Removed     *int   `json:"removed,omitempty"`      // the slot that was rotated
}

// Opened is the result of unlock --check.
type Opened struct {
	Device string `json:"device"`
	Slot   int    `json:"slot"`
	Kind   Kind   `json:"kind"`
}

// Wiped is the result of wipe-slot.
type Wiped struct {
	Device  string `json:"device"`
	Removed []int  `json:"removed"` // numbers of the slots
}

// Unlock is how an unlock ended.
type Unlock struct {
	UUID  string    `json:"uuid"` // of the volume
	Name  string    `json:"name"` // of the mapping
	Time  time.Time `json:"time"`
	Slot  int       `json:"slot"` // which opened it, -1 where none did
	Kind  Kind      `json:"kind,omitempty"`
	Error string    `json:"error,omitempty"`
	// OfDeployment says that the deployment is why it stayed locked, as far as is
	// known: nothing has changed but what comes with one.
	OfDeployment bool `json:"of_deployment,omitempty"`
}

// UnlockDir is where the ends of unlocks are kept until the machine is turned
// off, for root alone: one file for each device. They come from the initrd too.
const UnlockDir = Dir + "/crypt/unlocks"

// unlockFile is the file of a device.
func unlockFile(device string) string { return filepath.Base(device) + ".json" }

// Write keeps how the unlock of a device ended.
func (u Unlock) Write(directory, device string) error {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(directory)
	if err != nil {
		return err
	}
	defer root.Close()
	return Write(root, unlockFile(device), u, 0o600)
}

// ReadUnlock returns how the last unlock of a device ended, nil where nobody
// has tried.
func ReadUnlock(directory, device string) (*Unlock, error) {
	u, err := Read[Unlock](directory, unlockFile(device))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &u, nil
}
