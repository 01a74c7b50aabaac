package assess

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/efivars"
	"github.com/kairos-io/toolkit/lib/kernelargs"
)

// judged reports whether boots of this mode get a verdict.
func judged(m deployment.Mode) bool { return m == deployment.Active || m == deployment.Passive }

// entryBase returns the base name of the running deployment's boot entry: from the
// deployment, which the kernel command line names, rather than from the boot loader's
// variable, which is stale after kexec.
func entryBase(b deployment.Booted) string {
	if b.ID != "" {
		return deployment.Record{ID: b.ID}.EntryBase()
	}
	return b.Entry
}

// trial determines whether this boot used up a try that waits for a verdict.
// LoaderBootCountPath alone is not enough: it stays set after kexec and soft reboots.
// soft is the number of soft reboots.
func (n *Node) trial(b deployment.Booted, soft int) history.Trial {
	t, base := n.counted(b, soft), entryBase(b)
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
	own := slices.IndexFunc(entries, func(e bls.Entry) bool { return e.Name.Base == base })
	if own < 0 {
		return uncounted(t, fmt.Sprintf("entry %s is gone", base))
	}
	switch e := entries[own]; {
	case !e.Name.Counted:
		return uncounted(t, "the entry is blessed")
	case e.Name.Left != t.TriesLeft || e.Name.Done != t.TriesDone: // armed again since
		return uncounted(t, fmt.Sprintf("the entry is %s now, and the boot loader counted another: kexec?", e.Name))
	case !n.startedBy(e):
		return uncounted(t, "the kernel command line is not that of the entry: kexec?")
	}
	return t
}

// startedBy reports whether the kernel command line can come from an entry. People may
// change it in the boot menu, except for the arguments that name the deployment.
func (n *Node) startedBy(e bls.Entry) bool {
	have := n.kernelArguments()
	for word := range kernelargs.Words(e.Options) {
		if strings.HasPrefix(word, "kairos.image=") || strings.HasPrefix(word, "kairos.config_generation=") {
			if !slices.Contains(have, word) {
				return false
			}
		}
	}
	return true
}

// kexecLoader is the type of boot loader that kexec writes into the kernel's
// boot parameters, where the architecture has such (x86: Documentation/arch/x86/boot.rst,
// "type_of_loader"), shifted as /proc/sys/kernel/bootloader_type shows it.
const kexecLoader = 0xd0

// kexeced reports whether this kernel was certainly started by kexec.
func (n *Node) kexeced() bool {
	data, err := os.ReadFile(n.path("/proc/sys/kernel/bootloader_type"))
	if err != nil {
		return false
	}
	kind, err := strconv.Atoi(strings.TrimSpace(string(data)))
	return err == nil && kind&0xf0 == kexecLoader
}

// counted returns the boot counting from the boot loader's variables and booted.json,
// without the ESP.
func (n *Node) counted(b deployment.Booted, soft int) (t history.Trial) {
	base := entryBase(b)
	if !judged(b.Mode) {
		return uncounted(t, fmt.Sprintf("%s systems are not on trial", b.Mode))
	}
	switch {
	case soft > 0:
		return uncounted(t, "a soft-reboot started it, and not the boot loader")
	case n.kexeced():
		return uncounted(t, "kexec started it, and not the boot loader")
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
		return uncounted(t, fmt.Sprintf("the boot loader counted %q, which is not a counted entry", file))
	case name.Base != base:
		return uncounted(t, fmt.Sprintf("the boot loader counted %s, and %s is running: kexec?", name.Base, base))
	case b.BootID != "" && b.BootID != n.bootID():
		return uncounted(t, "the running system was not started by the boot loader")
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
