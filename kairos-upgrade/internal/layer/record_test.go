package layer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// encoded returns the record of a layer.
func encoded(t testing.TB, l *Layer) []byte {
	t.Helper()
	var record bytes.Buffer
	if err := l.Encode(&record); err != nil {
		t.Fatal(err)
	}
	return record.Bytes()
}

func TestRecordDamage(t *testing.T) {
	record := encoded(t, mustBuild(t, "a/", "a/b", "c -> d", ".wh.e"))
	for i := range record {
		damaged := bytes.Clone(record)
		damaged[i] ^= 0x10
		// A few bits of a frame's header do not change what it holds.
		if l, err := Decode(bytes.NewReader(damaged), Limits{}); err == nil && !bytes.Equal(encoded(t, l), record) {
			t.Errorf("byte %d of %d changed: another layer comes out", i, len(record))
		} else if err != nil && !errors.Is(err, ErrRecord) {
			t.Errorf("byte %d of %d changed: error %v", i, len(record), err)
		}
		if _, err := Decode(bytes.NewReader(record[:i]), Limits{}); !errors.Is(err, ErrRecord) {
			t.Errorf("cut at %d of %d: error %v", i, len(record), err)
		}
	}
	if _, err := Decode(bytes.NewReader(append(bytes.Clone(record), 0)), Limits{}); !errors.Is(err, ErrRecord) {
		t.Errorf("a byte more: error %v", err)
	}
}

// TestRecordPayload changes the payload within a whole frame. Under the old
// SHA-256 that is always found; under a new one, what is read is exactly what
// is written there, or refused.
func TestRecordPayload(t *testing.T) {
	record := encoded(t, mustBuild(t, "a/", "a/b", "c -> d", ".wh.e", "f => a/b", "g => below"))
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := z.DecodeAll(record[len(recordMagic):], nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	pack := func(p []byte) []byte { return w.EncodeAll(p, []byte(recordMagic)) }
	if _, err := Decode(bytes.NewReader(pack(payload)), Limits{}); err != nil {
		t.Fatalf("unchanged: %v", err)
	}
	for i := range payload {
		for _, bit := range []byte{1, 4, 0x80} {
			changed := bytes.Clone(payload)
			changed[i] ^= bit
			if _, err := Decode(bytes.NewReader(pack(changed)), Limits{}); !errors.Is(err, ErrRecord) {
				t.Errorf("byte %d of %d changed: error %v", i, len(payload), err)
			}
			sum := sha256.Sum256(changed[:len(changed)-sha256.Size])
			copy(changed[len(changed)-sha256.Size:], sum[:])
			l, err := Decode(bytes.NewReader(pack(changed)), Limits{})
			if err != nil {
				continue
			}
			back, err := z.DecodeAll(encoded(t, l)[len(recordMagic):], nil)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(back, changed) {
				t.Errorf("byte %d of %d changed: it is read as something else", i, len(payload))
			}
		}
	}
}

func TestRecordOrder(t *testing.T) {
	l := mustBuild(t, "a", "b")
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := z.DecodeAll(encoded(t, l)[len(recordMagic):], nil)
	if err != nil {
		t.Fatal(err)
	}
	payload = payload[:len(payload)-sha256.Size]
	for _, swap := range [][2]string{{"\x01a", "\x01b"}, {"\x01b", "\x01a"}, {"\x01a", "\x01c"}} {
		changed := bytes.Replace(payload, []byte(swap[0]), []byte(swap[1]), 1)
		sum := sha256.Sum256(changed)
		if err := newDecoder(bytes.NewReader(append(changed, sum[:]...)), DefaultLimits).record(); err == nil {
			t.Errorf("%q for %q is accepted", swap[1], swap[0])
		}
	}
}

func TestRecordNumbers(t *testing.T) {
	for in, want := range map[string]uint64{
		"\x00": 0, "\x7f": 127, "\x80\x01": 128, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01": 1<<64 - 1,
	} {
		have, err := newDecoder(strings.NewReader(in), DefaultLimits).varint()
		if err != nil || have != want {
			t.Errorf("%x: %d, %v; want %d", in, have, err, want)
		}
	}
	for _, in := range []string{
		"", "\x80", "\x80\x00", "\xff\x80\x00", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", strings.Repeat("\x80", 10) + "\x01",
	} {
		if have, err := newDecoder(strings.NewReader(in), DefaultLimits).varint(); err == nil {
			t.Errorf("%x is read as %d", in, have)
		}
	}
}

func TestRecordLimits(t *testing.T) {
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("name%d", i))
	}
	record := encoded(t, mustBuild(t, names...))
	for what, limits := range map[string]Limits{
		"entries":  {Entries: 99},
		"metadata": {Metadata: 500},
	} {
		if _, err := Decode(bytes.NewReader(record), limits); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: error %v", what, err)
		}
	}
}
