package writelog

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Cut is a moment at which the power fails, and what of the writes that were not flushed then has reached
// the disk all the same.
type Cut struct {
	Durable int     // entries before this one have reached the disk
	At      int     // entries from this one on were never asked for
	Pieces  []Piece // of the entries between, in the order in which they reached the disk
	Kind    string  // how the pieces were chosen
}

// Piece is a part of an entry: the sectors [First, First+Count).
type Piece struct {
	Entry        int
	First, Count uint64
}

// String names the cut so that it can be found in the log.
func (c Cut) String() string {
	return fmt.Sprintf("cut at entry %d, flushed up to %d, %d pieces (%s)", c.At, c.Durable, len(c.Pieces), c.Kind)
}

// Cuts chooses count cuts in the entries [begin, end), fewer where so many different ones are not found,
// ordered by Durable; the same seed chooses the same ones. Half of them are flush boundaries, with
// all that was written since then lost, unless there are fewer. The others lie between, with unflushed
// writes kept in order, dropped, reordered and torn.
func (l *Log) Cuts(begin, end, count int, seed uint64) []Cut {
	random := rand.New(rand.NewPCG(seed, uint64(begin)))
	epochs := l.epochs(begin, end)
	var cuts []Cut
	for _, i := range spread(len(epochs), (count+1)/2, random) {
		cuts = append(cuts, Cut{Durable: epochs[i].from, At: epochs[i].from, Kind: "flush boundary"})
	}
	open := slices.DeleteFunc(slices.Clone(epochs), func(e epoch) bool { return e.to == e.from })
	chosen := map[string]bool{}
	for tries := 20 * count; tries > 0 && len(cuts) < count && len(open) > 0; tries-- {
		cut := l.between(open[random.IntN(len(open))], random)
		if state := fmt.Sprint(cut.Durable, cut.Pieces); len(cut.Pieces) > 0 && !chosen[state] {
			chosen[state] = true
			cuts = append(cuts, cut)
		}
	}
	slices.SortStableFunc(cuts, func(a, b Cut) int { return a.Durable - b.Durable })
	return cuts
}

// epoch is what lies between two flushes: the entries [from, to).
type epoch struct{ from, to int }

// epochs are those of the entries [begin, end). A boundary with nothing new since the last one is left out.
func (l *Log) epochs(begin, end int) (all []epoch) {
	from := begin
	for i := begin; i < end; i++ {
		if !l.entries[i].Is(Flush) {
			continue
		}
		if i > from || len(all) == 0 {
			all = append(all, epoch{from, i})
		}
		from = i + 1
	}
	return append(all, epoch{from, end})
}

// spread chooses count of n, the first and the last among them, as evenly as chance allows.
func spread(n, count int, random *rand.Rand) (chosen []int) {
	if n <= count {
		for i := range n {
			chosen = append(chosen, i)
		}
		return chosen
	}
	for i := range count {
		first, next := i*n/count, (i+1)*n/count
		switch i {
		case 0:
			chosen = append(chosen, 0)
		case count - 1:
			chosen = append(chosen, n-1)
		default:
			chosen = append(chosen, first+random.IntN(next-first))
		}
	}
	return chosen
}

// between cuts the power in an epoch.
func (l *Log) between(e epoch, random *rand.Rand) Cut {
	cut := Cut{Durable: e.from, At: e.from + 1 + random.IntN(e.to-e.from)}
	switch kind := random.IntN(4); kind {
	case 0:
		cut.Kind = "in order"
	case 1:
		cut.Kind = "some lost"
	case 2:
		cut.Kind = "reordered"
	case 3:
		cut.Kind = "torn"
	}
	keep := random.Float64() // how likely a write has reached the disk
	for i := cut.Durable; i < cut.At; i++ {
		entry := l.entries[i]
		whole := Piece{Entry: i, Count: entry.Sectors}
		switch {
		case entry.Sectors == 0 || entry.Is(Mark):
		case entry.Is(FUA) || cut.Kind == "in order":
			cut.Pieces = append(cut.Pieces, whole)
		case cut.Kind == "torn" && entry.Sectors > 1 && random.Float64() < 0.5:
			cut.Pieces = append(cut.Pieces, torn(whole, random)...)
		case random.Float64() < keep:
			cut.Pieces = append(cut.Pieces, whole)
		}
	}
	if cut.Kind == "in order" && len(cut.Pieces) > 0 && random.IntN(2) == 0 {
		last := &cut.Pieces[len(cut.Pieces)-1] // the power fails in the middle of it
		if entry := l.entries[last.Entry]; !entry.Is(FUA) {
			last.Count = 1 + random.Uint64N(entry.Sectors)
		}
	}
	if cut.Kind == "reordered" {
		l.shuffle(cut.Pieces, random)
	}
	return cut
}

// torn breaks a write into runs of sectors, of which each has reached the disk or not.
func torn(whole Piece, random *rand.Rand) (pieces []Piece) {
	for at := uint64(0); at < whole.Count; {
		run := 1 + random.Uint64N(min(whole.Count-at, max(64, whole.Count/32)))
		if random.IntN(2) == 0 {
			pieces = append(pieces, Piece{whole.Entry, at, run})
		}
		at += run
	}
	return pieces
}

// shuffle reorders what may be: a write that is durable on completion comes after nothing that was asked
// for later.
func (l *Log) shuffle(pieces []Piece, random *rand.Rand) {
	for from := 0; from < len(pieces); {
		to := from
		for to < len(pieces) && !l.entries[pieces[to].Entry].Is(FUA) {
			to++
		}
		part := pieces[from:to]
		random.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
		from = to + 1
	}
}

// All is the cut that loses nothing of the entries [begin, end).
func (l *Log) All(begin, end int) Cut {
	cut := Cut{Durable: begin, At: end, Kind: "nothing lost"}
	for i := begin; i < end; i++ {
		if n := l.entries[i].Sectors; n > 0 {
			cut.Pieces = append(cut.Pieces, Piece{Entry: i, Count: n})
		}
	}
	return cut
}
