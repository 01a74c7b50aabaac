package composefs

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// parsedXattrs are the attributes of one inode.
type parsedXattrs struct {
	plain  []tree.Xattr    // of the tree, names as they were before Write
	digest fsverity.Digest // from metacopy
	opaque bool
}

// xattrs reads the attributes of an inode.
func (p *parser) xattrs(in *stored) (parsedXattrs, error) {
	var list parsedXattrs
	var redirected string
	add := func(x tree.Xattr) error {
		switch {
		case x.Name == xattrRedirect:
			redirected = x.Value
		case x.Name == xattrMetacopy:
			if len(x.Value) != 4+fsverity.Size || x.Value != metacopy(fsverity.Digest([]byte(x.Value[4:]))) {
				return badf("a strange value %q of %s", x.Value, x.Name)
			}
			list.digest = fsverity.Digest([]byte(x.Value[4:]))
		case x.Name == xattrOpaque && x.Value == "y":
			list.opaque = true
		case strings.HasPrefix(x.Name, overlayEscape):
			x.Name = overlayPrefix + x.Name[len(overlayEscape):]
			list.plain = append(list.plain, x)
		case strings.HasPrefix(x.Name, overlayPrefix):
			return badf("unexpected attribute %.255q", x.Name)
		default:
			list.plain = append(list.plain, x)
		}
		return nil
	}
	if err := p.eachXattr(in, add); err != nil {
		return list, err
	}
	if want := redirect(list.digest); redirected != want && (redirected != "" || !list.digest.IsZero()) {
		return list, badf("redirected to %q, digest %s", redirected, list.digest)
	}
	return list, list.sort()
}

func (x *parsedXattrs) sort() error {
	slices.SortFunc(x.plain, func(a, b tree.Xattr) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(x.plain); i++ {
		if x.plain[i].Name == x.plain[i-1].Name {
			return badf("attribute %.255q twice", x.plain[i].Name)
		}
	}
	return nil
}

// take removes attributes that Write added, if all of them are there.
func (x *parsedXattrs) take(added ...tree.Xattr) bool {
	for _, a := range added {
		if !slices.Contains(x.plain, a) {
			return false
		}
	}
	x.plain = slices.DeleteFunc(x.plain, func(b tree.Xattr) bool { return slices.Contains(added, b) })
	if len(x.plain) == 0 {
		x.plain = nil
	}
	return true
}

// takeWhiteout removes what marks an escaped whiteout.
func (x *parsedXattrs) takeWhiteout() bool {
	return x.take(tree.Xattr{Name: unescaped(xattrWhiteout)}, tree.Xattr{Name: xattrUserWhiteout})
}

// takeWhiteouts removes what marks a directory of escaped whiteouts.
func (x *parsedXattrs) takeWhiteouts() bool {
	return x.take(tree.Xattr{Name: unescaped(xattrWhiteouts)}, tree.Xattr{Name: xattrUserWhiteouts},
		tree.Xattr{Name: unescaped(xattrHasWhite), Value: "x"}, tree.Xattr{Name: xattrUserHasWhite, Value: "x"})
}

func unescaped(name string) string { return overlayPrefix + strings.TrimPrefix(name, overlayEscape) }

// eachXattr calls add for every attribute of an inode, shared ones first.
func (p *parser) eachXattr(in *stored, add func(tree.Xattr) error) error {
	b := in.xattrs
	if b == nil {
		return nil
	}
	count := int(b[4])
	b = b[xattrHeaderSize:]
	if 4*count > len(b) {
		return badf("%d shared attributes in %d bytes", count, len(b))
	}
	for ; count > 0; count-- {
		x, err := p.sharedXattr(binary.LittleEndian.Uint32(b))
		if err == nil {
			err = add(x)
		}
		if err != nil {
			return err
		}
		b = b[4:]
	}
	for len(b) > 0 {
		size, err := storedXattrSize(b)
		if err != nil {
			return err
		}
		if size > uint64(len(b)) {
			return badf("an attribute of %d bytes in %d", size, len(b))
		}
		x, err := parseXattr(b)
		if err == nil {
			err = add(x)
		}
		if err != nil {
			return err
		}
		b = b[size:]
	}
	return nil
}

// sharedXattr returns the shared attribute with the given number.
func (p *parser) sharedXattr(number uint32) (tree.Xattr, error) {
	if x, ok := p.shared[number]; ok {
		return x, nil
	}
	at := p.xattrBase + 4*uint64(number)
	head, err := p.bytes(at, xattrEntrySize)
	if err != nil {
		return tree.Xattr{}, err
	}
	size, err := storedXattrSize(head)
	if err != nil {
		return tree.Xattr{}, err
	}
	b, err := p.claim(at, size)
	if err != nil {
		return tree.Xattr{}, err
	}
	x, err := parseXattr(b)
	if err == nil {
		p.shared[number] = x
	}
	return x, err
}

// storedXattrSize is how many bytes the attribute at the start of b takes.
func storedXattrSize(b []byte) (uint64, error) {
	if len(b) < xattrEntrySize {
		return 0, badf("an attribute in %d bytes", len(b))
	}
	return roundUp(xattrEntrySize+uint64(b[0])+uint64(binary.LittleEndian.Uint16(b[2:])), 4), nil
}

// parseXattr reads the attribute at the start of b, which holds all of it.
func parseXattr(b []byte) (tree.Xattr, error) {
	nameEnd := xattrEntrySize + int(b[0])
	valueEnd := nameEnd + int(binary.LittleEndian.Uint16(b[2:]))
	name := string(b[xattrEntrySize:nameEnd])
	if index := b[1]; index != 0 {
		prefix, ok := xattrPrefix(index)
		if !ok {
			return tree.Xattr{}, badf("an attribute with name prefix %d", index)
		}
		name = prefix + name
	}
	if index, _ := splitXattr(name); name == "" || strings.Contains(name, "\x00") || index != b[1] {
		return tree.Xattr{}, badf("an attribute called %.255q, prefix %d", name, b[1])
	}
	return tree.Xattr{Name: name, Value: string(b[nameEnd:valueEnd])}, nil
}

func xattrPrefix(index uint8) (string, bool) {
	for _, x := range xattrPrefixes {
		if x.index == index {
			return x.prefix, true
		}
	}
	return "", false
}
