package judge_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/tests/powercut/disk"
	"github.com/kairos-io/toolkit/tests/powercut/fixture"
	"github.com/kairos-io/toolkit/tests/powercut/judge"
	"github.com/kairos-io/toolkit/tests/powercut/writelog"
)

// cuts plays a log of writes to a node's disk and judges cuts at all of it. The operation says that it is
// done before the entry done.
func cuts(t *testing.T, n *fixture.Node, esp, state []byte, log *fixture.Log, done, count int) (states map[judge.State]int, why []string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "kairos-judge-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "log")
	if err := os.WriteFile(path, log.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := writelog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := disk.Open(t.Context(), dir, n.Disk(esp, state), "", l)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	j := judge.For(d, dir)
	look := func(cut writelog.Cut) *judge.Snapshot {
		t.Helper()
		if err := d.Cut(cut); err != nil {
			t.Fatal(err)
		}
		snapshot, err := j.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Restore(); err != nil {
			t.Fatal(err)
		}
		return snapshot
	}
	operation := judge.Operation{Begin: look(writelog.Cut{}), End: look(l.All(0, l.Len()))}
	states = map[judge.State]int{}
	for _, cut := range l.Cuts(0, l.Len(), count, 1) {
		v := operation.Judge(look(cut), cut.Durable >= done)
		states[v.State]++
		for _, w := range v.Why {
			why = append(why, cut.String()+": "+w)
		}
	}
	return states, why
}

// before makes the ESP as it is with the first deployment.
func before(n *fixture.Node) []func(string) {
	files, names := n.Files(n.Records[0])
	entry, name := n.Entry(n.Records[0])
	return []func(string){files, names, entry, name}
}

// publication is how a deployment is published that the store has already, in one order or another.
func publication(n *fixture.Node, order string) (esp []byte, log *fixture.Log) {
	steps := before(n)
	files, names := n.Files(n.Records[1])
	entry, name := n.Entry(n.Records[1])
	known := map[string]func(string){"files": files, "names": names, "entry": entry, "name": name}
	for step := range strings.FieldsSeq(order) {
		if step != "flush" {
			steps = append(steps, known[step])
		}
	}
	all := n.ESP(steps...)
	log = &fixture.Log{}
	at := len(before(n)) - 1
	for step := range strings.FieldsSeq(order) {
		if step == "flush" {
			log.Flush()
			continue
		}
		log.Change(all[at], all[at+1])
		at++
	}
	return all[len(before(n))-1], log
}

// TestJudge judges cuts in publications. In the right order all is well; where a flush is missing, or the
// entry comes first, the judge has to find it.
func TestJudge(t *testing.T) {
	n := fixture.New(t)
	for _, test := range []struct {
		name, order, why string
	}{
		{"files, then entry", "files flush names flush entry flush name flush", ""},
		{"entry first", "entry flush name flush files flush names flush", "not exist"},
		{"no flush between", "files flush names entry name flush", "entry kairos-2-"},
	} {
		t.Run(test.name, func(t *testing.T) {
			esp, log := publication(n, test.order)
			states, why := cuts(t, n, esp, n.State(), log, log.Len(), 40)
			if bad := states[judge.Bad]; (bad > 0) != (test.why != "") {
				t.Errorf("%v\n%s", states, strings.Join(why, "\n"))
			}
			if test.why == "" && (states[judge.Old] == 0 || states[judge.New] == 0) {
				t.Errorf("the cuts fell on one side of the publication: %v", states)
			}
			if test.why != "" && !strings.Contains(strings.Join(why, "\n"), test.why) {
				t.Errorf("nothing of %q in\n%s", test.why, strings.Join(why, "\n"))
			}
		})
	}
}

// TestLazyName publishes as FAT does where the directory is synced and the file is not: the operation is
// done, and its entry is still an empty file. Nothing is damaged, and yet what was done is lost.
func TestLazyName(t *testing.T) {
	n := fixture.New(t)
	files, names := n.Files(n.Records[1])
	entry, name := n.Entry(n.Records[1])
	all := n.ESP(append(before(n), files, names, entry, name)...)
	from, published := all[len(all)-2], all[len(all)-1]
	empty := n.Emptied(published, n.EntryPath(n.Records[1]))
	log := &fixture.Log{}
	log.Change(from, empty)
	log.Flush()
	done := log.Len()
	log.Change(empty, published)
	log.Flush()
	if states, why := cuts(t, n, from, n.State(), log, done, 20); states[judge.Bad] == 0 || !strings.Contains(strings.Join(why, "\n"), "was done, and the node is old") {
		t.Errorf("it is lost: %v %q", states, why)
	}
	if states, why := cuts(t, n, from, n.State(), log, log.Len(), 20); states[judge.Bad] != 0 || states[judge.Old] == 0 || states[judge.New] == 0 {
		t.Errorf("it may be lost until it is done: %v %q", states, why)
	}
}

// TestDamagedStore damages the store in ways that e2fsck has nothing to say of.
func TestDamagedStore(t *testing.T) {
	n := fixture.New(t)
	esp := n.ESP(before(n)...)
	for name, damage := range map[string]struct {
		of  func(deployment.Record) []byte // a piece of the content that is damaged
		why string
	}{
		"an object": {func(deployment.Record) []byte { return []byte("shared shared shared ") }, "object "},
		"a record":  {func(r deployment.Record) []byte { return []byte(`"id":"` + r.ID) }, "record"},
	} {
		t.Run(name, func(t *testing.T) {
			state := n.State()
			at := strings.Index(string(state), string(damage.of(n.Records[0])))
			if at < 0 {
				t.Fatal("there is nothing to damage")
			}
			state[at+2] ^= 1
			states, why := cuts(t, n, esp[len(esp)-1], state, &fixture.Log{}, 1, 1)
			if states[judge.Bad] != 1 || !strings.Contains(strings.Join(why, "\n"), damage.why) {
				t.Errorf("%v: %q", states, why)
			}
		})
	}
}
