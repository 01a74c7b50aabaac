package report

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/kairos-io/toolkit/lib/atomicfile"
)

// Verdict says whether a volume or key slot opens, as far as is known.
type Verdict string

const (
	Yes     Verdict = "yes"
	No      Verdict = "no"
	Unknown Verdict = "unknown"
)

// Kind is the source of a key slot's secret.
type Kind string

const (
	TPM2       Kind = "tpm2"         // sealed by the TPM
	Tang       Kind = "tang"         // decrypted with the help of a tang server, by clevis
	Recovery   Kind = "recovery-key" // a generated key that a person keeps
	Passphrase Kind = "passphrase"   // a passphrase that a person types
	Other      Kind = "other"        // an unknown type of token
	// Orphan is a slot without a token whose key nobody could have typed: an
	// interrupted enrollment left it.
	Orphan Kind = "orphan"
)

// Crypt is the object that kairos-crypt status prints.
type Crypt struct {
	Staged  string   `json:"staged"` // id of the deployment that boots next, "" when it is the running one
	Volumes []Volume `json:"volumes"`
	// Foreign are the partitions that hold something else than the node's encrypted
	// volume.
	Foreign []Foreign `json:"foreign"`
}

// Foreign is a partition that does not hold the expected volume.
type Foreign struct {
	Label    string `json:"label"`           // label of the partition
	Device   string `json:"device"`          // "" where the partition doesn't exist
	Expected string `json:"expected"`        // the expected volume, as kairos.crypt names it
	Found    string `json:"found,omitempty"` // the volume on the partition, "" for none
}

// Volume is one encrypted volume.
type Volume struct {
	Device      string  `json:"device"`
	Label       string  `json:"label"`
	UUID        string  `json:"uuid"`
	Damaged     string  `json:"damaged,omitempty"` // why one copy of the header can't be used
	Conversion  bool    `json:"conversion"`        // the volume is being encrypted in place
	RecoveryKey bool    `json:"recovery_key"`      // the volume has a recovery key
	Now         Verdict `json:"unlocks_now"`       // whether the volume opens without a person
	AfterReboot Verdict `json:"unlocks_after_reboot"`
	LastUnlock  *Unlock `json:"last_unlock,omitempty"` // since the machine was switched on
	Slots       []Slot  `json:"slots"`
}

// Slot is one key slot.
type Slot struct {
	Slot        int     `json:"slot"`
	Kind        Kind    `json:"kind"`
	Policy      *Policy `json:"policy,omitempty"` // of a TPM slot
	URL         string  `json:"url,omitempty"`    // of a tang server
	Asks        bool    `json:"asks"`             // a person has to type something
	Now         Verdict `json:"opens_now"`        // whether the slot opens, given the right answer
	WhyNot      string  `json:"why_not,omitempty"`
	AfterReboot Verdict `json:"opens_after_reboot"`
	WhyNotAfter string  `json:"why_not_after,omitempty"`
}

// Policy is the state of the machine to which a TPM slot is bound.
type Policy struct {
	PCRs          []int  `json:"pcrs"`
	PublicKeyPCRs []int  `json:"public_key_pcrs"`
	PublicKey     string `json:"public_key,omitempty"` // fingerprint of the key that signs policies, hex
	Bank          string `json:"bank,omitempty"`
	PIN           bool   `json:"pin"`
	Text          string `json:"-"`
}

// Enrolled is the result of kairos-crypt enroll and rotate.
type Enrolled struct {
	Device      string `json:"device"`
	Slot        int    `json:"slot"`
	Kind        Kind   `json:"kind"`
	RecoveryKey string `json:"recovery_key,omitempty"` // printed this once only
	Removed     *int   `json:"removed,omitempty"`      // number of the slot that rotate replaced
}

// Opened is the result of kairos-crypt unlock --check.
type Opened struct {
	Device string `json:"device"`
	Slot   int    `json:"slot"`
	Kind   Kind   `json:"kind"`
}

// Wiped is the result of kairos-crypt wipe-slot.
type Wiped struct {
	Device  string `json:"device"`
	Removed []int  `json:"removed"` // numbers of the wiped slots
}

// Unlock is the result of an attempt to unlock a volume.
type Unlock struct {
	UUID  string    `json:"uuid"` // of the volume
	Name  string    `json:"name"` // of the mapping
	Time  time.Time `json:"time"`
	Slot  int       `json:"slot"` // number of the slot that opened, -1 for none
	Kind  Kind      `json:"kind,omitempty"`
	Error string    `json:"error,omitempty"`
	// OfDeployment says that the volume stayed locked because of the booted deployment,
	// as far as is known: only measurements that a deployment determines have changed.
	OfDeployment bool `json:"of_deployment,omitempty"`
}

// UnlockDir is the directory of the results of unlocks since the machine was switched
// on, for root alone: one file for each device. The initrd writes to it too.
const UnlockDir = Dir + "/crypt/unlocks"

// unlockFile returns the name of the file for a device.
func unlockFile(device string) string { return filepath.Base(device) + ".json" }

// Write stores the result for a device.
func (u Unlock) Write(directory, device string) error {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(directory)
	if err != nil {
		return err
	}
	defer root.Close()
	return atomicfile.WriteJSON(root, unlockFile(device), u, 0o600)
}

// ReadUnlock returns the result of the last attempt to unlock a device, nil where there
// was none.
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
