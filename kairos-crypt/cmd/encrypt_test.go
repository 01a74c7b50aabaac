package cmd

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/crypttest"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
	"github.com/kairos-io/toolkit/lib/exit"
)

// kills is how often an encryption is killed in its midst before it may end, and
// attempts in how many runs that has to come about.
const (
	kills    = 3
	attempts = 40
)

// An encryption in place that is killed again and again comes to its end, and
// the data is what it was. It is in a file, which cryptsetup encrypts without
// the kernel; what remains for the virtual machine is a block device.
func TestEncryptKilled(t *testing.T) {
	crypttest.Programs(t, "cryptsetup", "mkfs.ext4", "e2fsck", "resize2fs", "debugfs")
	t.Setenv("TPM", crypttest.SWTPM(t))
	t.Chdir(t.TempDir())
	contents := map[string][]byte{"large": make([]byte, 40<<20), "dir/small": []byte("kept\n")}
	_, _ = rand.Read(contents["large"])
	must(t, os.MkdirAll("tree/dir", 0o755))
	for name, data := range contents {
		must(t, os.WriteFile(filepath.Join("tree", name), data, 0o644))
	}
	disk, err := filepath.Abs("disk")
	must(t, err)
	must(t, os.WriteFile(disk, nil, 0o600))
	must(t, os.Truncate(disk, 160<<20))
	output(t, "mkfs.ext4", "-q", "-b", "4096", "-L", "COS_OEM", "-d", "tree", disk)

	output(t, "kairos-crypt", "encrypt", "--dry-run", disk)
	if _, err := volume.Open(disk); err == nil {
		t.Fatal("a plan encrypts")
	}
	plain, err := os.ReadFile(disk)
	must(t, err)
	first := []string{"encrypt", "--yes", "--label", "COS_OEM", "--save-recovery-key", "recovery", disk}
	args := first
	random, before, midst := mathrand.New(mathrand.NewPCG(1, 2)), 0, 0
	earliest, latest := time.Duration(0), 5*time.Second // what is in the midst of it, on this machine, as far as is known
	for attempt := 0; midst < kills && attempt < attempts; attempt++ {
		if latest-earliest < time.Millisecond { // the machine is slower, or faster, than it was
			earliest, latest = 0, 2*latest+time.Second
		}
		after := earliest + time.Duration(random.Int64N(int64(latest-earliest)))
		if !killedAt(t, after, attempt%2 == 0, disk, args) { // it was faster: once more
			latest = after
			os.Remove("recovery")
			must(t, os.WriteFile(disk, plain, 0o600))
			args = first
			continue
		}
		if _, err := volume.Open(disk); err != nil { // before the header: from the start
			earliest = after
			os.Remove("recovery")
			before++
			continue
		}
		status := output(t, "kairos-crypt", "status", "--json", disk)
		if strings.Contains(status, `"conversion":true`) {
			midst++
			if !strings.Contains(status, `"kind":"recovery-key"`) {
				t.Fatalf("in the midst of it: %s", status)
			}
		}
		args, earliest = []string{"encrypt", "--json", "--key-file", "recovery", "--label", "COS_OEM", disk}, 0
	}
	t.Logf("killed %d times before there was a header, %d times in the midst of it", before, midst)
	if midst == 0 {
		t.Error("it was never killed in its midst")
	}
	if out, err := exec.Command("kairos-crypt", args...).CombinedOutput(); err != nil && !strings.Contains(string(out), "is encrypted") {
		t.Fatalf("the last time: %v: %s", err, out)
	}
	v, err := volume.Open(disk)
	must(t, err)
	if v.Header.Metadata.Conversion() || v.Header.Label != "COS_OEM" || len(v.Slots) == 0 || v.Slots[0].Kind != volume.Recovery {
		t.Errorf("volume %+v", v)
	}
	output(t, "kairos-crypt", "unlock", "--check", "--key-file", "recovery", disk)
	raw, err := os.ReadFile(disk)
	must(t, err)
	if bytes.Contains(raw, contents["large"][:4096]) || bytes.Contains(raw, contents["large"][30<<20:30<<20+4096]) || bytes.Contains(raw, contents["dir/small"]) {
		t.Error("plain data is left on the disk")
	}
	compare(t, disk, contents)
}

