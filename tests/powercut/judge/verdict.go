package judge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
)

// State says what a node is after a cut.
type State string

// States of a node.
const (
	Old     State = "old"     // as before the operation
	Between State = "between" // whatever boots goes on with the operation
	New     State = "new"     // as after it
	Bad     State = "bad"
)

// Verdict is what the judge finds of a cut.
type Verdict struct {
	State State
	Why   []string // it is bad
}

// Operation is what a cut interrupts: the disk as it was before and as it is after.
type Operation struct {
	Begin, End *Snapshot
	// Erases are the partitions that the operation makes anew. They need not be whole as long as no entry
	// that would boot reads from them.
	Erases []string
	// Passing are the base names of entries that exist during the operation only.
	Passing []string
}

// Judge judges a snapshot of a disk that was cut in an operation, or right after it had said that it was
// done.
func (o Operation) Judge(cut *Snapshot, done bool) Verdict {
	v := &verdict{operation: o, cut: cut}
	v.fileSystems()
	if cut.ESP != nil {
		v.loaders()
		v.entries()
		v.standing()
	}
	v.configs()
	state := v.state()
	if done && state != New {
		v.bad("the operation was done, and the node is %s", state)
	}
	if len(v.why) > 0 {
		return Verdict{Bad, v.why}
	}
	return Verdict{state, nil}
}

type verdict struct {
	operation Operation
	cut       *Snapshot
	why       []string
}

func (v *verdict) bad(format string, args ...any) {
	v.why = append(v.why, fmt.Sprintf(format, args...))
}

// fileSystems wants partition table and file systems to be whole.
func (v *verdict) fileSystems() {
	if !slices.Contains(v.operation.Erases, "") {
		v.why = append(v.why, v.cut.Table...)
	}
	if e := v.cut.ESP; e != nil && (v.boots() || !slices.Contains(v.operation.Erases, disk.LabelESP)) {
		v.why = append(v.why, e.Problems...)
		v.why = append(v.why, e.Illegal...)
	}
	for _, label := range sorted(v.cut.Stores) {
		if slices.Contains(v.operation.Erases, label) {
			continue
		}
		for _, problem := range v.cut.Stores[label].Problems {
			v.bad("%s: %s", label, problem)
		}
	}
}

// loaders wants the boot loader on the fallback path to be what it was or what it will be.
func (v *verdict) loaders() {
	begin, end := v.operation.Begin.ESP, v.operation.End.ESP
	if begin == nil || end == nil || slices.Contains(v.operation.Erases, disk.LabelESP) {
		return
	}
	if have := v.cut.ESP.Fallback; have != begin.Fallback && have != end.Fallback {
		v.bad("the boot loader on the fallback path is neither the old nor the new")
	}
}

// entries wants every entry that may boot to be complete, and one to be there where there was one.
func (v *verdict) entries() {
	if !v.boots() {
		if v.operation.Begin.boots() {
			v.bad("nothing boots any more")
		}
		return
	}
	o := v.operation
	if e := v.cut.ESP.Entries[0]; !known(o.Begin, e) && !known(o.End, e) && !slices.Contains(o.Passing, e.Name.Base) {
		v.bad("entry %s boots, which is neither old nor new", e.Name)
	}
	for _, e := range v.cut.ESP.Entries {
		if e.Name.State() == bls.Bad {
			continue
		}
		if err := v.cut.complete(e); err != nil {
			v.bad("entry %s: %v", e.Name, err)
		}
	}
}

func known(s *Snapshot, e bls.Entry) bool { return s.ESP != nil && find(s.ESP, e) != nil }

// boots reports whether the firmware finds a boot loader that is whole, and that an entry. Of a disk that is
// written again the firmware knows nothing: it looks at the fallback path alone.
func (v *verdict) boots() bool {
	if slices.Contains(v.operation.Erases, disk.LabelESP) {
		return v.cut.boots() && v.cut.ESP.Fallback == v.operation.End.ESP.Fallback
	}
	return v.cut.boots() && slices.ContainsFunc([]*Snapshot{v.operation.Begin, v.operation.End}, func(s *Snapshot) bool {
		return s.ESP != nil && s.ESP.Loader == v.cut.ESP.Loader
	})
}

func (s *Snapshot) boots() bool {
	return s.ESP != nil && !s.ESP.Loader.IsZero() && len(s.ESP.Entries) > 0
}

