package terminal

import "testing"

func TestBytes(t *testing.T) {
	const kib, mib, gib = 1 << 10, 1 << 20, 1 << 30
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", kib: "1 KiB", 1536: "1.5 KiB", 64 * mib: "64 MiB", 3800 * mib: "3.7 GiB", gib: "1 GiB", gib - 1: "1024.0 MiB",
		2*gib + 1: "2.0 GiB", 1 << 41: "2 TiB", 5 << 50: "5120 TiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}
