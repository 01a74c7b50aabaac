package turns

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestLine lets many wait in any order: the heaviest begin, and never more than may at once.
func TestLine(t *testing.T) {
	for atOnce := 1; atOnce <= 3; atOnce++ {
		synctest.Test(t, func(t *testing.T) {
			line := New(atOnce)
			weights := []int{5, 9, 1, 9, 3, 7, 2, 8}
			rand.Shuffle(len(weights), func(i, j int) { weights[i], weights[j] = weights[j], weights[i] })
			for _, w := range weights {
				line.join(w)
			}
			var mu sync.Mutex
			var order []int
			running := 0
			for _, w := range weights {
				go func() {
					line.wait(w)
					mu.Lock()
					order = append(order, w)
					running++
					if running > atOnce {
						t.Errorf("%d run at once, want %d", running, atOnce)
					}
					mu.Unlock()
					time.Sleep(time.Duration(w) * time.Second) // by synctest's clock
					mu.Lock()
					running--
					mu.Unlock()
					line.leave()
				}()
			}
			time.Sleep(time.Hour)
			synctest.Wait() // all have ended: nobody reads weights or writes order any more
			slices.SortFunc(weights, func(a, b int) int { return b - a })
			// Those that begin at the same moment may say so in any order.
			for i := range order {
				if i >= atOnce && order[i] > order[i-atOnce] {
					t.Errorf("of %d at once the order was %v", atOnce, order)
				}
			}
			slices.SortFunc(order, func(a, b int) int { return b - a })
			if !slices.Equal(order, weights) {
				t.Errorf("of %d at once there came %v, want %v", atOnce, order, weights)
			}
		})
	}
}
