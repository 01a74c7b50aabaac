package boot

import (
	"encoding/binary"
	"io"
	"slices"
	"strings"
)

// Bounds on what is read of a PE file: the header lies in the first 64 KiB, and
// loaders of firmware refuse more sections.
const (
	maxHeaderAt = 64 << 10
	maxSections = 96
)

// sections returns the names of the sections of a PE file; ok is false for what
// is none.
func sections(r io.Reader) (names []string, ok bool) {
	head := make([]byte, maxHeaderAt+maxSections*40)
	n, _ := io.ReadFull(r, head)
	head = head[:n]
	if len(head) < 64 || string(head[:2]) != "MZ" {
		return nil, false
	}
	at := int(binary.LittleEndian.Uint32(head[60:]))
	if at < 64 || at > min(len(head)-24, maxHeaderAt) || string(head[at:at+4]) != "PE\x00\x00" {
		return nil, false
	}
	count, optional := int(binary.LittleEndian.Uint16(head[at+6:])), int(binary.LittleEndian.Uint16(head[at+20:]))
	at += 24 + optional
	for range min(count, maxSections) {
		if at+40 > len(head) {
			break
		}
		names = append(names, strings.TrimRight(string(head[at:at+8]), "\x00"))
		at += 40
	}
	return names, true
}

// isUKI reports whether a program may be a unified kernel image (UAPI.5): other
// PE files, such as a shell or a memory test, lack its sections. What can't be
// read as a PE file is judged by its name alone.
func isUKI(r io.Reader) bool {
	names, ok := sections(r)
	return !ok || slices.Contains(names, ".linux") && slices.Contains(names, ".osrel")
}