// complete checks all that an entry needs to boot.
func (s *Snapshot) complete(e bls.Entry) error {
	for _, name := range e.Files() {
		if err := s.ESP.files[name]; err != nil {
			return err
		}
	}
	image, label := argument(e, "kairos.image"), argument(e, "kairos.store")
	hex, err := deployment.ParseDigest(strings.TrimPrefix(image, "?"))
	if err != nil {
		return err
	}
	store := s.Stores[label]
	if store == nil {
		return fmt.Errorf("no partition %q", label)
	}
	if len(store.Problems) > 0 {
		return fmt.Errorf("%s: %s", label, store.Problems[0])
	}
	switch err, ok := store.Images[hex]; {
	case !ok:
		return fmt.Errorf("%s has no image %s", label, hex)
	case err != nil:
		return fmt.Errorf("image %s: %w", hex, err)
	}
	if id, ok := deployment.IDOfEntry(e.Name.Base); ok {
		switch err, ok := store.Records[id]; {
		case !ok:
			return fmt.Errorf("%s has no record of it", label)
		case err != nil:
			return fmt.Errorf("its record: %w", err)
		}
	}
	if generation := argument(e, "kairos.config_generation"); generation != "" {
		if oem := s.Stores[disk.LabelOEM]; oem == nil || oem.Configs[generation] == "" {
			return fmt.Errorf("no generation %s of the config", generation)
		}
	}
	return nil
}

func argument(e bls.Entry, name string) (value string) {
	for arg := range strings.FieldsSeq(e.Options) {
		if v, ok := strings.CutPrefix(arg, name+"="); ok {
			value = v
		}
	}
	return value
}

// standing wants all entries that are there before and after the operation to be there in between, and to
// say what they said before or say after.
func (v *verdict) standing() {
	begin, end := v.operation.Begin.ESP, v.operation.End.ESP
	if begin == nil || end == nil {
		return
	}
	for _, before := range begin.Entries {
		after, cut := find(end, before), find(v.cut.ESP, before)
		switch {
		case after == nil || slices.Contains(v.operation.Erases, argument(before, "kairos.store")):
		case cut == nil:
			v.bad("entry %s is gone", before.Name)
		case !same(*cut, before) && !same(*cut, *after):
			v.bad("entry %s is neither what it was nor what it will be", cut.Name)
		}
	}
}

// find returns the entry of the same deployment, nil if there is none.
func find(e *ESP, like bls.Entry) *bls.Entry {
	for i := range e.Entries {
		if e.Entries[i].Name.Base == like.Name.Base {
			return &e.Entries[i]
		}
	}
	return nil
}

// same compares what entries say, names and counters aside.
func same(a, b bls.Entry) bool {
	a.Name, b.Name = bls.Name{}, bls.Name{}
	return string(a.Bytes()) == string(b.Bytes())
}

// configs wants the generations of the config that are there before and after to be unchanged.
func (v *verdict) configs() {
	begin, cut, end := v.operation.Begin.Stores[disk.LabelOEM], v.cut.Stores[disk.LabelOEM], v.operation.End.Stores[disk.LabelOEM]
	if begin == nil || cut == nil || end == nil || slices.Contains(v.operation.Erases, disk.LabelOEM) {
		return
	}
	for id, content := range begin.Configs {
		if _, kept := end.Configs[id]; kept && cut.Configs[id] != content {
			v.bad("generation %s of the config has changed", id)
		}
	}
}

// state says which side of the operation the node is on: by what boots and, where that is the same before
// and after, by all entries and records. What boots is whole, and old or new, by now: between the two lies,
// at most, that what was to be collected is gone, or that a try was counted.
func (v *verdict) state() State {
	if v.boots() && slices.Contains(v.operation.Passing, v.cut.ESP.Entries[0].Name.Base) {
		return Between
	}
	key := first
	if first(v.operation.Begin) == first(v.operation.End) {
		key = all
	}
	if v.boots() && key(v.cut) == key(v.operation.End) {
		return New
	}
	return Old
}

// first is what boots: the first entry.
func first(s *Snapshot) string {
	if !s.boots() {
		return ""
	}
	e := s.ESP.Entries[0]
	return e.Name.String() + "\n" + string(e.Bytes())
}

func all(s *Snapshot) string {
	if !s.boots() {
		return ""
	}
	var text strings.Builder
	fmt.Fprintln(&text, s.ESP.Loader, s.ESP.Fallback)
	for _, e := range s.ESP.Entries {
		fmt.Fprintf(&text, "%s\n%s", e.Name, e.Bytes())
	}
	if state := s.Stores[disk.LabelState]; state != nil {
		text.WriteString(state.Deployed)
	}
	return text.String()
}
