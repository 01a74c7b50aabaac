package terminal

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"time"
)

// UTF8 reports whether the locale of this process is UTF-8.
func UTF8() bool {
	charset := strings.ToLower(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG")))
	return strings.HasSuffix(strings.ReplaceAll(charset, "-", ""), "utf8")
}

// Mark returns the symbol at the start of a line in a list: ● for running, → for next,
// × for bad, or its ASCII replacement.
func Mark(mark string) string {
	if !UTF8() {
		return strings.NewReplacer("●", "*", "→", ">", "×", "x", "…", "...").Replace(mark)
	}
	return mark
}

// Time formats a time for people, with its zone.
func Time(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }

// Bytes formats a size in bytes with a binary unit and one decimal, which whole numbers
// lack: "3.7 GiB", "64 MiB". So what is just less than a whole number looks different.
func Bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	unit, i := int64(1), 0
	for ; n/unit >= 1024 && i < len(units)-1; i++ {
		unit *= 1024
	}
	if n%unit == 0 {
		return fmt.Sprintf("%d %s", n/unit, units[i])
	}
	return fmt.Sprintf("%.1f %s", float64(n)/float64(unit), units[i])
}
