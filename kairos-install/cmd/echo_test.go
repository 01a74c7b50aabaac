package cmd

import (
	"bufio"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHideEcho types on a pseudo-terminal: what is hidden does not come back, what is
// typed after that does.
func TestHideEcho(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer master.Close()
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer tty.Close()
	typed, shown := bufio.NewReader(tty), bufio.NewReader(master)
	enter := func(text string) {
		t.Helper()
		if _, err := master.WriteString(text + "\n"); err != nil {
			t.Fatal(err)
		}
		if got, err := typed.ReadString('\n'); err != nil || got != text+"\n" {
			t.Fatalf("typed %q, %v", got, err)
		}
	}
	restore, err := hideEcho(tty)
	if err != nil {
		t.Fatal(err)
	}
	enter("secret")
	restore()
	enter("plain")
	if got, err := shown.ReadString('n'); err != nil || got != "plain" {
		t.Errorf("shown %q, %v", got, err)
	}
}
