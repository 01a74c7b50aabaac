package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const luksJSON = `{"keyslots":{"0":{"type":"luks2"}},"tokens":{},` +
	`"segments":{"0":{"type":"crypt","offset":"16777216","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":512}},` +
	`"digests":{"0":{"type":"pbkdf2","keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":1000,"salt":"c2FsdA==","digest":"ZGlnZXN0"}},` +
	`"config":{"json_size":"12288","keyslots_size":"16744448"}}`

// luksHeader is one copy of a LUKS2 header.
func luksHeader(magic string, at int64, uuid, text string) []byte {
	h := make([]byte, minHeader)
	copy(h, magic)
	binary.BigEndian.PutUint16(h[6:], 2)
	binary.BigEndian.PutUint64(h[8:], minHeader)
	copy(h[72:], "sha256")
	copy(h[168:], uuid)
	binary.BigEndian.PutUint64(h[256:], uint64(at))
	copy(h[4096:], text)
	sum := sha256.Sum256(h)
	copy(h[448:], sum[:])
	return h
}

func luksDevice(primary, secondary string) []byte {
	return append(luksHeader("LUKS\xba\xbe", 0, luksUUID, primary), luksHeader("SKUL\xba\xbe", minHeader, luksUUID, secondary)...)
}

func volumeOf(t *testing.T, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "device")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	volume, err := Volume(file)
	if err != nil {
		t.Fatal(err)
	}
	return volume
}

// TestVolume: what changes with a volume's life doesn't change which it is; who
// lacks its key can't make another that is the same.
func TestVolume(t *testing.T) {
	ours := volumeOf(t, luksDevice(luksJSON, luksJSON))
	if uuid, digits, ok := strings.Cut(ours, ":"); !ok || uuid != luksUUID || len(digits) != 32 {
		t.Fatalf("volume %q", ours)
	}
	if !SameVolume(ours, ours) || !SameVolume(ours, luksUUID) || SameVolume(luksUUID, ours) || SameVolume("", "") || SameVolume("", luksUUID) {
		t.Error("what is the same is another one, or the reverse")
	}
	change := func(from, to string) string {
		changed := strings.Replace(luksJSON, from, to, 1)
		if changed == luksJSON {
			t.Fatalf("%s is not in it", from)
		}
		return changed
	}
	broken := luksDevice(luksJSON, luksJSON)
	broken[5000] ^= 1
	for name, content := range map[string][]byte{
		"key slots and tokens": luksDevice(change(`"0":{"type":"luks2"}`, `"0":{"type":"luks2"},"1":{"type":"luks2"}`), change(`"tokens":{}`, `"tokens":{"0":{}}`)),
		"key slots of digests": luksDevice(change(`"keyslots":["0"]`, `"keyslots":["1","0"]`), luksJSON),
		"a damaged copy":       broken,
		"another order":        luksDevice(change(`"type":"pbkdf2","keyslots":["0"]`, `"keyslots":["0"],"type":"pbkdf2"`), luksJSON),
		"no requirements":      luksDevice(change(`"config":{`, `"config":{"requirements":{"mandatory":[]},`), luksJSON),
	} {
		if have := volumeOf(t, content); have != ours {
			t.Errorf("%s: %q, want %q", name, have, ours)
		}
	}
	both := func(text string) []byte { return luksDevice(text, text) }
	first := broken[:minHeader]
	for name, content := range map[string][]byte{
		"another key":                both(change("ZGlnZXN0", "YW5vdGhlcg==")),
		"another salt":               both(change("c2FsdA==", "c2FsdDI=")),
		"fewer iterations":           both(change("1000", "1")),
		"no cipher":                  both(change("aes-xts-plain64", "cipher_null-ecb")),
		"other data":                 both(change("16777216", "33554432")),
		"the second copy":            luksDevice(luksJSON, change("ZGlnZXN0", "YW5vdGhlcg==")),
		"the first copy":             luksDevice(change("ZGlnZXN0", "YW5vdGhlcg=="), luksJSON),
		"the second, first damaged":  append(bytes.Clone(first), luksHeader("SKUL\xba\xbe", minHeader, luksUUID, change("aes", "null"))...),
		"the second, elsewhere":      append(append(bytes.Clone(first), make([]byte, minHeader)...), luksHeader("SKUL\xba\xbe", 2*minHeader, luksUUID, change("aes", "null"))...),
		"two digests":                both(change(`"digests":{`, `"digests":{"1":{"type":"pbkdf2","keyslots":["0"],"segments":[],"hash":"sha256"},`)),
		"a second segment":           both(change(`"segments":{`, `"segments":{"1":{"type":"crypt"},`)),
		"keys in capitals":           both(change(`"segments":{"0":{`, `"segments":{"0":{"type":"crypt","encryption":"null"}},"SEGMENTS":{"0":{`)),
		"keys twice":                 both(change(`"config":`, `"segments":{"0":{"type":"crypt","encryption":"null"}},"config":`)),
		"not encrypted":              both(change(`"type":"crypt"`, `"type":"linear"`)),
		"being encrypted":            both(change(`"config":{`, `"config":{"requirements":{"mandatory":["online-reencrypt-v2"]},`)),
		"more behind the JSON":       both(luksJSON + "{}"),
		"no JSON":                    both("x"),
		"LUKS1":                      append([]byte("LUKS\xba\xbe\x00\x01"), both(luksJSON)[8:]...),
		"a checksum of another kind": bytes.Replace(both(luksJSON), []byte("sha256\x00"), []byte("sha512\x00"), 1),
		"both damaged":               append(bytes.Clone(first), make([]byte, minHeader)...),
	} {
		if have := volumeOf(t, content); SameVolume(have, ours) {
			t.Errorf("%s: taken for %q", name, ours)
		}
	}
	if have := volumeOf(t, make([]byte, 4*minHeader)); have != "" {
		t.Errorf("nothing: %q", have)
	}
}

// FuzzVolume: whatever a header says, it is read, and two that are taken for one
// volume have the same cipher and the same digest of the key.
func FuzzVolume(f *testing.F) {
	f.Add([]byte(luksJSON))
	f.Add([]byte(strings.Replace(luksJSON, "aes", "null", 1)))
	ours := dataMark([]byte(luksJSON))
	f.Fuzz(func(t *testing.T, text []byte) {
		if dataMark(text) == ours && !bytes.Contains(text, []byte(`\`)) &&
			(!bytes.Contains(text, []byte("aes-xts")) || !bytes.Contains(text, []byte("ZGlnZXN0"))) {
			t.Errorf("taken for ours: %s", text)
		}
	})
}
