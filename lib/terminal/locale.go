package terminal

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"time"
)

// UTF8 reports whether the locale of this process can show more than ASCII.
func UTF8() bool {
	charset := strings.ToLower(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG")))
	return strings.HasSuffix(strings.ReplaceAll(charset, "-", ""), "utf8")
}

// Mark is the first thing that the eye catches in a list: ● for what runs, → for
// what comes next, × for what is bad, or what stands for them in ASCII.
func Mark(mark string) string {
	if !UTF8() {
		return strings.NewReplacer("●", "*", "→", ">", "×", "x", "…", "...").Replace(mark)
	}
	return mark
}

// Time is a time as people read it, with its zone.
func Time(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }

// Bytes is a size as people read it.
func Bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
