package entries

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
)

// Deployments of the tests, by serial.
func id(serial int) string { return fmt.Sprintf("%d-%012d", serial, serial) }

// entry reads an entry as it is on an ESP. What is after the file name is its
// content, of systemd-boot's keys.
func entry(t *testing.T, file, content string) bls.Entry {
	t.Helper()
	name, err := bls.ParseName(file)
	if err != nil {
		t.Fatal(err)
	}
	e, err := bls.Parse(name, []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// node makes a node of the words of a picture: "3+2-1" is the entry of a
// deployment with its record; behind it "!" says that a boot file is missing,
// "?" that there is no record, "0" that it has neither a kernel nor a UKI. "r3" is a
// record alone, "*3" says what runs.
func node(t *testing.T, picture string) Inventory {
	t.Helper()
	n := Inventory{Missing: func(e bls.Entry, _ *deployment.Record) (names []string) {
		for _, f := range e.Files() {
			if strings.Contains(f, "gone") {
				names = append(names, f)
			}
		}
		return names
	}}
	records := map[int]bool{}
	for word := range strings.FieldsSeq(picture) {
		var serial int
		switch {
		case word[0] == 'r':
			fmt.Sscanf(word, "r%d", &serial)
			records[serial] = true
			continue
		case word[0] == '*':
			fmt.Sscanf(word, "*%d", &serial)
			n.Running = id(serial)
			continue
		}
		fmt.Sscanf(word, "%d", &serial)
		counters := strings.TrimLeft(strings.TrimRight(word, "!?=e"), "0123456789")
		key := []string{"linux /kairos/linux\ninitrd /kairos/initrd\n", "efi /kairos/uki.efi\n", "uki /kairos/uki.efi\n"}[serial%3]
		switch {
		case strings.Contains(word, "!"):
			key = strings.ReplaceAll(key, "/kairos/", "/kairos/gone-")
		case strings.Contains(word, "e"):
			key = ""
		}
		records[serial] = records[serial] || !strings.Contains(word, "?")
		n.Entries = append(n.Entries, entry(t, "kairos-"+id(serial)+counters+".conf", fmt.Sprintf("sort-key kairos\nversion %d\n%s", serial, key)))
	}
	n.Entries = append(n.Entries, entry(t, "kairos-recovery.conf", "sort-key kairos-recovery\nlinux /kairos/linux-r\n"), entry(t, "debian.conf", ""))
	bls.Sort(n.Entries)
	for serial, there := range records {
		if there {
			n.Records = append(n.Records, deployment.Record{ID: id(serial), Serial: uint64(serial), ImageDigest: id(serial)})
		}
	}
	slices.SortFunc(n.Records, func(a, b deployment.Record) int { return int(a.Serial) - int(b.Serial) })
	return n
}

// told is what is planned, in short.
func told(problems []Problem) string {
	var out []string
	for _, p := range problems {
		what := strings.TrimSuffix(strings.TrimPrefix(p.Entry, "kairos-"), ".conf")
		if p.Entry == "" {
			what = p.Deployment
		}
		serial, rest, _ := strings.Cut(what, "-")
		_, counters, counted := strings.Cut(rest, "+")
		if counted {
			serial += "+" + counters
		}
		s := fmt.Sprintf("%s %s %s", p.Action, serial, p.Kind)
		if p.Action == Restore {
			s += ", else " + string(p.Otherwise().Action)
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

func TestPlan(t *testing.T) {
	for picture, want := range map[string]string{
		"*2 2 3+3":     "",
		"*2 2 1 3+0-3": "",
		// The same entry twice, as systemd-boot 257 (its id has counters) and
		// 258 or later (it has not) see it.
		"*2 2 3+3 3+2-1": "remove 3+3 duplicate",
		"*2 2 3 3+2-1":   "remove 3+2-1 duplicate",
		"*3 2 3 3+2-1":   "remove 3+2-1 duplicate",
		"*3 2 3 3+0-3":   "remove 3+0-3 duplicate",
		"*3 2 3! 3+2-1":  "remove 3 duplicate",
		"*3 2 3+3! 3e":   "restore 3+3 missing_files, else keep; remove 3 duplicate",
		// Boot files that are gone.
		"*2 2 3+3!":     "restore 3+3 missing_files, else remove",
		"*2 2 3!":       "restore 3 missing_files, else remove",
		"*2 2! 1":       "restore 2 missing_files, else keep",
		"*2 2 1!":       "restore 1 missing_files, else keep",
		"*2 2 1 0!":     "restore 0 missing_files, else remove",
		"*2 2 3+3!?":    "remove 3+3 missing_files",
		"*2 2!? 1":      "keep 2 missing_files",
		"*2 2 1!?":      "keep 1 missing_files",
		"*2 2 3+3e":     "remove 3+3 missing_files",
		"*2 2e 1":       "renew 2 missing_files",
		"*2 2 3+0-3! 1": "restore 3+0-3 missing_files, else remove",
		// Records without entries, and the reverse.
		"*2 r2 1":     "renew 2 no_entry",
		"*2 2 1 r3":   "collect 3 no_entry",
		"*2 2? 1":     "keep 2 no_record",
		"*2 2 1 3+3?": "remove 3+3 no_record",
		"*2 2 1?":     "keep 1 no_record",
		"*2 2 1? 3+3": "remove 1 no_record",
		// A deployment that is bad is no way back.
		"*2 2 1? 3+0-3": "keep 1 no_record",
		// What runs is unknown.
		"2? 1":  "remove 2 no_record",
		"2? 1?": "keep 2 no_record; keep 1 no_record",
	} {
		problems, _ := node(t, strings.ReplaceAll(picture, "0!", "10!")).Plan()
		if got := told(problems); got != strings.ReplaceAll(want, " 0 ", " 10 ") {
			t.Errorf("%s:\n got %s\nwant %s", picture, got, want)
		}
	}
}

func TestUnreadRecordIsOfAnyEntry(t *testing.T) {
	n := node(t, "*2 2 1 3+3?")
	n.Unread = true
	if problems, _ := n.Plan(); told(problems) != "keep 3+3 no_record" {
		t.Error(told(problems))
	}
}

func TestUnnamedFiles(t *testing.T) {
	n := node(t, "*3 3")
	n.Files = []string{"kairos/LINUX", "kairos/linux-r", "kairos/initrd", "kairos/linux-old"}
	problems, _ := n.Plan()
	if len(problems) != 1 || problems[0].Action != Collect || problems[0].String() != "no boot entry names kairos/linux-old" {
		t.Errorf("%+v", problems)
	}
}

// do does what a problem asks for to a node made of words, or nothing where it
// only can be told.
func (n *Inventory) do(p Problem) {
	switch p.Action {
	case Remove:
		n.Entries = slices.DeleteFunc(n.Entries, func(e bls.Entry) bool { return e.Name == p.Name() })
	case Renew:
		e := bls.Entry{Name: bls.Name{Base: "kairos-" + id(99), Counted: true, Left: 3}, SortKey: "kairos", Version: "99", Linux: "/kairos/linux"}
		n.Entries = append([]bls.Entry{e}, n.Entries...)
		n.Records = append(n.Records, deployment.Record{ID: id(99), ImageDigest: n.Running})
	}
}

// TestNothingIsLostAtAnyMoment breaks nodes at random, cuts the repair after
// every step, and repairs again: what runs and what the node falls back to are
// there all the time, and the end is the same.
func TestNothingIsLostAtAnyMoment(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 7))
	counters := []string{"", "+3", "+2-1", "+1-2", "+0-3"}
	flaws := []string{"", "", "", "!", "?", "!?", "e"}
	for range 3000 {
		picture := fmt.Sprintf("*%d", 1+random.IntN(4))
		for serial := 1; serial <= 4; serial++ {
			names := random.Perm(len(counters))[:random.IntN(3)]
			flaw := flaws[random.IntN(len(flaws))]
			for _, c := range names {
				picture += fmt.Sprintf(" %d%s%s", serial, counters[c], flaw)
			}
			if len(names) == 0 && random.IntN(2) == 0 {
				picture += fmt.Sprintf(" r%d", serial)
			}
		}
		n := node(t, picture)
		before := n.bootable()
		problems, fallback := n.Plan()
		for step := range len(problems) + 1 {
			cut := n
			cut.Entries, cut.Records = slices.Clone(n.Entries), slices.Clone(n.Records)
			for _, p := range problems[:step] {
				if p.Action == Restore { // in vain: the harder case
					p = p.Otherwise()
				}
				cut.do(p)
			}
			cut.mustKeep(t, picture, before, fallback)
			for round := 0; ; round++ {
				again, _ := cut.Plan()
				changed := false
				for _, p := range again {
					if p.Action == Restore {
						p = p.Otherwise()
					}
					cut.do(p)
					changed = changed || p.Action == Remove || p.Action == Renew
					cut.mustKeep(t, picture, before, fallback)
				}
				if !changed {
					break
				}
				if round == 3 {
					t.Fatalf("%s, cut after %d: still to do: %s", picture, step, told(again))
				}
			}
		}
	}
}

// bootable returns the ids of the deployments that have an entry which can be
// booted.
func (n Inventory) bootable() (ids []string) {
	for _, e := range n.Entries {
		if id, ours := deployment.IDOfEntry(e.Name.Base); ours && !n.candidate(e, id).broken() && e.Name.State() != bls.Bad {
			ids = append(ids, id)
		}
	}
	return ids
}

func (n Inventory) mustKeep(t *testing.T, picture string, before []string, fallback string) {
	t.Helper()
	now := n.bootable()
	if slices.Contains(before, n.Running) && !slices.Contains(now, n.Running) {
		t.Fatalf("%s: what runs can't be booted any more", picture)
	}
	if fallback != "" && !slices.ContainsFunc(n.Entries, func(e bls.Entry) bool { return e.Name.String() == fallback }) {
		t.Fatalf("%s: the fallback %s is gone", picture, fallback)
	}
	if len(before) > 0 && len(now) == 0 {
		t.Fatalf("%s: nothing boots", picture)
	}
}
