package luks

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"reflect"
	"slices"
)

// ErrUnencrypted says that an encryption in place has data left to encrypt.
var ErrUnencrypted = errors.New("some of the data is not encrypted yet")

// File is a volume that can be written.
type File interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Finish ends an encryption in place whose data is all encrypted, when only the end is
// missing in the header. cryptsetup (up to 2.8 at least) cannot resume when it was
// interrupted while it erased the copy of the first data: "Failed to set device
// segments for next reencryption hotzone". Finish erases that copy and writes the
// header that cryptsetup would have written. The volume must not be in use, and
// "cryptsetup repair" must have run before. Where data is not encrypted yet, Finish
// returns ErrUnencrypted and writes nothing.
//
// The copies of the header are written one after the other, so that one of them is
// valid at any moment.
func Finish(volume File) error {
	copies, err := newest(volume)
	if err != nil {
		return err
	}
	text, _, _ := bytes.Cut(copies.area, []byte{0})
	finished, moved, err := finished(text)
	if err != nil {
		return fmt.Errorf("finish the encryption: %w", err)
	}
	if len(finished) >= len(copies.area) {
		return errors.New("finish the encryption: the metadata has no room")
	}
	if err := erase(volume, moved); err != nil {
		return fmt.Errorf("finish the encryption: erase the unencrypted copy: %w", err)
	}
	clear(copies.area)
	copy(copies.area, finished)
	if err := copies.write(volume); err != nil {
		return fmt.Errorf("finish the encryption: %w", err)
	}
	return nil
}

// stretch is a part of the device, in bytes.
type stretch struct{ offset, size int64 }

// maxMoved is the maximum size of the moved first data: that of the header.
const maxMoved = 1 << 30

// erase overwrites a stretch with random data.
func erase(volume File, s stretch) error {
	if s.size > 0 {
		if _, err := volume.ReadAt(make([]byte, 1), s.offset+s.size-1); err != nil {
			return err // it is not on the device
		}
	}
	block := make([]byte, 1<<20)
	for done := int64(0); done < s.size; done += int64(len(block)) {
		_, _ = rand.Read(block)
		n := min(int64(len(block)), s.size-done)
		if _, err := volume.WriteAt(block[:n], s.offset+done); err != nil {
			return err
		}
	}
	return volume.Sync()
}

// finished returns the metadata without the parts for an encryption in place, and the
// stretch of moved data; an error where data is not encrypted.
func finished(text []byte) (_ []byte, moved stretch, err error) {
	if _, err := ParseMetadata(text); err != nil {
		return nil, moved, err
	}
	var m struct {
		Keyslots map[string]map[string]any `json:"keyslots"`
		Tokens   map[string]any            `json:"tokens"`
		Segments map[string]map[string]any `json:"segments"`
		Digests  map[string]map[string]any `json:"digests"`
		Config   map[string]any            `json:"config"`
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&m); err != nil {
		return nil, moved, err
	}
	if moved, err = encrypted(m.Segments); err != nil {
		return nil, moved, err
	}
	delete(m.Config, "requirements")
	moving := slices.Collect(maps.Keys(m.Keyslots))
	moving = slices.DeleteFunc(moving, func(slot string) bool { return m.Keyslots[slot]["type"] != "reencrypt" })
	if len(moving) != 1 || m.Keyslots[moving[0]]["mode"] != "encrypt" {
		return nil, moved, errors.New("the header has no encryption in place")
	}
	delete(m.Keyslots, moving[0])
	m.Segments = map[string]map[string]any{"0": m.Segments["0"]}
	for number, digest := range m.Digests {
		slots, _ := digest["keyslots"].([]any)
		if len(slots) == 1 && slots[0] == moving[0] {
			delete(m.Digests, number)
			continue
		}
		segments, _ := digest["segments"].([]any)
		digest["segments"] = slices.DeleteFunc(segments, func(s any) bool { return s != "0" })
	}
	result, err := json.Marshal(m)
	if err != nil {
		return nil, moved, err
	}
	metadata, err := ParseMetadata(result)
	if err == nil && (metadata.Conversion() || len(metadata.Bound()) == 0) {
		err = errors.New("no key slot would be left")
	}
	return result, moved, err
}

