package deployment

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func record() Record {
	return Record{
		Format: Format, ID: NewID(7, digest), Serial: 7, ImageDigest: digest, ManifestDigest: digest, Reference: "quay.io/x/y:1",
		Boot: []File{{Kind: "linux", Path: "kairos/linux-" + digest[7:], Digest: digest[7:], Size: 1}},
	}
}

func TestParse(t *testing.T) {
	data, err := json.Marshal(record())
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Parse(data); err != nil || r.ID != "7-0123456789ab" || r.EntryBase() != "kairos-7-0123456789ab" {
		t.Fatalf("%+v, %v", r, err)
	}
	for name, broken := range map[string]func(*Record){
		"format":       func(r *Record) { r.Format = 2 },
		"id":           func(r *Record) { r.ID = "8-0123456789ab" },
		"serial":       func(r *Record) { r.Serial = 0; r.ID = NewID(0, digest) },
		"image digest": func(r *Record) { r.ImageDigest = "sha256:00" },
		"manifest":     func(r *Record) { r.ManifestDigest = "md5:00" },
		"boot path":    func(r *Record) { r.Boot[0].Path = "../../etc/shadow" },
		"boot digest":  func(r *Record) { r.Boot[0].Digest = "zz" },
	} {
		r := record()
		broken(&r)
		data, _ := json.Marshal(r)
		if _, err := Parse(data); err == nil {
			t.Errorf("record with a wrong %s was accepted", name)
		}
	}
}

func TestParseID(t *testing.T) {
	if serial, err := ParseID("12-0123456789ab"); err != nil || serial != 12 {
		t.Errorf("%d, %v", serial, err)
	}
	for _, id := range []string{"", "0-0123456789ab", "1-0123", "01-0123456789ab", "1-0123456789AB", "../1-0123456789ab", "99999999999999999999-0123456789ab"} {
		if _, err := ParseID(id); err == nil {
			t.Errorf("%q accepted", id)
		}
	}
	if _, ok := IDOfEntry("kairos-recovery"); ok {
		t.Error("the recovery's entry taken for a deployment's")
	}
}

func TestReadAllSkipsDamageLoudly(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, Dir), 0o755)
	for serial := uint64(11); serial > 8; serial-- {
		r := record()
		r.Serial, r.ID = serial, NewID(serial, digest)
		data, _ := json.Marshal(r)
		os.WriteFile(filepath.Join(dir, Path(r.ID)), data, 0o644)
	}
	os.WriteFile(filepath.Join(dir, Path("12-0123456789ab")), []byte("{"), 0o644)
	os.WriteFile(filepath.Join(dir, Dir, ".#temp"), []byte("{"), 0o644)
	root, _ := os.OpenRoot(dir)
	defer root.Close()
	all := ReadAll(root)
	records, err := all.Readable, all.Unreadable
	if len(records) != 3 || records[0].Serial != 9 || records[2].Serial != 11 {
		t.Errorf("%+v", records)
	}
	if err == nil || !strings.Contains(err.Error(), "12-0123456789ab") {
		t.Errorf("damage not reported: %v", err)
	}
}

func TestDamagedQuarantineStillCounts(t *testing.T) {
	dir := t.TempDir()
	root, _ := os.OpenRoot(dir)
	defer root.Close()
	if q, err := Quarantined(root, digest); q != nil || err != nil {
		t.Errorf("%+v, %v", q, err)
	}
	os.MkdirAll(filepath.Join(dir, QuarantineDir), 0o755)
	name, _ := QuarantinePath(digest)
	os.WriteFile(filepath.Join(dir, name), []byte("\x00\x00"), 0o644)
	if q, err := Quarantined(root, digest); q == nil || err != nil {
		t.Errorf("a damaged quarantine was ignored: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	data, _ := json.Marshal(record())
	f.Add(data)
	f.Add([]byte(`{"format":1,"serial":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data)
		if err != nil {
			return
		}
		if _, err := ParseID(r.ID); err != nil {
			t.Errorf("accepted a record whose id isn't one: %q", r.ID)
		}
	})
}

// FuzzQuarantine: what stands in the store as a quarantine, readable or not,
// keeps the image from being offered.
func FuzzQuarantine(f *testing.F) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	data, _ := json.Marshal(Quarantine{ManifestDigest: digest, Reason: "it failed"})
	f.Add(data)
	f.Add([]byte("\x00"))
	f.Add([]byte(`{"manifest_digest":"sha256:00"}`))
	dir := f.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { root.Close() })
	name, err := QuarantinePath(digest)
	if err != nil {
		f.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, QuarantineDir), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
		if q, err := Quarantined(root, digest); q == nil && err == nil {
			t.Error("the quarantine was ignored")
		}
		if _, err := QuarantineList(root); err != nil {
			t.Logf("list: %v", err)
		}
	})
}