// compare has cryptsetup decrypt a volume, again in place, and looks whether its
// file system holds just what it should.
func compare(t *testing.T, disk string, contents map[string][]byte) {
	t.Helper()
	key, err := os.ReadFile("recovery")
	must(t, err)
	must(t, os.WriteFile("key", bytes.TrimSpace(key), 0o600))
	output(t, "cryptsetup", "reencrypt", "--decrypt", "--batch-mode", "--force-offline-reencrypt", "--header", "header", "--key-file", "key", disk)
	output(t, "e2fsck", "-f", "-n", disk)
	for name, want := range contents {
		output(t, "debugfs", "-R", fmt.Sprintf("dump /%s got", name), disk)
		if got, err := os.ReadFile("got"); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v, want %d, or others", name, len(got), err, len(want))
		}
		os.Remove("got")
	}
}

// killedAt runs kairos-crypt and kills it: with all that it runs, as a power cut
// does, or alone, when the program that it runs is asked to end, and may first do
// what it is at. It returns when that has ended too: the lock says so.
func killedAt(t *testing.T, after time.Duration, all bool, disk string, args []string) bool {
	t.Helper()
	command := exec.Command("kairos-crypt", args...)
	must(t, command.Start())
	timer := time.AfterFunc(after, func() {
		if all { // stopped, it can't tell that the others are killed before it
			_ = command.Process.Signal(syscall.SIGSTOP)
			for _, child := range children(command.Process.Pid) {
				_ = syscall.Kill(child, syscall.SIGKILL)
			}
		}
		_ = command.Process.Kill()
	})
	err := command.Wait()
	timer.Stop()
	for range 600 {
		_, unlock, err := volume.Lock(t.Context(), fakeMachine().Locks, disk)
		if err == nil {
			unlock()
			break
		}
		if !errors.Is(err, volume.ErrBusy) {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err != nil && strings.Contains(err.Error(), "killed")
}

// children are the processes that a process has started.
func children(pid int) []int {
	var found []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				found = append(found, child)
			}
		}
	}
	return found
}

// A cryptsetup that outlives its kairos-crypt keeps the lock: until it has ended,
// nobody else writes to the device.
func TestLockOfTheKilled(t *testing.T) {
	crypttest.Programs(t, "wipefs")
	t.Chdir(t.TempDir())
	must(t, os.WriteFile("cryptsetup", []byte("#!/bin/sh\ntrap '' TERM\n: >started\nread line <end\n"), 0o755))
	must(t, syscall.Mkfifo("end", 0o600))
	here, err := os.Getwd()
	must(t, err)
	t.Setenv("PATH", here+":"+os.Getenv("PATH"))
	disk := crypttest.Disk(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	format := func() *exec.Cmd {
		return exec.CommandContext(ctx, "kairos-crypt", "format", "--yes", "--enroll", "none", disk)
	}

	killed := format()
	must(t, killed.Start())
	for range 600 {
		if _, err := os.Stat("started"); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	must(t, killed.Process.Kill())
	_ = killed.Wait()
	out, err := format().CombinedOutput()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != exit.Busy {
		t.Errorf("while cryptsetup runs: %v: %s", err, out)
	}
	must(t, os.WriteFile("end", []byte("\n"), 0))
	for range 600 {
		_, unlock, err := volume.Lock(t.Context(), fakeMachine().Locks, disk)
		if err == nil {
			unlock()
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("the lock outlives them all")
}

func output(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", program, args, err, out)
	}
	return string(out)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
