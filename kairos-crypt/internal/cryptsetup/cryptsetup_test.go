package cryptsetup_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/cryptsetup"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/crypttest"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
)

func TestMain(m *testing.M) { crypttest.Main(m) }

func read(t *testing.T, disk string) *luks.Header {
	t.Helper()
	file, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	header, err := luks.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return header
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A volume's life with the real cryptsetup, watched through package luks.
func TestVolume(t *testing.T) {
	crypttest.Programs(t, "cryptsetup")
	ctx, disk := t.Context(), crypttest.Disk(t)
	// Keys are bytes: a newline or a NUL doesn't end them.
	first, second := []byte("first\nkey\x00"), []byte("second key")

	must(t, cryptsetup.Format(ctx, disk, first, cryptsetup.Random, "COS_PERSISTENT"))
	header := read(t, disk)
	if header.Label != "COS_PERSISTENT" || header.UUID == "" || header.Damaged != nil {
		t.Errorf("header = %+v", header)
	}
	if slots := header.Metadata.Bound(); !slices.Equal(slots, []int{0}) {
		t.Errorf("slots after format: %v", slots)
	}

	must(t, cryptsetup.AddKey(ctx, disk, 3, first, second, cryptsetup.Random))
	must(t, cryptsetup.ImportToken(ctx, disk, 5, luks.Recovery(3)))
	metadata := read(t, disk).Metadata
	if slots := metadata.Bound(); !slices.Equal(slots, []int{0, 3}) {
		t.Errorf("slots after a second key: %v", slots)
	}
	if kdf := metadata.Keyslots[3].KDF; kdf != "pbkdf2" {
		t.Errorf("slot 3 uses %s", kdf)
	}
	if token := metadata.Tokens[5]; token.Type != luks.TypeRecovery || !slices.Equal(metadata.TokensOf(3), []int{5}) {
		t.Errorf("token 5 = %+v", token)
	}

	must(t, cryptsetup.Test(ctx, disk, 3, second))
	must(t, cryptsetup.Test(ctx, disk, -1, first))
	for _, wrong := range []struct {
		slot int
		key  string
	}{{3, string(first)}, {-1, "first"}, {-1, "second key\n"}} {
		if err := cryptsetup.Test(ctx, disk, wrong.slot, []byte(wrong.key)); !errors.Is(err, cryptsetup.ErrWrongKey) {
			t.Errorf("slot %d with %q: %v", wrong.slot, wrong.key, err)
		}
	}

	must(t, cryptsetup.RemoveToken(ctx, disk, 5))
	must(t, cryptsetup.KillSlot(ctx, disk, 0))
	metadata = read(t, disk).Metadata
	if len(metadata.Tokens) != 0 || !slices.Equal(metadata.Bound(), []int{3}) {
		t.Errorf("after removal: tokens %v, slots %v", metadata.Tokens, metadata.Bound())
	}
	must(t, cryptsetup.Erase(ctx, disk))
	if slots := read(t, disk).Metadata.Keyslots; len(slots) != 0 {
		t.Errorf("slots after erase: %v", slots)
	}
	if err := cryptsetup.Test(ctx, disk, -1, second); err == nil {
		t.Error("an erased volume opens")
	}
}

// A typed secret is slowed down by argon2id with the cost that cryptsetup chooses
// for this machine, which is never below its own minimum. The script that makes
// it cheap for the other tests has no part in this one.
func TestTypedCost(t *testing.T) {
	directories := slices.DeleteFunc(filepath.SplitList(os.Getenv("PATH")), func(dir string) bool {
		return strings.HasSuffix(dir, "crypttest/bin")
	})
	t.Setenv("PATH", strings.Join(directories, ":"))
	crypttest.Programs(t, "cryptsetup")
	disk := crypttest.Disk(t)
	must(t, cryptsetup.Format(t.Context(), disk, []byte("typed"), cryptsetup.Typed, ""))
	out, err := exec.Command("cryptsetup", "luksDump", "--dump-json-metadata", disk).Output()
	must(t, err)
	var metadata struct {
		Keyslots map[string]struct {
			KDF struct {
				Type         string
				Time, Memory int
			}
		}
	}
	must(t, json.Unmarshal(out, &metadata))
	if kdf := metadata.Keyslots["0"].KDF; kdf.Type != "argon2id" || kdf.Time < 4 || kdf.Memory < 64<<10 {
		t.Errorf("a typed secret costs %+v: want argon2id, 4 passes or more over 64 MiB or more", kdf)
	}
}

// The volume key is what cryptsetup writes into a file.
func TestVolumeKey(t *testing.T) {
	crypttest.Programs(t, "cryptsetup")
	disk, file := crypttest.Disk(t), t.TempDir()+"/key"
	must(t, cryptsetup.Format(t.Context(), disk, []byte("key"), cryptsetup.Random, ""))
	got, err := cryptsetup.VolumeKey(t.Context(), disk, 0, []byte("key"))
	must(t, err)
	dump := exec.Command("cryptsetup", "luksDump", "--dump-volume-key", "--batch-mode", "--volume-key-file", file, "--key-file", "-", disk)
	dump.Stdin = strings.NewReader("key")
	if out, err := dump.CombinedOutput(); err != nil {
		t.Fatalf("cryptsetup: %v: %s", err, out)
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if len(got) == 0 || !bytes.Equal(got, want) {
		t.Errorf("a key of %d bytes, want %d, or another one", len(got), len(want))
	}
	if _, err := cryptsetup.VolumeKey(t.Context(), disk, 0, []byte("wrong")); !errors.Is(err, cryptsetup.ErrWrongKey) {
		t.Errorf("wrong key: %v", err)
	}
}

// One copy of the header may be lost, wherever cryptsetup put the other.
func TestDamagedCopies(t *testing.T) {
	crypttest.Programs(t, "cryptsetup")
	disk := crypttest.Disk(t)
	must(t, cryptsetup.Format(t.Context(), disk, []byte("key"), cryptsetup.Random, ""))
	good, err := os.ReadFile(disk)
	must(t, err)
	uuid := read(t, disk).UUID
	for name, offset := range map[string]int{"primary": 5000, "secondary": 16<<10 + 5000} {
		bad := slices.Clone(good[:1<<20])
		bad[offset] ^= 1
		must(t, os.WriteFile(disk, bad, 0o600))
		header := read(t, disk)
		if header.UUID != uuid || header.Damaged == nil || !strings.Contains(header.Damaged.Error(), name) {
			t.Errorf("%s damaged: %+v", name, header)
		}
		bad[5000], bad[16<<10+5000] = 'x', 'x'
		must(t, os.WriteFile(disk, bad, 0o600))
		file, err := os.Open(disk)
		must(t, err)
		if _, err := luks.Read(file); err == nil || errors.Is(err, luks.ErrNotLUKS2) {
			t.Errorf("both damaged: %v", err)
		}
		file.Close()
	}
}

// An old copy of the header that is put back beside the newer one does not count:
// a slot that was erased stays so. Both copies put back are the volume as it was,
// which nothing on the disk can tell; what tells is PCR 15 for secrets elsewhere.
func TestReplayedCopy(t *testing.T) {
	crypttest.Programs(t, "cryptsetup")
	disk := crypttest.Disk(t)
	must(t, cryptsetup.Format(t.Context(), disk, []byte("old"), cryptsetup.Random, ""))
	must(t, cryptsetup.AddKey(t.Context(), disk, 1, []byte("old"), []byte("new"), cryptsetup.Random))
	before, err := os.ReadFile(disk)
	must(t, err)
	must(t, cryptsetup.KillSlot(t.Context(), disk, 0))
	after, err := os.ReadFile(disk)
	must(t, err)
	const size = 16 << 10 // of a copy
	for name, at := range map[string]int{"primary": 0, "secondary": size} {
		mixed := slices.Clone(after)
		copy(mixed[at:at+size], before[at:at+size])
		must(t, os.WriteFile(disk, mixed, 0o600))
		if slots := read(t, disk).Metadata.Bound(); !slices.Equal(slots, []int{1}) {
			t.Errorf("an old %s copy brings back slots %v", name, slots)
		}
		if err := cryptsetup.Test(t.Context(), disk, 0, []byte("old")); err == nil {
			t.Errorf("an old %s copy brings back the old key", name)
		}
	}
}

// cryptsetup's own words come back in the error.
func TestError(t *testing.T) {
	crypttest.Programs(t, "cryptsetup")
	err := cryptsetup.KillSlot(t.Context(), crypttest.Disk(t), 0)
	if err == nil || !strings.Contains(err.Error(), "cryptsetup luksKillSlot: ") {
		t.Errorf("error = %v", err)
	}
}
