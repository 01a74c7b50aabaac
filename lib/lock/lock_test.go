package lock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/lib/exit"
	"golang.org/x/sys/unix"
)

var errHeld = errors.New("the lock is held by somebody")

func held() error { return errHeld }

// locked is a file whose lock somebody holds, and opened by another one.
func locked(t *testing.T) (holder, other *os.File) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "lock")
	var files []*os.File
	for range 2 {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		files = append(files, f)
	}
	if err := Take(t.Context(), files[0], held); err != nil {
		t.Fatal(err)
	}
	return files[0], files[1]
}

func TestBusyAtOnce(t *testing.T) {
	_, other := locked(t)
	err := Take(t.Context(), other, held)
	if !errors.Is(err, errHeld) || exit.Code(err) != exit.Busy || exit.HintOf(err) != "" {
		t.Errorf("%v (%d), hint %q", err, exit.Code(err), exit.HintOf(err))
	}
	err = Take(With(t.Context(), Wait{}), other, held)
	if exit.Code(err) != exit.Busy || !strings.Contains(exit.HintOf(err), "--wait") {
		t.Errorf("%v, hint %q", err, exit.HintOf(err))
	}
}

func TestWaits(t *testing.T) {
	holder, other := locked(t)
	var told []string
	ctx := With(t.Context(), Wait{Asked: true, Tell: func(m string) {
		told = append(told, m)
		holder.Close() // once it waits, and not before
	}})
	if err := Take(ctx, other, held); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || told[0] != "waiting: the lock is held by somebody" {
		t.Errorf("told %q", told)
	}
	again, err := os.Open(other.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := Take(t.Context(), again, held); exit.Code(err) != exit.Busy {
		t.Errorf("the lock was not taken: %v", err)
	}
}

func TestGivesUp(t *testing.T) {
	holder, other := locked(t)
	err := Take(With(t.Context(), Wait{Asked: true, Limit: time.Millisecond}), other, held)
	if exit.Code(err) != exit.Busy || !strings.Contains(err.Error(), "still after 1ms") {
		t.Errorf("%v (%d)", err, exit.Code(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = Take(With(ctx, Wait{Asked: true, Tell: func(string) { cancel() }}), other, held)
	if err = exit.Cancelled(ctx, err); exit.Code(err) != exit.Interrupted {
		t.Errorf("%v (%d)", err, exit.Code(err))
	}
	// Who gave up keeps nothing, though the kernel wakes it later.
	other.Close()
	holder.Close()
	again, err := os.Open(holder.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := unix.Flock(int(again.Fd()), unix.LOCK_EX); err != nil { // which waits, for ever if need be
		t.Fatal(err)
	}
}

func TestArguments(t *testing.T) {
	for want, w := range map[string]Wait{
		"": {}, "--wait": {Asked: true}, "--wait=5m0s": {Asked: true, Limit: 5 * time.Minute},
	} {
		if have := strings.Join(Arguments(With(t.Context(), w)), " "); have != want {
			t.Errorf("%+v: %q", w, have)
		}
	}
	for text, ok := range map[string]bool{"infinity": true, "5m": true, "0s": false, "-1s": false, "true": false, "": false} {
		if _, err := ParseLimit(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestHeard(t *testing.T) {
	var told []string
	ctx := With(t.Context(), Wait{Tell: func(m string) { told = append(told, m) }})
	for _, line := range []string{"tool: waiting: the lock is held by x", `{"message_type":"info","text":"waiting: by y"}`, "tool: fetches"} {
		Heard(ctx, line)
	}
	if have := strings.Join(told, "|"); have != "waiting: the lock is held by x|waiting: by y" {
		t.Error(have)
	}
	Heard(t.Context(), "waiting: nobody listens")
}
