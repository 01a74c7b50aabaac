package pull

import (
	"io"
	"sync"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
)

// Progress is told how many bytes of how many have been fetched, at most every
// tenth of a second and at the end. Layers of unknown size count as nothing in
// total until they are done. It is never called by two goroutines at once.
type Progress func(done, total int64)

const progressEvery = 100 * time.Millisecond

// bar adds up what several layers have fetched.
type bar struct {
	tell  Progress
	mu    sync.Mutex
	done  map[int]int64 // by layer
	total int64
	last  time.Time
}

func newBar(tell Progress, img *source.Image, indices []int, survey *Survey) *bar {
	b := &bar{tell: tell, done: make(map[int]int64)}
	for _, i := range indices {
		b.total += survey.ToFetch(img, i)
	}
	return b
}

// reader reports what is fetched while r is read. A layer that is fetched
// again begins at 0.
func (b *bar) reader(i int, r *source.LayerReader) io.Reader {
	if b.tell == nil {
		return r
	}
	return &barReader{b, i, r}
}

type barReader struct {
	bar   *bar
	index int
	r     *source.LayerReader
}

func (r *barReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.bar.set(r.index, r.r.Fetched())
	return n, err
}

func (b *bar) set(i int, fetched int64) {
	if b.tell == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done[i] = fetched
	if now := time.Now(); now.Sub(b.last) >= progressEvery {
		b.last = now
		b.report()
	}
}

func (b *bar) report() {
	sum := int64(0)
	for _, n := range b.done {
		sum += n
	}
	b.tell(sum, max(sum, b.total))
}

func (b *bar) finish() {
	if b.tell == nil || len(b.done) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.report()
}