// encrypted checks that the data is in its final state: one segment, as the header
// describes the end. The other segments are backups; one says where the first data was
// moved.
func encrypted(segments map[string]map[string]any) (moved stretch, err error) {
	data, ok := segments["0"]
	if !ok || data["type"] != "crypt" || data["flags"] != nil {
		return moved, ErrUnencrypted
	}
	final := false
	for number, segment := range segments {
		flags, _ := segment["flags"].([]any)
		switch {
		case number == "0" || slices.Contains(flags, any("backup-previous")):
		case slices.Contains(flags, any("backup-final")):
			same := maps.Clone(segment)
			delete(same, "flags")
			final = reflect.DeepEqual(same, data)
		case slices.Contains(flags, any("backup-moved-segment")):
			if moved, err = stretchOf(segment, data); err != nil {
				return moved, fmt.Errorf("segment %s: %w", number, err)
			}
		default:
			return moved, ErrUnencrypted
		}
	}
	if !final {
		return moved, ErrUnencrypted
	}
	return moved, nil
}

// stretchOf returns the position of a segment relative to the start of the data.
func stretchOf(segment, data map[string]any) (s stretch, err error) {
	text := func(of map[string]any, name string) string { t, _ := of[name].(string); return t }
	start, err := bytesOf(text(data, "offset"))
	if err != nil {
		return s, err
	}
	if s.offset, err = bytesOf(text(segment, "offset")); err != nil {
		return s, err
	}
	if s.size, err = bytesOf(text(segment, "size")); err != nil {
		return s, err
	}
	if s.offset < start+s.size || s.size > maxMoved || start < 2*minHeaderSize {
		return s, fmt.Errorf("%d bytes at %d are not where data is moved to", s.size, s.offset)
	}
	return s, nil
}

// copies are the parts from which both copies of a header are written.
type copies struct {
	head []byte // binary header of one copy
	area []byte // the JSON area, padded with zeros
}

// newest reads the copy with the highest sequence number.
func newest(volume io.ReaderAt) (*copies, error) {
	want, err := Read(volume)
	if err != nil {
		return nil, err
	}
	for offset, magic := int64(0), magicPrimary; offset <= maxHeaderSize; offset, magic = max(minHeaderSize, offset*2), magicSecondary {
		header, size, err := readCopy(volume, offset, magic)
		if err != nil || header.Sequence != want.Sequence || header.UUID != want.UUID {
			continue
		}
		all := make([]byte, size)
		if _, err := volume.ReadAt(all, offset); err != nil {
			return nil, err
		}
		return &copies{all[:binarySize], all[binarySize:]}, nil
	}
	return nil, ErrNotLUKS2
}

// write writes the first copy and then the second, each with its own sequence number
// and salt: LUKS2 On-Disk Format Specification, 2.
func (c *copies) write(volume File) error {
	size := int64(len(c.head) + len(c.area))
	binary.BigEndian.PutUint64(c.head[16:], binary.BigEndian.Uint64(c.head[16:])+1)
	for _, at := range []struct {
		offset int64
		magic  []byte
	}{{0, magicPrimary}, {size, magicSecondary}} {
		copy(c.head, at.magic)
		binary.BigEndian.PutUint64(c.head[256:], uint64(at.offset))
		_, _ = rand.Read(c.head[104:168])
		sum, err := checksum(c.head, c.area)
		if err != nil {
			return err
		}
		clear(c.head[checksumStart:][:checksumSize])
		copy(c.head[checksumStart:], sum)
		if _, err := volume.WriteAt(slices.Concat(c.head, c.area), at.offset); err != nil {
			return err
		}
		if err := volume.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// checksum computes the checksum of a copy, with zeros in the place of the checksum
// itself.
func checksum(head, area []byte) ([]byte, error) {
	var sum hash.Hash
	switch name := field(head[72:104]); name {
	case "sha256":
		sum = sha256.New()
	case "sha512":
		sum = sha512.New()
	default:
		return nil, fmt.Errorf("checksum algorithm %q is not known", name)
	}
	sum.Write(head[:checksumStart])
	sum.Write(make([]byte, checksumSize))
	sum.Write(head[checksumStart+checksumSize:])
	sum.Write(area)
	return sum.Sum(nil), nil
}
