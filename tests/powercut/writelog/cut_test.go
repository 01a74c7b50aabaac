package writelog

import (
	"reflect"
	"testing"
)

// check holds a cut to what a disk may do.
func check(t *testing.T, l *Log, c Cut) {
	t.Helper()
	if c.Durable > c.At || c.At > l.Len() {
		t.Fatalf("%s: of %d entries", c, l.Len())
	}
	durable := map[int]uint64{} // sectors of writes that were durable when they were completed
	for _, p := range c.Pieces {
		e := l.Entry(p.Entry)
		if p.Entry < c.Durable || p.Entry >= c.At || p.Count == 0 || p.First+p.Count > e.Sectors {
			t.Errorf("%s: piece %+v of %+v", c, p, e)
		}
		if e.Is(FUA) {
			durable[p.Entry] += p.Count
		}
	}
	for i := c.Durable; i < c.At; i++ {
		e := l.Entry(i)
		if e.Is(Flush) && i > c.Durable {
			t.Errorf("%s: entry %d is a flush, and what lies before it is not durable", c, i)
		}
		if e.Is(FUA) && !e.Is(Mark) && durable[i] != e.Sectors {
			t.Errorf("%s: of entry %d, durable on completion, %d of %d sectors are there", c, i, durable[i], e.Sectors)
		}
	}
}

// busy is a log with epochs of several lengths.
func busy(t *testing.T) *Log {
	var entries []logged
	for epoch := range uint64(40) {
		for i := range epoch % 7 {
			flags := uint64(0)
			if i == 3 {
				flags = FUA
			}
			entries = append(entries, logged{epoch*100 + i*10, 1 + i*2, flags, "x"})
		}
		entries = append(entries, logged{0, 0, Flush, ""})
	}
	return read(t, encode(512, entries...))
}

func TestCuts(t *testing.T) {
	l := busy(t)
	cuts := l.Cuts(5, l.Len(), 300, 7)
	if len(cuts) != 300 {
		t.Fatalf("%d cuts", len(cuts))
	}
	kinds := map[string]int{}
	for i, c := range cuts {
		check(t, l, c)
		kinds[c.Kind]++
		if i > 0 && c.Durable < cuts[i-1].Durable {
			t.Errorf("cut %d lies before the one before it", i)
		}
	}
	for _, kind := range []string{"flush boundary", "in order", "some lost", "reordered", "torn"} {
		if kinds[kind] < 20 {
			t.Errorf("%d cuts of the kind %q", kinds[kind], kind)
		}
	}
	if !reflect.DeepEqual(cuts, l.Cuts(5, l.Len(), 300, 7)) {
		t.Error("the same seed chose other cuts")
	}
	if reflect.DeepEqual(cuts, l.Cuts(5, l.Len(), 300, 8)) {
		t.Error("another seed chose the same cuts")
	}
}

// Every flush boundary is among the cuts if there are enough, the first and the last in any case.
func TestFlushBoundaries(t *testing.T) {
	l := busy(t)
	boundaries := func(count int) map[int]bool {
		at := map[int]bool{}
		for _, c := range l.Cuts(0, l.Len(), count, 1) {
			if c.Kind == "flush boundary" {
				at[c.At] = true
			}
		}
		return at
	}
	all := boundaries(1000)
	for i := range l.Len() {
		next := i + 1
		if next < l.Len() && l.Entry(i).Is(Flush) && !l.Entry(next).Is(Flush) && !all[next] {
			t.Errorf("the power is never cut behind the flush %d", i)
		}
	}
	if few := boundaries(10); len(few) != 5 || !few[0] || !few[l.Len()] {
		t.Errorf("5 of the boundaries are %v", few)
	}
}
