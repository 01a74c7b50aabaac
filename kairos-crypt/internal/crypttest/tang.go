package crypttest

import (
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Tang starts a new tang server and returns its URL and the thumbprint of its signing
// key. Like a systemd socket, the test listens and runs one tangd for each connection.
func Tang(t testing.TB) (url, thumbprint string) {
	t.Helper()
	Programs(t, "clevis", "/usr/libexec/tangd", "/usr/libexec/tangd-keygen", "tang-show-keys")
	keys := t.TempDir()
	if out, err := exec.Command("/usr/libexec/tangd-keygen", keys).CombinedOutput(); err != nil {
		t.Fatalf("tangd-keygen: %v: %s", err, out)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return // closed: the test is over
			}
			file, err := connection.(*net.TCPConn).File()
			connection.Close()
			if err != nil {
				t.Error(err)
				return
			}
			serving.Go(func() {
				defer file.Close()
				tangd := exec.Command("/usr/libexec/tangd", keys)
				tangd.Stdin, tangd.Stdout = file, file
				_ = tangd.Run() // what is wrong shows at the client
			})
		}
	})
	t.Cleanup(func() { listener.Close(); serving.Wait() })
	port := listener.Addr().(*net.TCPAddr).Port
	out, err := exec.Command("tang-show-keys", strconv.Itoa(port)).Output()
	if err != nil {
		t.Fatalf("tang-show-keys: %v", err)
	}
	return "http://127.0.0.1:" + strconv.Itoa(port), strings.TrimSpace(string(out))
}
