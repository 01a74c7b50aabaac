package settings

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// spans are the units of systemd.time(7) that a time span can use.
var spans = map[string]time.Duration{
	"": time.Second, "s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
	"ms": time.Millisecond, "msec": time.Millisecond,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour,
}

// MaxTimeSpan is the largest time span that a setting may have.
const MaxTimeSpan = 24 * time.Hour

// ParseTimeSpan parses a time span of systemd.time(7), "90", "1min 30s",
// "1h": positive, at most a day.
func ParseTimeSpan(s string) (time.Duration, error) {
	wrong := fmt.Errorf("time span %q: not of the form of systemd.time(7), up to 24h", s)
	var sum time.Duration
	rest := strings.TrimSpace(s)
	for rest != "" {
		digits := len(rest) - len(strings.TrimLeftFunc(rest, unicode.IsDigit))
		n, err := strconv.ParseUint(rest[:digits], 10, 32)
		if err != nil {
			return 0, wrong
		}
		rest = strings.TrimSpace(rest[digits:])
		letters := len(rest) - len(strings.TrimLeftFunc(rest, unicode.IsLetter))
		unit, ok := spans[rest[:letters]]
		if !ok || n > uint64(MaxTimeSpan/unit) {
			return 0, wrong
		}
		rest = strings.TrimSpace(rest[letters:])
		if sum += time.Duration(n) * unit; sum > MaxTimeSpan {
			return 0, wrong
		}
	}
	if sum == 0 {
		return 0, wrong
	}
	return sum, nil
}
