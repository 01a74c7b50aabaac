// Package bytesize formats sizes in bytes for people.
package bytesize

import "fmt"

// Binary units.
const (
	KiB int64 = 1 << 10
	MiB int64 = 1 << 20
	GiB int64 = 1 << 30
)

// Format returns n bytes with a binary unit and one decimal: "3.7 GiB". Whole
// numbers have none: "64 MiB".
func Format(n int64) string {
	unit, name := int64(1), "B"
	switch {
	case n >= 1<<40:
		unit, name = 1<<40, "TiB"
	case n >= GiB:
		unit, name = GiB, "GiB"
	case n >= MiB:
		unit, name = MiB, "MiB"
	case n >= KiB:
		unit, name = KiB, "KiB"
	}
	if n%unit == 0 {
		return fmt.Sprintf("%d %s", n/unit, name)
	}
	return fmt.Sprintf("%.1f %s", float64(n)/float64(unit), name)
}

// RoundUp returns the smallest multiple of unit that is at least n.
func RoundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
