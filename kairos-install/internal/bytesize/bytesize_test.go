package bytesize

import "testing"

func TestFormat(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", KiB: "1 KiB", 1536: "1.5 KiB", 64 * MiB: "64 MiB", 3800 * MiB: "3.7 GiB", GiB: "1 GiB", 1 << 41: "2 TiB",
	} {
		if got := Format(n); got != want {
			t.Errorf("Format(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestRoundUp(t *testing.T) {
	for _, c := range [][3]int64{{0, 4, 0}, {1, 4, 4}, {4, 4, 4}, {5, 4, 8}} {
		if got := RoundUp(c[0], c[1]); got != c[2] {
			t.Errorf("RoundUp(%d, %d) = %d, want %d", c[0], c[1], got, c[2])
		}
	}
}
