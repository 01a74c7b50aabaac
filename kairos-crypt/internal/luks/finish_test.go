package luks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
)

// unfinished makes a volume whose encryption in place was cut off when all was
// encrypted, and returns how it would have ended.
func unfinished(t *testing.T) (disk string, key string, ended map[string]any) {
	t.Helper()
	if _, err := exec.LookPath("cryptsetup"); err != nil {
		t.Skip(err)
	}
	disk, key = filepath.Join(t.TempDir(), "disk"), filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(key, []byte("secret"), 0o600))
	must(t, os.WriteFile(disk, bytes.Repeat([]byte("plain text------"), 96<<16), 0o600)) // 96 MiB
	cryptsetup := func(arguments ...string) {
		t.Helper()
		arguments = append(append([]string{"reencrypt", "--batch-mode", "--key-file", key, "--force-offline-reencrypt"}, arguments...), disk)
		if out, err := exec.Command("cryptsetup", arguments...).CombinedOutput(); err != nil {
			t.Fatalf("cryptsetup %v: %v: %s", arguments, err, out)
		}
	}
	cryptsetup("--encrypt", "--init-only", "--type", "luks2", "--reduce-device-size", "32M", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
	begun := metadataOf(t, disk)
	if err := finish(t, disk); !errors.Is(err, ErrUnencrypted) || !reflect.DeepEqual(metadataOf(t, disk), begun) {
		t.Fatalf("finished at the start: %v", err)
	}
	cryptsetup("--resume-only")
	ended = metadataOf(t, disk)

	// What was there at the start, and is not removed yet.
	cut := metadataOf(t, disk)
	object := func(of map[string]any, name string) map[string]any { return of[name].(map[string]any) }
	object(cut, "config")["requirements"] = object(begun, "config")["requirements"]
	for number, slot := range object(begun, "keyslots") {
		if object(cut, "keyslots")[number] == nil {
			object(cut, "keyslots")[number] = slot
		}
	}
	for number, digest := range object(begun, "digests") {
		if object(cut, "digests")[number] == nil {
			object(cut, "digests")[number] = digest
		}
	}
	named := []any{"0"}
	for _, segment := range object(begun, "segments") {
		flags, _ := segment.(map[string]any)["flags"].([]any)
		if len(flags) == 0 {
			continue
		}
		number := fmt.Sprint(len(object(cut, "segments")))
		object(cut, "segments")[number] = segment
		if flags[0] == "backup-final" {
			named = append(named, number)
		}
	}
	if len(named) != 2 || len(object(cut, "segments")) != 4 {
		t.Fatalf("segments at the start: %v", object(begun, "segments"))
	}
	object(object(cut, "digests"), "0")["segments"] = named

	file, err := os.OpenFile(disk, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	c, err := newest(file)
	must(t, err)
	text, err := json.Marshal(cut)
	must(t, err)
	clear(c.area)
	copy(c.area, text)
	must(t, c.write(file))
	// Where the first of the data was kept.
	_, err = file.WriteAt([]byte("plain text"), 80<<20)
	must(t, err)
	return disk, key, ended
}

func metadataOf(t *testing.T, disk string) (m map[string]any) {
	t.Helper()
	file, err := os.Open(disk)
	must(t, err)
	defer file.Close()
	c, err := newest(file)
	must(t, err)
	text, _, _ := bytes.Cut(c.area, []byte{0})
	must(t, json.Unmarshal(text, &m))
	return m
}

func finish(t *testing.T, disk string) error {
	t.Helper()
	file, err := os.OpenFile(disk, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	return Finish(file)
}

// Finish leaves what cryptsetup does, where that itself can't go on.
func TestFinish(t *testing.T) {
	disk, key, ended := unfinished(t)
	if _, err := exec.Command("cryptsetup", "reencrypt", "--batch-mode", "--resume-only", "--force-offline-reencrypt", "--key-file", key, disk).CombinedOutput(); err == nil {
		t.Skip("this cryptsetup goes on by itself")
	}
	must(t, finish(t, disk))
	if got := metadataOf(t, disk); !reflect.DeepEqual(got, ended) {
		t.Errorf("metadata %v, want %v", got, ended)
	}
	data, err := os.ReadFile(disk)
	must(t, err)
	if bytes.Contains(data, []byte("plain text")) {
		t.Error("some of the data is still there")
	}
	header, err := Read(bytes.NewReader(data))
	if err != nil || header.Damaged != nil || header.Metadata.Conversion() {
		t.Errorf("header %+v, %v", header, err)
	}
	for _, arguments := range [][]string{{"open", "--test-passphrase", "--key-file", key, disk}, {"luksDump", disk}, {"config", "--label", "written", disk}} {
		if out, err := exec.Command("cryptsetup", arguments...).CombinedOutput(); err != nil {
			t.Errorf("cryptsetup %v: %v: %s", arguments, err, out)
		}
	}
	if err := finish(t, disk); err == nil {
		t.Error("finished twice")
	}
}

// cutFile is a file whose power is cut after some writes; the last one is torn.
type cutFile struct {
	*os.File
	left int
}

var errCut = errors.New("cut")

func (c *cutFile) WriteAt(data []byte, at int64) (int, error) {
	if c.left--; c.left < 0 {
		_, _ = c.File.WriteAt(data[:len(data)/2/512*512], at)
		return 0, errCut
	}
	return c.File.WriteAt(data, at)
}

// Cut at any write, the header is good, and Finish goes on.
func TestFinishCut(t *testing.T) {
	disk, _, ended := unfinished(t)
	whole, err := os.ReadFile(disk)
	must(t, err)
	cuts := 0
	for left := 0; ; left++ {
		must(t, os.WriteFile(disk, whole, 0o600))
		file, err := os.OpenFile(disk, os.O_RDWR, 0)
		must(t, err)
		err = Finish(&cutFile{file, left})
		file.Close()
		if err == nil {
			break
		}
		if cuts++; !errors.Is(err, errCut) {
			t.Fatalf("cut at write %d: %v", left, err)
		}
		data, err := os.ReadFile(disk)
		must(t, err)
		header, err := Read(bytes.NewReader(data))
		must(t, err)
		if header.Metadata.Conversion() {
			must(t, finish(t, disk))
		}
		if got := metadataOf(t, disk); !reflect.DeepEqual(got, ended) {
			t.Errorf("cut at write %d: metadata %v", left, got)
		}
	}
	if cuts != 18 { // 16 MiB, and two copies
		t.Errorf("%d cuts", cuts)
	}
}

func FuzzFinished(f *testing.F) {
	f.Add([]byte(`{"keyslots":{"0":{"type":"luks2"},"1":{"type":"reencrypt","mode":"encrypt"}},"tokens":{},"segments":{"0":{"type":"crypt","offset":"16777216","size":"dynamic"},` +
		`"1":{"type":"crypt","offset":"16777216","size":"dynamic","flags":["backup-final"]},"2":{"type":"linear","offset":"83886080","size":"16777216","flags":["backup-moved-segment"]}},` +
		`"digests":{"0":{"keyslots":["0"],"segments":["0","1"]},"1":{"keyslots":["1"],"segments":[]}},"config":{"requirements":{"mandatory":["online-reencrypt-v2"]}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		result, moved, err := finished(text)
		if err != nil {
			return
		}
		m, err := ParseMetadata(result)
		if err != nil || m.Conversion() || len(m.Bound()) == 0 || moved.size < 0 || moved.size > maxMoved || moved.size > 0 && moved.offset < 2*minHeaderSize {
			t.Errorf("%s, %+v, %v", result, moved, err)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
