package secret

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMemory(t *testing.T) {
	for name, allocate := range map[string]func() ([]byte, error){"hidden": hidden, "locked": locked} {
		mapped, err := allocate()
		if name == "hidden" && (err == unix.ENOSYS || err == unix.EPERM) {
			t.Logf("this kernel has no memfd_secret: %v", err)
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(mapped, make([]byte, MaxLength)) {
			t.Errorf("%s: not empty", name)
		}
		mapped[MaxLength-1] = 1
		(&Memory{mapped, 1}).Wipe()
	}
}

func TestTakeWipes(t *testing.T) {
	source := []byte("correct horse")
	m, err := Take(source)
	if err != nil {
		t.Fatal(err)
	}
	if string(m.Bytes()) != "correct horse" || !bytes.Equal(source, make([]byte, len(source))) {
		t.Errorf("took %q, left %q", m.Bytes(), source)
	}
	m.Wipe()
	m.Wipe()
	(*Memory)(nil).Wipe()
	if len(m.Bytes()) != 0 || len((*Memory)(nil).Bytes()) != 0 {
		t.Errorf("after wiping: %q", m.Bytes())
	}
	long := bytes.Repeat([]byte("x"), MaxLength+1)
	if _, err := Take(long); err == nil || !bytes.Equal(long, make([]byte, MaxLength+1)) {
		t.Errorf("too long: error %v, left %q", err, long[:4])
	}
}

// drawn is read back into modules: finder patterns stand in three corners, the
// margin is light.
func TestQR(t *testing.T) {
	drawn, err := QR(NewRecoveryKey())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(drawn), "\n"), "\n")
	dark := func(x, y int) bool {
		r := []rune(lines[y/2])[x]
		return r == ' ' || r == '▄' && y%2 == 0 || r == '▀' && y%2 == 1
	}
	size := len([]rune(lines[0])) - 2*quietZone
	finder := func(left, top int) bool {
		for y := range 7 {
			for x := range 7 {
				edge := min(x, y, 6-x, 6-y)
				if dark(left+x, top+y) != (edge != 1) {
					return false
				}
			}
		}
		return true
	}
	if !finder(quietZone, quietZone) || !finder(quietZone+size-7, quietZone) || !finder(quietZone, quietZone+size-7) {
		t.Errorf("no finder patterns:\n%s", drawn)
	}
	for y := range quietZone {
		for x := range size + 2*quietZone {
			if dark(x, y) || dark(y, x) {
				t.Fatalf("the margin is not light at %d,%d:\n%s", x, y, drawn)
			}
		}
	}
}
