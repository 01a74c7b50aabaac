package volume

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/cryptsetup"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/crypttest"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
)

func TestMain(m *testing.M) { crypttest.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLock(t *testing.T) {
	ctx, disk, directory := t.Context(), crypttest.Disk(t), t.TempDir()
	_, unlock, err := Lock(ctx, directory, disk)
	must(t, err)
	if _, _, err := Lock(ctx, directory, disk); !errors.Is(err, ErrBusy) {
		t.Errorf("a second lock: %v", err)
	}
	_, other, err := Lock(ctx, directory, crypttest.Disk(t))
	must(t, err)
	other()
	unlock()
	_, again, err := Lock(ctx, directory, disk)
	must(t, err)
	again()
}

// A slot whose enrolment was cut off before its token is no way in, though it
// looks like one to cryptsetup.
func TestOrphan(t *testing.T) {
	crypttest.Programs(t, "cryptsetup")
	ctx, disk, key := t.Context(), crypttest.Disk(t), []byte("key")
	must(t, cryptsetup.Format(ctx, disk, key, cryptsetup.Random, ""))
	must(t, cryptsetup.ImportToken(ctx, disk, 0, luks.Recovery(0)))
	must(t, cryptsetup.AddKey(ctx, disk, 1, key, []byte("random"), cryptsetup.Random))
	v, err := Open(disk)
	must(t, err)
	if v.Slots[0].Kind != Recovery || v.Slots[1].Kind != Orphan || v.Slots[1].Way() {
		t.Errorf("slots %v", v.Slots)
	}
	if err := v.Guard(v.Slots[0]); !errors.Is(err, ErrLastWay) {
		t.Errorf("guard: %v", err)
	}
}

// What can't be completed is taken back, and the volume is what it was.
func TestAddIsTakenBack(t *testing.T) {
	crypttest.Programs(t, "cryptsetup")
	ctx, disk, key := t.Context(), crypttest.Disk(t), []byte("key")
	must(t, cryptsetup.Format(ctx, disk, key, cryptsetup.Random, ""))
	v, err := Open(disk)
	must(t, err)
	_, err = v.Add(ctx, Enrollment{Key: key, New: []byte("new"), KDF: cryptsetup.Random,
		Token: func(int) (json.RawMessage, error) { return json.RawMessage(`{"type":"x","keyslots":["9"]}`), nil }})
	if err == nil {
		t.Fatal("a token for a slot that is not there was taken")
	}
	if len(v.Slots) != 1 || len(v.Header.Metadata.Tokens) != 0 {
		t.Errorf("left: slots %v, tokens %v", v.Slots, v.Header.Metadata.Tokens)
	}
	must(t, cryptsetup.Test(ctx, disk, 0, key))
}
