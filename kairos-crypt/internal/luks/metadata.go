package luks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// MaxSlots is how many key slots, and how many tokens, cryptsetup supports.
const MaxSlots = 32

// Metadata is the part of a header's JSON that concerns key slots and tokens.
type Metadata struct {
	Keyslots map[int]Keyslot
	Tokens   map[int]Token
	Digests  map[int]Digest
	Segments map[int]Segment
	// Requirements are features that a reader must know, such as
	// "online-reencrypt-v2" while a volume is being encrypted in place.
	Requirements []string
}

// Keyslot is a key slot: an encrypted copy of the volume key.
type Keyslot struct {
	Type     string
	KeySize  int    // bytes
	Priority *int   // 0: only when named, 1 (or nil): normal, 2: first
	KDF      string // pbkdf2, argon2i or argon2id
	// Iterations are those of pbkdf2, 0 with others.
	Iterations int
	// Offset and Size are where the slot's key material lies, in bytes.
	Offset, Size int64
}

func (k *Keyslot) UnmarshalJSON(text []byte) error {
	var kdf, area json.RawMessage
	err := decode(text, fields{"type": &k.Type, "key_size": &k.KeySize, "priority": &k.Priority, "kdf": &kdf, "area": &area})
	if err == nil && kdf != nil {
		err = decode(kdf, fields{"type": &k.KDF, "iterations": &k.Iterations})
	}
	var offset, size string
	if err == nil && area != nil {
		err = decode(area, fields{"offset": &offset, "size": &size})
	}
	if err == nil {
		k.Offset, err = bytesOf(offset)
	}
	if err == nil {
		k.Size, err = bytesOf(size)
	}
	return err
}

// maxBytes is the maximum of positions in a header: those that cryptsetup writes are
// below 128 MiB.
const maxBytes = 1 << 40

// bytesOf parses a number in a JSON string, 0 for "".
func bytesOf(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > maxBytes {
		return 0, fmt.Errorf("%.40q is no number of bytes", text)
	}
	return int64(n), nil
}

// Digest links key slots with the volume key of segments.
type Digest struct {
	Type     string
	Keyslots []int
	Segments []int
}

// rawDigest is a digest as in the JSON of the header.
type rawDigest struct {
	kind               string
	keyslots, segments []string
}

func (d *rawDigest) UnmarshalJSON(text []byte) error {
	return decode(text, fields{"type": &d.kind, "keyslots": &d.keyslots, "segments": &d.segments})
}

// Segment is a stretch of the encrypted data.
type Segment struct {
	Type       string
	Encryption string
	SectorSize int // bytes
}

func (s *Segment) UnmarshalJSON(text []byte) error {
	return decode(text, fields{"type": &s.Type, "encryption": &s.Encryption, "sector_size": &s.SectorSize})
}

// ParseMetadata parses a header's JSON area, or the output of "cryptsetup luksDump
// --dump-json-metadata". References to key slots that don't exist are errors: otherwise
// a token could claim a slot that a later enrollment fills.
func ParseMetadata(text []byte) (*Metadata, error) {
	if len(text) > maxHeaderSize {
		return nil, fmt.Errorf("metadata of %d bytes: at most %d are allowed", len(text), maxHeaderSize)
	}
	if !bytes.HasPrefix(text, []byte("{")) {
		return nil, errors.New("metadata is not a JSON object")
	}
	var (
		rawSlots     map[string]Keyslot
		rawTokens    map[string]json.RawMessage
		rawSegments  map[string]Segment
		rawDigests   map[string]rawDigest
		config       json.RawMessage
		requirements json.RawMessage
	)
	m := &Metadata{Digests: map[int]Digest{}, Tokens: map[int]Token{}}
	err := decode(text, fields{"keyslots": &rawSlots, "tokens": &rawTokens, "segments": &rawSegments, "digests": &rawDigests, "config": &config})
	if err == nil && config != nil {
		err = decode(config, fields{"requirements": &requirements})
	}
	if err == nil && requirements != nil {
		err = decode(requirements, fields{"mandatory": &m.Requirements})
	}
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if m.Keyslots, err = numbered("keyslot", rawSlots, MaxSlots); err != nil {
		return nil, err
	}
	for number, slot := range m.Keyslots {
		if slot.KeySize < 0 || slot.KeySize > 1024 {
			return nil, fmt.Errorf("keyslot %d: key of %d bytes", number, slot.KeySize)
		}
	}
	// Segments and digests have no bound of their own beside the area's size.
	if m.Segments, err = numbered("segment", rawSegments, 1<<16); err != nil {
		return nil, err
	}
	digests, err := numbered("digest", rawDigests, 1<<16)
	if err != nil {
		return nil, err
	}
	for number, digest := range digests {
		slots, err := references(digest.keyslots, m.Keyslots)
		if err != nil {
			return nil, fmt.Errorf("digest %d: keyslots: %w", number, err)
		}
		segments, err := references(digest.segments, m.Segments)
		if err != nil {
			return nil, fmt.Errorf("digest %d: segments: %w", number, err)
		}
		m.Digests[number] = Digest{digest.kind, slots, segments}
	}
	tokens, err := numbered("token", rawTokens, MaxSlots)
	if err != nil {
		return nil, err
	}
	for number, text := range tokens {
		token, err := parseToken(text, m.Keyslots)
		if err != nil {
			return nil, fmt.Errorf("token %d: %w", number, err)
		}
		m.Tokens[number] = *token
	}
	return m, nil
}

// Bound returns the key slots, in order, that open the volume's data. A slot that no
// digest of a segment names holds another key.
func (m *Metadata) Bound() []int {
	slots := map[int]bool{}
	for _, digest := range m.Digests {
		if len(digest.Segments) == 0 {
			continue
		}
		for _, slot := range digest.Keyslots {
			slots[slot] = true
		}
	}
	return slices.Sorted(maps.Keys(slots))
}

// TokensOf returns the numbers of the tokens that name a key slot, in order.
func (m *Metadata) TokensOf(slot int) []int {
	var numbers []int
	for number, token := range m.Tokens {
		if slices.Contains(token.Keyslots, slot) {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// numbered converts an object of numbered entries, which LUKS2 uses for arrays, to a
// map.
func numbered[V any](what string, raw map[string]V, limit int) (map[int]V, error) {
	result := make(map[int]V, len(raw))
	for key, value := range raw {
		number, err := number(key, limit)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		result[number] = value
	}
	return result, nil
}

// references returns the numbers in an array, sorted; an error for numbers that do not
// exist.
func references[V any](raw []string, existing map[int]V) ([]int, error) {
	result := make([]int, 0, min(len(raw), len(existing)))
	for _, key := range raw {
		number, err := number(key, 1<<16)
		if err != nil {
			return nil, err
		}
		if _, ok := existing[number]; !ok {
			return nil, fmt.Errorf("%d does not exist", number)
		}
		if slices.Contains(result, number) {
			return nil, fmt.Errorf("%d occurs twice", number)
		}
		result = append(result, number)
	}
	slices.Sort(result)
	return result, nil
}

// number parses a number in its canonical spelling: with "01" and "+1", two keys could
// name one slot.
func number(text string, limit int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n >= limit || strconv.Itoa(n) != text {
		return 0, fmt.Errorf("%.40q is not a number below %d", text, limit)
	}
	return n, nil
}
