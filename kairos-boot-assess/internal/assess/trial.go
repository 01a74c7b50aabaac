package assess

import (
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/efivars"
)

// judged reports whether boots of this mode are judged at all.
func judged(m deployment.Mode) bool { return m == deployment.Active || m == deployment.Passive }

// entryBase returns the base name of the boot entry of what is running: by the
// deployment, which the kernel command line proves, rather than by what the
// boot loader said, which is stale after kexec.
func entryBase(b deployment.Booted) string {
	if b.ID != "" {
		return deployment.Record{ID: b.ID}.EntryBase()
	}
	return b.Entry
}

// trial finds out whether this boot used up a try that waits for a verdict.
// LoaderBootCountPath alone does not say so: it outlives kexec and
// soft-reboot.
func (n *Node) trial(b deployment.Booted) history.Trial {
	t, base := n.counted(b), entryBase(b)
	entries, err := n.entries()
	if err != nil {
		n.Log.Warn(err.Error())
		return t
	}
	for _, e := range entries {
		if e.Name.Base != base && e.Name.State() != bls.Bad {
			t.Alternative = e.Name.Base
			break
		}
	}
	if !t.Counted {
		return t
	}
	var own []bls.Name
	for _, e := range entries {
		if e.Name.Base == base {
			own = append(own, e.Name)
		}
	}
	switch {
	case len(own) == 0:
		return uncounted(t, fmt.Sprintf("entry %s is gone", base))
	case !own[0].Counted:
		return uncounted(t, "the entry is blessed")
	}
	t.TriesLeft, t.TriesDone = own[0].Left, own[0].Done
	return t
}

// counted is what the boot loader and booted.json say, without the ESP.
func (n *Node) counted(b deployment.Booted) (t history.Trial) {
	base := entryBase(b)
	if !judged(b.Mode) {
		return uncounted(t, fmt.Sprintf("%s systems are not on trial", b.Mode))
	}
	file, err := n.Vars.BootCountPath()
	if errors.Is(err, efivars.ErrNotSet) {
		return uncounted(t, "the entry is blessed, or was never counted")
	}
	if err != nil {
		return uncounted(t, err.Error())
	}
	name, err := bls.ParseName(path.Base(file))
	switch {
	case err != nil || !name.Counted:
		return uncounted(t, fmt.Sprintf("the boot loader counted %q, which is no counted entry", file))
	case name.Base != base:
		return uncounted(t, fmt.Sprintf("the boot loader counted %s, and %s is running: kexec?", name.Base, base))
	case b.BootID != "" && b.BootID != n.bootID():
		return uncounted(t, "what is running was not started by the boot loader")
	}
	t.Counted, t.TriesLeft, t.TriesDone = true, name.Left, name.Done
	return t
}

func uncounted(t history.Trial, why string) history.Trial {
	return history.Trial{Uncounted: why, Alternative: t.Alternative}
}

// entries returns the boot entries on the ESP.
func (n *Node) entries() ([]bls.Entry, error) {
	root, err := os.OpenRoot(n.path(ESPDir))
	if err != nil {
		return nil, fmt.Errorf("read boot entries: %w", err)
	}
	defer root.Close()
	return bls.ESP{Root: root}.Entries()
}
