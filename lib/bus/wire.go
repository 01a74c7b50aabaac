package bus

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// frame is a message from the bus with its parsed header: the D-Bus specification,
// "Message Format".
type frame struct {
	order  binary.ByteOrder
	kind   dbus.Type
	flags  dbus.Flags
	serial uint32
	size   int // bytes of the body

	path, iface, member, sender, signature string
	replySerial, files                     uint32
	caller                                 Caller // set after the bus was asked

	data   []byte // the header; once the body is read, the whole message
	header int    // bytes of the header, with the padding before the body
}

const (
	fixedHeader = 16      // bytes of the fixed part of a header, with the length of the fields
	maxHeader   = 8 << 10 // bytes of a header; the bus allows the size of a whole message
	maxDepth    = 32      // nested containers; the bus allows 64
)

var (
	errWire   = errors.New("the message is malformed")
	errTooBig = errors.New("the message is too large")
)

// newFrame parses the beginning of a message, which has the length of the rest.
func newFrame(begin []byte) (*frame, int, error) {
	f := &frame{data: begin, kind: dbus.Type(begin[1]), flags: dbus.Flags(begin[2])}
	switch begin[0] {
	case 'l':
		f.order = binary.LittleEndian
	case 'B':
		f.order = binary.BigEndian
	default:
		return nil, 0, fmt.Errorf("%w: byte order %q", errWire, begin[0])
	}
	size, fields := f.order.Uint32(begin[4:]), f.order.Uint32(begin[12:])
	f.serial = f.order.Uint32(begin[8:])
	// The bus lets nothing larger through: here the stream is out of step.
	if begin[3] != 1 || size > 1<<27 || fields > 1<<27 {
		return nil, 0, fmt.Errorf("%w: version %d, %d and %d bytes", errWire, begin[3], fields, size)
	}
	f.size, f.header = int(size), align(fixedHeader+int(fields), 8)
	return f, f.header - fixedHeader, nil
}

func align(n, to int) int { return (n + to - 1) / to * to }

// parse parses the fields of the header: a(yv).
func (f *frame) parse() error {
	w := walker{data: f.data, order: f.order, pos: fixedHeader - 4, left: 64}
	length, err := w.uint32()
	if err != nil {
		return err
	}
	end := w.pos + int(length)
	for w.pos < end {
		if err := f.field(&w); err != nil {
			return err
		}
	}
	if w.pos != end {
		return errWire
	}
	return nil
}

func (f *frame) field(w *walker) error {
	if err := w.align(8); err != nil {
		return err
	}
	code, err := w.bytes(1)
	if err != nil {
		return err
	}
	sig, err := w.signature()
	if err != nil {
		return err
	}
	texts := map[dbus.HeaderField]struct {
		signature string
		target    *string
	}{
		dbus.FieldPath: {"o", &f.path}, dbus.FieldInterface: {"s", &f.iface}, dbus.FieldMember: {"s", &f.member},
		dbus.FieldSender: {"s", &f.sender}, dbus.FieldSignature: {"g", &f.signature},
	}
	numbers := map[dbus.HeaderField]*uint32{dbus.FieldReplySerial: &f.replySerial, dbus.FieldUnixFDs: &f.files}
	field := dbus.HeaderField(code[0])
	if text, ok := texts[field]; ok {
		if sig != text.signature {
			return errWire
		}
		if sig == "g" {
			*text.target, err = w.signature()
		} else {
			*text.target, err = w.text()
		}
		return err
	}
	if number, ok := numbers[field]; ok {
		if sig != "u" {
			return errWire
		}
		*number, err = w.uint32()
		return err
	}
	rest, err := w.value(sig, 1) // others
	if err == nil && rest != "" {
		err = errWire
	}
	return err
}

// check validates the body: it must match the signature exactly, and hold at most a
// number of values, where each element of an array counts as one.
func (f *frame) check(values int) error {
	w := walker{data: f.data[f.header:], order: f.order, left: values}
	for signature := f.signature; signature != ""; {
		rest, err := w.value(signature, 0)
		if err != nil {
			return err
		}
		signature = rest
	}
	if w.pos != len(w.data) {
		return fmt.Errorf("%w: %d bytes behind the values", errWire, len(w.data)-w.pos)
	}
	return nil
}

// message decodes the body of a checked frame. Its file descriptors are taken from
// files.
func (f *frame) message(files []int) (msg *dbus.Message, err error) {
	defer func() { // the library's decoder reports by panics, and knows not all
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errWire, r)
		}
	}()
	return dbus.DecodeMessageWithFDs(&reader{f.data}, files)
}

// reader is an io.Reader that returns as many bytes as it can.
type reader struct{ rest []byte }

func (r *reader) Read(p []byte) (int, error) {
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	if n == 0 && len(p) > 0 {
		return 0, errWire
	}
	return n, nil
}

// walker validates values in wire format without decoding them.
type walker struct {
	data  []byte
	order binary.ByteOrder
	pos   int
	left  int // how many more values are allowed
}

func (w *walker) align(to int) error {
	_, err := w.bytes(align(w.pos, to) - w.pos)
	return err
}

func (w *walker) bytes(n int) ([]byte, error) {
	if n < 0 || n > len(w.data)-w.pos {
		return nil, fmt.Errorf("%w: it ends within a value", errWire)
	}
	w.pos += n
	return w.data[w.pos-n : w.pos], nil
}

func (w *walker) uint32() (uint32, error) {
	if err := w.align(4); err != nil {
		return 0, err
	}
	b, err := w.bytes(4)
	if err != nil {
		return 0, err
	}
	return w.order.Uint32(b), nil
}

