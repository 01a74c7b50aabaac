// Package bytesize holds binary units of sizes in bytes, and rounds to them.
package bytesize

// Binary units.
const (
	KiB int64 = 1 << 10
	MiB int64 = 1 << 20
	GiB int64 = 1 << 30
)

// RoundUp returns the smallest multiple of unit that is at least n.
func RoundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
