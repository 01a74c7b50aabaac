package transaction

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
	"github.com/kairos-io/toolkit/lib/exit"
)

func holder() store.Holder {
	return store.Holder{PID: os.Getpid(), Command: "stage", Reference: "quay.io/x/y:1", Since: time.Now()}
}

func open(t *testing.T) (*store.Store, string) {
	t.Helper()
	dir := t.TempDir()
	v, err := view.Writable(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Create(t.Context(), v, holder())
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// What one process publishes, another reads; and it is believed only as long
// as the lock says the same.
func TestPublished(t *testing.T) {
	s, dir := open(t)
	b := Board{filepath.Join(t.TempDir(), "new", "dir"), s.Key()}
	if _, err := b.Read(); !errors.Is(err, ErrNone) {
		t.Errorf("before: %v", err)
	}
	if state := b.Running(s); state == nil || state.Operation != "stage" || state.Phase != "" {
		t.Errorf("a holder that publishes nothing: %+v", state)
	}
	p := b.Publish(New(*s.Busy(), Caller{UID: 1, PID: 2}), nil)
	p.Observe(progress.Snapshot{Phase: "fetch", Done: 5, Total: 10, ETA: 90 * time.Second, Message: "a line"})
	state := b.Running(s)
	if state == nil || state.Phase != "fetch" || state.Done != 5 || state.ETA != 90 || state.Progress.ETA != 90*time.Second || state.StartedBy != (Caller{UID: 1, PID: 2}) || state.Message != "a line" {
		t.Errorf("%+v", state)
	}
	p.Finish(errors.New("full"), exit.NoSpace, "make room")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	v, err := view.Readonly(dir)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := store.Open(v)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if state := b.Running(reader); state != nil {
		t.Errorf("nobody holds the lock, and there is %+v", state)
	}
	if reader.Key() != b.Name {
		t.Errorf("the key is %q for a reader, not %q", reader.Key(), b.Name)
	}
	last, err := b.Read()
	if err != nil || !last.Completed || exit.Code(last.Err()) != exit.NoSpace || exit.HintOf(last.Err()) != "make room" {
		t.Errorf("%+v, %v", last, err)
	}
}

func TestFollow(t *testing.T) {
	b := Board{t.TempDir(), "x"}
	p := b.Publish(New(holder(), Caller{}), nil)
	first, err := b.Read()
	if err != nil {
		t.Fatal(err)
	}
	var phases []string
	last, err := b.Follow(t.Context(), first, func(s State) {
		phases = append(phases, fmt.Sprint(s.Phase, s.Completed))
		switch s.Phase { // the next step, when this one was told
		case "":
			p.Observe(progress.Snapshot{Phase: "fetch"})
		case "fetch":
			if !s.Completed {
				p.Finish(nil, exit.OK, "")
			}
		}
	})
	if err != nil || !last.Completed || last.Err() != nil {
		t.Errorf("%+v, %v", last, err)
	}
	if want := []string{"false", "fetchfalse", "fetchtrue"}; !reflect.DeepEqual(phases, want) {
		t.Errorf("%q, want %q", phases, want)
	}
}

// The end of a process that says nothing is an end, whether it was there or
// not when it was looked for; and who follows may stop.
func TestFollowKilled(t *testing.T) {
	b := Board{t.TempDir(), "x"}
	process := exec.Command("cat")
	in, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	h := holder()
	h.PID = process.Process.Pid
	b.Publish(New(h, Caller{}), nil)
	state, err := b.Read()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := b.Follow(ctx, state, func(State) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	if _, err := b.Follow(t.Context(), state, func(State) { in.Close() }); !errors.Is(err, ErrKilled) {
		t.Errorf("ended: %v", err)
	}
	process.Wait()
	if _, err := b.Follow(t.Context(), state, func(State) {}); !errors.Is(err, ErrKilled) {
		t.Errorf("gone before: %v", err)
	}
}

// Right after the lock was taken, the last transaction is still published.
func TestFollowFromTheBeginning(t *testing.T) {
	b := Board{t.TempDir(), "x"}
	h := holder()
	b.Publish(New(h, Caller{}), nil).Finish(errors.New("failed"), exit.Failed, "")
	h.Since = h.Since.Add(time.Second)
	last, err := b.Follow(t.Context(), New(h, Caller{}), func(s State) {
		if !s.Completed && s.Phase == "" {
			p := b.Publish(New(h, Caller{}), nil)
			p.Observe(progress.Snapshot{Phase: "fetch"})
			p.Finish(nil, exit.OK, "")
		}
	})
	if err != nil || !last.Completed || last.Err() != nil || last.Phase != "fetch" {
		t.Errorf("%+v, %v", last, err)
	}
}

// The next transaction is not taken for the one that is followed.
func TestFollowMissed(t *testing.T) {
	b := Board{t.TempDir(), "x"}
	h := holder()
	first := New(h, Caller{})
	h.Since = h.Since.Add(time.Second)
	b.Publish(New(h, Caller{}), nil)
	if last, err := b.Follow(t.Context(), first, func(State) {}); err == nil || last.ID != first.ID {
		t.Errorf("%+v, %v", last, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"id":"1764039600123","operation":"stage","reference":"quay.io/x/y:1","pid":4711,"started_by":{"uid":0,"pid":4711},"since":"2026-01-02T03:04:05Z","phase":"fetch","bytes_done":5,"bytes_total":10,"rate":1,"reused":0,"reused_of":0,"message":"","eta":5,"completed":false,"status":0,"error":"","hint":""}`))
	f.Add([]byte(`{"id":"01"}`))
	f.Add([]byte(`{"id":"1","eta":9223372036854775807,"bytes_done":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s State
		err := json.Unmarshal(data, &s)
		if err == nil {
			s, err = checked(s)
		}
		if err != nil {
			return
		}
		for _, r := range s.ID {
			if r < '0' || r > '9' {
				t.Errorf("id %q", s.ID)
			}
		}
		if s.Progress.ETA < 0 || s.Done < 0 || s.Total < 0 || s.PID < 0 {
			t.Errorf("%+v", s)
		}
		progress.Text(s.Progress)
	})
}
