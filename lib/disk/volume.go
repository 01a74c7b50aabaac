package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// Volume identifies the encrypted volume on a device by "UUID:DIGITS": the UUID in its
// LUKS2 header, and 32 hexadecimal digits that nobody without the volume key can
// reproduce with another key. It returns "" where there is no volume, and the UUID
// alone where the volume cannot be authenticated: LUKS1, a damaged header, a volume
// that is being encrypted.
//
// The digits are part of the SHA-256 of those parts of the header that describe the
// data: the segments (cipher, offset) and the digest of the volume key. cryptsetup
// compares the volume key with that digest before it maps a volume. So a header with
// the same digits is opened with the same volume key and the same cipher or not at all,
// whatever its key slots, tokens and UUID are; another key with the same digits would
// need a second preimage. Key slots and tokens are left out, since they may change.
//
// A header has two copies, of which cryptsetup uses a valid one: all copies that may be
// valid must have the same digits.
func Volume(device string) (string, error) {
	uuid, err := LUKS(device)
	if uuid == "" || err != nil {
		return uuid, err
	}
	f, err := os.Open(device)
	if err != nil {
		return "", err
	}
	defer f.Close()
	mark, size, err := headerMark(f, 0, luksMagic)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", device, err)
	}
	for at := int64(minHeader); at <= maxHeader; at *= 2 {
		if size != 0 && at != size {
			continue
		}
		second, _, err := headerMark(f, at, "SKUL\xba\xbe")
		switch {
		case err != nil:
			return "", fmt.Errorf("read %s: %w", device, err)
		case mark == "":
			mark = second
		case second != "" && second != mark:
			mark = unknownMark
		}
	}
	if mark == "" || mark == unknownMark {
		return uuid, nil
	}
	return uuid + ":" + mark, nil
}

// SameVolume reports whether a device on which Volume found one volume holds the other,
// which may be known by its UUID alone.
func SameVolume(have, want string) bool {
	uuid, _, _ := strings.Cut(have, ":")
	return have != "" && (have == want || uuid == want)
}

// Sizes of a header with its JSON area, in bytes.
const minHeader, maxHeader = 16 << 10, 4 << 20

// unknownMark is the mark of a header that cryptsetup might accept and this package
// cannot interpret.
const unknownMark = "?"

// headerMark returns the digits of one copy of a header and its size in bytes; "" and 0
// where there is none, or one that cryptsetup rejects too.
func headerMark(f io.ReaderAt, at int64, magic string) (mark string, size int64, err error) {
	const start, checksum = 4096, 448 // of the JSON area, of the checksum
	head := make([]byte, start)
	if _, err := f.ReadAt(head, at); err == io.EOF {
		return "", 0, nil
	} else if err != nil {
		return "", 0, err
	}
	length := binary.BigEndian.Uint64(head[8:])
	switch {
	case !bytes.HasPrefix(head, []byte(magic)):
		return "", 0, nil
	case binary.BigEndian.Uint16(head[6:]) != 2, length < minHeader, length > maxHeader, length&(length-1) != 0,
		binary.BigEndian.Uint64(head[256:]) != uint64(at), string(bytes.TrimRight(head[72:104], "\x00")) != "sha256":
		return unknownMark, 0, nil
	}
	whole := make([]byte, length)
	if _, err := f.ReadAt(whole, at); err == io.EOF {
		return "", 0, nil
	} else if err != nil {
		return "", 0, err
	}
	want := bytes.Clone(whole[checksum : checksum+sha256.Size])
	clear(whole[checksum : checksum+64])
	if sum := sha256.Sum256(whole); !bytes.Equal(sum[:], want) {
		return "", 0, nil
	}
	text, _, _ := bytes.Cut(whole[start:], []byte{0})
	return dataMark(text), int64(length), nil
}

// dataMark returns the digits of a header's JSON. It returns unknownMark where the
// header is ambiguous: more than one digest may be that of the volume key, or parts of
// the data are not encrypted, as while a volume is being encrypted.
func dataMark(text []byte) string {
	var (
		header            map[string]json.RawMessage // keys of structs would match in any case
		segments, digests map[string]map[string]any
		config            map[string]json.RawMessage
		requirements      map[string][]string
	)
	read := func(text json.RawMessage, into any) bool { return json.Unmarshal(text, into) == nil }
	if !read(text, &header) || !read(header["segments"], &segments) || !read(header["digests"], &digests) || !read(header["config"], &config) ||
		config["requirements"] != nil && !read(config["requirements"], &requirements) {
		return unknownMark
	}
	if len(digests) != 1 || len(segments) != 1 || len(requirements["mandatory"]) > 0 {
		return unknownMark
	}
	for _, s := range segments {
		if s["type"] != "crypt" {
			return unknownMark
		}
	}
	for _, d := range digests {
		delete(d, "keyslots")
	}
	canonical, err := json.Marshal([]any{segments, digests})
	if err != nil {
		return unknownMark
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:16])
}
