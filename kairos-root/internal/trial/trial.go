// Package trial puts a deployment on trial again that proved good before and does
// not come up any more.
//
// A boot loader counts the boots of entries with counters only, and an entry
// loses them with its first good boot. What breaks later, such as a damaged
// disk, would be booted for ever. From the first failure on it counts again, as
// "Automatic Boot Assessment" has it (https://systemd.io/AUTOMATIC_BOOT_ASSESSMENT):
// after its tries another deployment boots, or recovery; a good boot takes the
// counters away as always.
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

// Left is how many boots the deployment gets after the failed one.
const Left = 2

// ErrNone is returned when there is nothing to count: the boot loader counts
// this boot already, or what it booted is no deployment.
var ErrNone = errors.New("the boot is counted already, or none of a deployment")

// Begin gives counters to the entry that this boot came from, and returns its new
// name. The entry must be one for the image with this digest, 64 hex digits:
// after kexec the variables tell of another boot.
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
