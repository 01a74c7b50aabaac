// Package report is what kairos-crypt says about volumes with --json: see
// kairos-crypt(8). The service on the bus reads it.
package report

import (
	"time"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/forecast"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
)

// Status is the object that status prints.
type Status struct {
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
	Expected string `json:"expected"`        // UUID of the volume that belongs there
	Found    string `json:"found,omitempty"` // UUID of the volume that is there, "" for none
}

// Volume is one encrypted volume.
type Volume struct {
	Device      string           `json:"device"`
	Label       string           `json:"label"`
	UUID        string           `json:"uuid"`
	Damaged     string           `json:"damaged,omitempty"` // why one copy of the header can't be used
	Conversion  bool             `json:"conversion"`        // it is being encrypted in place
	RecoveryKey bool             `json:"recovery_key"`      // there is one
	Now         forecast.Verdict `json:"unlocks_now"`       // without anybody's help
	AfterReboot forecast.Verdict `json:"unlocks_after_reboot"`
	LastUnlock  *Unlock          `json:"last_unlock,omitempty"` // since the machine was started
	Slots       []Slot           `json:"slots"`
}

// Slot is one key slot.
type Slot struct {
	Slot        int              `json:"slot"`
	Kind        volume.Kind      `json:"kind"`
	Policy      *Policy          `json:"policy,omitempty"` // of a TPM slot
	URL         string           `json:"url,omitempty"`    // of a tang server
	Asks        bool             `json:"asks"`             // somebody has to type something
	Now         forecast.Verdict `json:"opens_now"`        // given the right answer
	WhyNot      string           `json:"why_not,omitempty"`
	AfterReboot forecast.Verdict `json:"opens_after_reboot"`
	WhyNotAfter string           `json:"why_not_after,omitempty"`
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
	Device      string      `json:"device"`
	Slot        int         `json:"slot"`
	Kind        volume.Kind `json:"kind"`
	RecoveryKey string      `json:"recovery_key,omitempty"` // shown once
	Removed     *int        `json:"removed,omitempty"`      // the slot that was rotated
}

// Opened is the result of unlock --check.
type Opened struct {
	Device string      `json:"device"`
	Slot   int         `json:"slot"`
	Kind   volume.Kind `json:"kind"`
}

// Wiped is the result of wipe-slot.
type Wiped struct {
	Device  string `json:"device"`
	Removed []int  `json:"removed"` // numbers of the slots
}

// Unlock is how an unlock ended.
type Unlock struct {
	UUID  string      `json:"uuid"` // of the volume
	Name  string      `json:"name"` // of the mapping
	Time  time.Time   `json:"time"`
	Slot  int         `json:"slot"` // which opened it, -1 where none did
	Kind  volume.Kind `json:"kind,omitempty"`
	Error string      `json:"error,omitempty"`
	// OfDeployment says that the deployment is why it stayed locked, as far as is
	// known: nothing has changed but what comes with one.
	OfDeployment bool `json:"of_deployment,omitempty"`
}
