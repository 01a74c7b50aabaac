// Package turns lets tests run beside each other, the longest first: were it the last, it would run alone in
// the end, and processors would stand idle. Package testing chooses the next one by chance.
package turns

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Line is where tests wait for their turn.
type Line struct {
	mu      sync.Mutex
	changed *sync.Cond
	free    int
	waiting []int // weights, the heaviest first
}

// New makes a line of which so many are served at once.
func New(atOnce int) *Line {
	l := &Line{free: atOnce}
	l.changed = sync.NewCond(&l.mu)
	return l
}

// FromFlags makes the line of a test program. It takes over what -parallel says, and must be called before
// the tests are run.
func FromFlags() (*Line, error) {
	flag.Parse()
	atOnce, err := strconv.Atoi(flag.Lookup("test.parallel").Value.String())
	if err != nil || atOnce < 1 {
		return nil, fmt.Errorf("-parallel must be 1 or more (%v)", err)
	}
	return New(atOnce), flag.Set("test.parallel", "1000")
}

// Take lets other tests run beside this one, and returns when it is this one's turn, which ends with the
// test. The weight is about the seconds that it takes.
func (l *Line) Take(t *testing.T, weight int) {
	t.Helper()
	l.join(weight)
	t.Parallel() // returns when all tests have come so far
	began := time.Now()
	l.wait(weight)
	t.Cleanup(l.leave)
	fmt.Printf("waited %.1f s for the turn of %s\n", time.Since(began).Seconds(), t.Name())
}

func (l *Line) join(weight int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, weight)
	slices.SortFunc(l.waiting, func(a, b int) int { return b - a })
}

func (l *Line) wait(weight int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.free == 0 || l.waiting[0] != weight {
		l.changed.Wait()
	}
	l.free, l.waiting = l.free-1, l.waiting[1:]
	l.changed.Broadcast()
}

func (l *Line) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free++
	l.changed.Broadcast()
}
