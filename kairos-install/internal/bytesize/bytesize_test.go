package bytesize

import "testing"

func TestRoundUp(t *testing.T) {
	for _, c := range [][3]int64{{0, 4, 0}, {1, 4, 4}, {4, 4, 4}, {5, 4, 8}} {
		if got := RoundUp(c[0], c[1]); got != c[2] {
			t.Errorf("RoundUp(%d, %d) = %d, want %d", c[0], c[1], got, c[2])
		}
	}
}