func (w *walker) text() (string, error) {
	n, err := w.uint32()
	if err != nil {
		return "", err
	}
	return w.terminated(int(n))
}

func (w *walker) signature() (string, error) {
	n, err := w.bytes(1)
	if err != nil {
		return "", err
	}
	return w.terminated(int(n[0]))
}

func (w *walker) terminated(n int) (string, error) {
	b, err := w.bytes(n + 1)
	if err != nil || b[n] != 0 {
		return "", fmt.Errorf("%w: a text without end", errWire)
	}
	return string(b[:n]), nil
}

// sizes of values of fixed size, in bytes; they are aligned to it.
var sizes = map[byte]int{'y': 1, 'n': 2, 'q': 2, 'b': 4, 'i': 4, 'u': 4, 'h': 4, 'x': 8, 't': 8, 'd': 8}

// value validates one value of the first type of a signature and returns the rest of
// the signature.
func (w *walker) value(signature string, depth int) (rest string, err error) {
	if w.left--; w.left < 0 {
		return "", fmt.Errorf("%w: too many values", errTooBig)
	}
	if depth > maxDepth || signature == "" {
		return "", fmt.Errorf("%w: signature, or more than %d containers in each other", errWire, maxDepth)
	}
	kind, rest := signature[0], signature[1:]
	if size := sizes[kind]; size > 0 {
		if err := w.align(size); err != nil {
			return "", err
		}
		b, err := w.bytes(size)
		if err == nil && kind == 'b' && w.order.Uint32(b) > 1 {
			err = fmt.Errorf("%w: neither true nor false", errWire)
		}
		return rest, err
	}
	switch kind {
	case 's', 'o':
		_, err = w.text()
	case 'g':
		_, err = w.signature()
	case 'v':
		err = w.variant(depth)
	case 'a':
		return w.array(rest, depth)
	case '(':
		return w.structure(rest, ')', depth)
	default:
		err = fmt.Errorf("%w: type %q", errWire, kind)
	}
	return rest, err
}

func (w *walker) variant(depth int) error {
	signature, err := w.signature()
	if err != nil {
		return err
	}
	rest, err := w.value(signature, depth+1)
	if err == nil && rest != "" {
		err = fmt.Errorf("%w: a variant of several values", errWire)
	}
	return err
}

func (w *walker) structure(signature string, end byte, depth int) (rest string, err error) {
	if err := w.align(8); err != nil {
		return "", err
	}
	for members := 0; ; members++ {
		if signature == "" || signature[0] == end && members == 0 {
			return "", fmt.Errorf("%w: signature of a struct", errWire)
		}
		if signature[0] == end {
			return signature[1:], nil
		}
		if signature, err = w.value(signature, depth+1); err != nil {
			return "", err
		}
	}
}

func (w *walker) array(element string, depth int) (rest string, err error) {
	parsed, rest, err := single(element, depth+1)
	if err != nil {
		return "", err
	}
	if parsed == "h" { // the library's decoder takes descriptors only one by one
		return "", fmt.Errorf("%w: an array of file descriptors", errWire)
	}
	length, err := w.uint32()
	if err != nil {
		return "", err
	}
	if err := w.align(alignment(parsed[0])); err != nil {
		return "", err
	}
	if int(length) > len(w.data)-w.pos {
		return "", fmt.Errorf("%w: an array ends behind the message", errWire)
	}
	for end := w.pos + int(length); w.pos != end; {
		if w.pos > end {
			return "", fmt.Errorf("%w: an array ends within an element", errWire)
		}
		if parsed[0] == '{' {
			_, err = w.structure(parsed[1:], '}', depth+1)
		} else {
			_, err = w.value(parsed, depth+1)
		}
		if err != nil {
			return "", err
		}
	}
	return rest, nil
}

func alignment(kind byte) int {
	if size := sizes[kind]; size > 0 {
		return size
	}
	switch kind {
	case '(', '{':
		return 8
	case 's', 'o', 'a':
		return 4
	}
	return 1
}

// single splits the first complete type from a signature, including the entry of a
// dictionary.
func single(signature string, depth int) (first, rest string, err error) {
	wrong := fmt.Errorf("%w: signature %.16q", errWire, signature)
	if signature == "" || depth > maxDepth {
		return "", "", wrong
	}
	rest = signature[1:]
	switch kind := signature[0]; kind {
	case 'y', 'n', 'q', 'b', 'i', 'u', 'h', 'x', 't', 'd', 's', 'o', 'g', 'v':
	case 'a':
		if _, rest, err = single(rest, depth+1); err != nil {
			return "", "", err
		}
	case '(', '{':
		members := 0
		for rest != "" && rest[0] != ')' && rest[0] != '}' {
			// The key of an entry is of a basic type.
			if kind == '{' && members == 0 && (sizes[rest[0]] == 0 && rest[0] != 's' && rest[0] != 'o' && rest[0] != 'g' || rest[0] == 'h') || rest[0] == '{' {
				return "", "", wrong
			}
			if _, rest, err = single(rest, depth+1); err != nil {
				return "", "", err
			}
			members++
		}
		closes := map[byte]byte{'(': ')', '{': '}'}[kind]
		if members == 0 || kind == '{' && members != 2 || rest == "" || rest[0] != closes {
			return "", "", wrong
		}
		rest = rest[1:]
	default:
		return "", "", wrong
	}
	return signature[:len(signature)-len(rest)], rest, nil
}
