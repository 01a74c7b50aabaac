package bls

import (
	"cmp"
	"strings"
)

// CompareVersions orders two versions by the UAPI Version Format Specification
// (https://uapi-group.org/specifications/specs/version_format_specification/),
// as systemd-boot does: negative when a is older than b.
func CompareVersions(a, b string) int {
	for {
		a, b = trimInvalid(a), trimInvalid(b)
		// "~" sorts before everything, even the end.
		if c := prefixFirst(&a, &b, '~'); c != 0 {
			return c
		}
		if a == "" || b == "" {
			return cmp.Compare(min(len(a), 1), min(len(b), 1))
		}
		// "-", "^" and "." end a part: the shorter version is the older.
		for _, sep := range []byte{'-', '^', '.'} {
			if c := prefixFirst(&a, &b, sep); c != 0 {
				return c
			}
		}
		isDigit := func(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }
		if isDigit(a) || isDigit(b) {
			if c := cmp.Compare(b2i(isDigit(a)), b2i(isDigit(b))); c != 0 {
				return c
			}
			x, y := span(&a, "0123456789"), span(&b, "0123456789")
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if c := cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)); c != 0 {
				return c
			}
			continue
		}
		const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		x, y := span(&a, letters), span(&b, letters)
		if c := cmp.Compare(x, y); c != 0 {
			return c
		}
	}
}

// prefixFirst compares by a leading byte: the one that has it is the older;
// when both have it, it is dropped
// once, as systemd does.
func prefixFirst(a, b *string, sep byte) int {
	x, y := strings.HasPrefix(*a, string(sep)), strings.HasPrefix(*b, string(sep))
	switch {
	case x && y:
		*a, *b = (*a)[1:], (*b)[1:]
	case x:
		return -1
	case y:
		return 1
	}
	return 0
}

func trimInvalid(s string) string {
	return strings.TrimLeftFunc(s, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("~-^.", r))
	})
}

// span cuts the longest run of characters of set off the front.
func span(s *string, set string) string {
	run := (*s)[:len(*s)-len(strings.TrimLeft(*s, set))]
	*s = (*s)[len(run):]
	return run
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
