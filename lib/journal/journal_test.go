package journal

import (
	"net"
	"path/filepath"
	"testing"
)

func TestSend(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "socket")
	listener, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	err = Send(socket, Entry{
		Program: "kairos-test", Message: "bad", MessageID: BootBad, Priority: 3,
		Fields: map[string]string{"KAIROS_REASON": "two\nlines", "KAIROS_DEPLOYMENT": "3-x"},
	})
	if err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	n, err := listener.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	want := "MESSAGE=bad\nMESSAGE_ID=" + BootBad + "\nPRIORITY=3\nSYSLOG_IDENTIFIER=kairos-test\n" +
		"KAIROS_DEPLOYMENT=3-x\nKAIROS_REASON\n\x09\x00\x00\x00\x00\x00\x00\x00two\nlines\n"
	if got := string(buffer[:n]); got != want {
		t.Errorf("sent\n%q\nwant\n%q", got, want)
	}
	if err := Send(socket+"x", Entry{}); err == nil {
		t.Error("no error without a journal")
	}
}
