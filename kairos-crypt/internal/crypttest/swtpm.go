package crypttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// SWTPM starts a new software TPM and returns its socket. systemd uses it as
// "swtpm:path=SOCKET".
func SWTPM(t testing.TB) string {
	t.Helper()
	socket, _ := LoggedSWTPM(t)
	return socket
}

// LoggedSWTPM is SWTPM, and returns the name of a file in which the TPM logs every
// command and answer in hex.
func LoggedSWTPM(t testing.TB) (socket, log string) {
	t.Helper()
	Programs(t, "swtpm")
	dir, err := os.MkdirTemp("", "swtpm") // short: a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, log = filepath.Join(dir, "tpm"), filepath.Join(dir, "log")
	pidFile := filepath.Join(dir, "pid")
	// As a daemon, it comes back when its sockets are ready.
	out, err := exec.Command("swtpm", "socket", "--tpm2", "--daemon", "--tpmstate", "dir="+dir, "--pid", "file="+pidFile,
		"--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+".ctrl",
		"--log", "file="+log+",level=20", "--flags", "not-need-init,startup-clear").CombinedOutput()
	if err != nil {
		t.Fatalf("swtpm: %v: %s", err, out)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGTERM) })
	return socket, log
}
