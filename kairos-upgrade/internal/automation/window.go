package automation

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Window is a range of hours on some days of the week, in local time. A window past
// midnight belongs to the day on which it begins.
type Window struct {
	days     [7]bool // by time.Weekday
	from, to int     // minutes since midnight; to <= from: on the next day
}

const day = 24 * 60 // minutes

// ParseWindow reads "Sat,Sun 02:00..04:00", "Mon..Fri 22:00..05:30" or, for
// every day, "02:00..04:00": days and hours as in calendar events of
// systemd.time(7).
func ParseWindow(s string) (w Window, err error) {
	wrong := fmt.Errorf("window %q: not of the form DAYS HH:MM..HH:MM, as in Sat,Sun 02:00..04:00", s)
	fields := strings.Fields(s)
	switch len(fields) {
	case 1:
		for i := range w.days {
			w.days[i] = true
		}
	case 2:
		if !w.parseDays(fields[0]) {
			return Window{}, wrong
		}
	default:
		return Window{}, wrong
	}
	from, to, ok := strings.Cut(fields[len(fields)-1], "..")
	var okFrom, okTo bool
	w.from, okFrom = parseTime(from)
	w.to, okTo = parseTime(to)
	if !ok || !okFrom || !okTo || w.from == day || w.from == w.to {
		return Window{}, wrong
	}
	return w, nil
}

func (w *Window) parseDays(s string) bool {
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "..")
		a, okA := parseDay(first)
		b, okB := a, true
		if isRange {
			b, okB = parseDay(last)
		}
		if !okA || !okB {
			return false
		}
		for d := a; ; d = (d + 1) % 7 {
			w.days[d] = true
			if d == b {
				break
			}
		}
	}
	return true
}

func parseDay(s string) (time.Weekday, bool) {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if strings.EqualFold(s, d.String()) || strings.EqualFold(s, d.String()[:3]) {
			return d, true
		}
	}
	return 0, false
}

// parseTime reads HH:MM up to 24:00.
func parseTime(s string) (minutes int, ok bool) {
	hour, minute, found := strings.Cut(s, ":")
	h, errH := strconv.ParseUint(hour, 10, 8)
	m, errM := strconv.ParseUint(minute, 10, 8)
	if !found || errH != nil || errM != nil || len(hour) > 2 || len(minute) != 2 || h > 24 || m > 59 || h == 24 && m > 0 {
		return 0, false
	}
	return int(h*60 + m), true
}

// Contains reports whether a time is in the window, by the local time of its zone.
func (w Window) Contains(t time.Time) bool {
	now, today := t.Hour()*60+t.Minute(), t.Weekday()
	if w.from < w.to {
		return w.days[today] && w.from <= now && now < w.to
	}
	yesterday := (today + 6) % 7
	return w.days[today] && now >= w.from || w.days[yesterday] && now < w.to
}

// Windows are several; none at all is any time.
type Windows []Window

// Contains reports whether a time is in any of the windows.
func (ws Windows) Contains(t time.Time) bool {
	for _, w := range ws {
		if w.Contains(t) {
			return true
		}
	}
	return len(ws) == 0
}

// Next returns when the next window opens after a moment.
func (ws Windows) Next(t time.Time) (next time.Time) {
	for _, w := range ws {
		for i := range 8 {
			open := time.Date(t.Year(), t.Month(), t.Day()+i, 0, w.from, 0, 0, t.Location())
			if w.days[open.Weekday()] && open.After(t) {
				if next.IsZero() || open.Before(next) {
					next = open
				}
				break
			}
		}
	}
	return next
}
