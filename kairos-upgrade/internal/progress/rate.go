package progress

import (
	"math"
	"time"
)

const (
	// memory is how fast the past is forgotten: what lies so far back counts
	// for 1/e.
	memory = 5 * time.Second
	// settle is how long it takes until a rate means anything.
	settle = 2 * time.Second
	// step is the shortest time between two samples.
	step = every / 2
)

// rate is a smoothed amount of bytes per second: it follows the line as it is
// now, not its average since the beginning, and yet does not jump.
type rate struct {
	began, last time.Time
	done        int64 // at last
	value       float64
	weight      float64 // what value is made of so far: 0 to 1
}

func (r *rate) restart(now time.Time) { *r = rate{began: now, last: now} }

// sample says how many bytes of the phase are done.
func (r *rate) sample(now time.Time, done int64) {
	dt := now.Sub(r.last)
	if dt < step {
		return
	}
	keep := math.Exp(-dt.Seconds() / memory.Seconds())
	r.value = r.value*keep + float64(done-r.done)/dt.Seconds()*(1-keep)
	r.weight = r.weight*keep + 1 - keep
	r.last, r.done = now, done
}

// given takes over the rate that somebody else has found.
func (r *rate) given(perSecond int64) {
	*r = rate{last: time.Unix(0, 0).Add(settle), began: time.Unix(0, 0), value: float64(perSecond), weight: 1}
}

// perSecond returns bytes per second, 0 while that is not known.
func (r *rate) perSecond() int64 {
	if r.weight == 0 || r.last.Sub(r.began) < settle {
		return 0
	}
	return max(0, int64(math.Round(r.value/r.weight)))
}
