package cmd

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/confine"
)

// When a staging speaks to a registry, what speaks has no rights. The registry is
// the one to look: it has the process' attention.
func TestStagingIsConfined(t *testing.T) {
	if !confine.Threads {
		t.Skip("built with cgo, which the product is not")
	}
	started := make(chan int)
	looked := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if pid, ok := <-started; ok {
			looked <- unconfined(reader(pid))
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	defer server.Close()
	dir := t.TempDir()
	for _, name := range []string{"store", "esp"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("kairos-upgrade", "stage", "--store", filepath.Join(dir, "store"), "--esp", filepath.Join(dir, "esp"),
		"--insecure", strings.TrimPrefix(server.URL, "http://")+"/x/y:1")
	cmd.Env = append(os.Environ(), "NODE="+dir)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case started <- cmd.Process.Pid:
		if err := <-looked; err != nil {
			t.Error(err)
		}
		close(started)
		<-ended
	case err := <-ended:
		t.Fatalf("it did not ask the registry: %v", err)
	}
}

// reader is the process that a staging has read images.
func reader(pid int) int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		data, _ := os.ReadFile(list)
		for child := range strings.FieldsSeq(string(data)) {
			if n, err := strconv.Atoi(child); err == nil {
				return n
			}
		}
	}
	return 0
}

// unconfined names a thread of a process that is not confined.
func unconfined(pid int) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		return fmt.Errorf("no threads: %w", err)
	}
	for _, thread := range threads {
		data, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		for _, want := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n", "CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n"} {
			if !strings.Contains(string(data), want) {
				return fmt.Errorf("%s has not %q:\n%s", thread, want, data)
			}
		}
	}
	return nil
}
