// Package trial enables boot counting for a deployment that was found good earlier and
// no longer boots.
//
// A boot loader counts the boots of entries with counters, which an entry loses with
// its first good boot. A deployment that breaks later, such as by a damaged disk, would
// be booted for ever. From its first failure on its boots are counted again, by
// "Automatic Boot Assessment" (https://systemd.io/AUTOMATIC_BOOT_ASSESSMENT): after its
// tries another deployment boots, or the recovery system; a good boot removes the
// counters as always.
package trial

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/efivars"
)

// Left is how many tries the deployment gets after the failed boot.
const Left = 2

// ErrNone says that no counters are needed: the boot loader counts this boot already,
// or the booted entry is no deployment.
var ErrNone = errors.New("the boot is counted already, or none of a deployment")

// Begin adds counters to the entry of this boot, and returns its new name. The entry
// must have the image with this digest, 64 hex digits: after kexec the variables refer
// to another boot.
func Begin(vars efivars.Vars, esp *os.Root, image string) (bls.Name, error) {
	if _, err := vars.BootCountPath(); !errors.Is(err, efivars.ErrNotSet) {
		return bls.Name{}, errors.Join(err, ErrNone)
	}
	selected, err := vars.EntrySelected()
	if err != nil {
		return bls.Name{}, fmt.Errorf("which entry was booted: %w", err)
	}
	base := bls.BaseOf(selected)
	if _, ours := deployment.IDOfEntry(base); !ours {
		return bls.Name{}, ErrNone
	}
	entries, err := bls.ESP{Root: esp}.Entries()
	if err != nil {
		return bls.Name{}, err
	}
	i := slices.IndexFunc(entries, func(e bls.Entry) bool { return e.Name.Base == base })
	switch {
	case i < 0:
		return bls.Name{}, fmt.Errorf("boot entry %s: %w", base, os.ErrNotExist)
	case entries[i].Name.Counted:
		return bls.Name{}, ErrNone
	case image == "" || !strings.Contains(entries[i].Options, "sha256:"+image):
		return bls.Name{}, fmt.Errorf("boot entry %s is not of the image that runs", base)
	}
	name := bls.Name{Base: base, Counted: true, Left: Left, Done: 1}
	return name, bls.ESP{Root: esp}.Count(name)
}
