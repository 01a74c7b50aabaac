// Package border is the protocol between the process that changes a node and the
// unprivileged process that reads untrusted input. Both send frames over a socket: four
// bytes of length, and a Message in JSON.
//
// The privileged process trusts nothing: frames have a maximum size, messages a known
// kind, files numbers instead of names, and digests are computed again.
package border

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"github.com/kairos-io/toolkit/lib/kind"
)

// MaxFrame is the length of the longest message, in bytes.
const MaxFrame = 1 << 20

// Kinds of messages.
const (
	Request = "request" // asks the reader for something
	Answer  = "answer"  // to a request, with its Call
	Beat    = "beat"    // the reader is alive
	Log     = "log"
	Step    = "step"    // of the progress
	Objects = "objects" // Batch of objects has been written: wants a reply
	Layer   = "layer"   // the record of the layer Name is in the file Temp: wants a reply
	Image   = "image"   // the image Digest is in the file Temp: wants a reply
	Commit  = "commit"  // wants a reply when all of them have their names
	Learnt  = "learnt"  // Batch of contents: Sum and Digest
	Reached = "reached" // Batch of the objects of an image; comes before its answer
	Damaged = "damaged" // Batch of objects that the reader is not to count as present
	Reply   = "reply"   // to the reader's message with the same Call
)

var kinds = map[string]bool{
	Request: true, Answer: true, Beat: true, Log: true, Step: true, Objects: true, Layer: true, Image: true,
	Commit: true, Learnt: true, Reached: true, Damaged: true, Reply: true,
}

// ErrProtocol says that a received frame is no valid message.
var ErrProtocol = errors.New("not what the protocol says")

// Message is one message. Which fields count follows from its kind.
type Message struct {
	Kind   string          `json:"kind"`
	Call   uint64          `json:"call,omitempty"`
	Name   string          `json:"name,omitempty"`
	Temp   uint64          `json:"temp,omitempty"`
	Digest string          `json:"digest,omitempty"`
	Batch  []byte          `json:"batch,omitempty"`
	Error  *Error          `json:"error,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`
	Line   *Line           `json:"line,omitempty"`
	Step   *progress.Step  `json:"step,omitempty"`
}

// Line is one of the log.
type Line struct {
	Level int      `json:"level"` // of log/slog
	Text  string   `json:"text"`
	Attrs []string `json:"attrs,omitempty"` // names and values
}

// Decode reads a message. Errors: ErrProtocol.
func Decode(data []byte) (m Message, err error) {
	if err := json.Unmarshal(data, &m); err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	size := map[string]int{Objects: fileSize, Learnt: pairSize, Reached: objectSize, Damaged: objectSize}[m.Kind]
	switch {
	case !kinds[m.Kind]:
		err = fmt.Errorf("kind %.20q", m.Kind)
	case size == 0 && len(m.Batch) > 0, size > 0 && (len(m.Batch) == 0 || len(m.Batch)%size != 0):
		err = fmt.Errorf("a batch of %d bytes with %s", len(m.Batch), m.Kind)
	case m.Kind == Log && (m.Line == nil || len(m.Line.Attrs)%2 != 0), m.Kind == Step && m.Step == nil:
		err = fmt.Errorf("%s without content", m.Kind)
	case m.Kind == Step && !m.Step.Valid():
		err = errors.New("progress out of range")
	case m.Error != nil && !m.Error.valid():
		err = fmt.Errorf("exit status %d", m.Error.Code)
	}
	if err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return m, nil
}

// A Conn is one end of the border. Several goroutines may send.
type Conn struct {
	conn  io.ReadWriteCloser
	r     *bufio.Reader
	mu    sync.Mutex
	limit func(time.Time) error // of the next read
	until func(time.Time) error // of the next write

	// Patience is how long Send waits for an end that does not read; 0 without limit.
	// It is set before the first Send.
	Patience time.Duration
}

// New takes over a connection. Where it has read deadlines, Receive may have a
// limit.
func New(c io.ReadWriteCloser) *Conn {
	b := &Conn{conn: c, r: bufio.NewReaderSize(c, 64<<10)}
	if d, ok := c.(interface{ SetReadDeadline(time.Time) error }); ok {
		b.limit = d.SetReadDeadline
	}
	if d, ok := c.(interface{ SetWriteDeadline(time.Time) error }); ok {
		b.until = d.SetWriteDeadline
	}
	return b
}

// Send sends a message. Errors: ErrProtocol for one that is too long,
// os.ErrDeadlineExceeded, after which the connection is of no use.
func (c *Conn) Send(m Message) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(data) > MaxFrame {
		return fmt.Errorf("%w: a message of %d bytes", ErrProtocol, len(data))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Patience > 0 && c.until != nil {
		if err := c.until(time.Now().Add(c.Patience)); err != nil {
			return err
		}
	}
	_, err = c.conn.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(data)), uint32(len(data))), data...))
	return err
}

// Receive waits for the next message, no longer than patience unless that is 0.
// Errors: io.EOF when the other end is closed, os.ErrDeadlineExceeded,
// ErrProtocol.
func (c *Conn) Receive(patience time.Duration) (Message, error) {
	if patience > 0 && c.limit != nil {
		if err := c.limit(time.Now().Add(patience)); err != nil {
			return Message{}, err
		}
	}
	return read(c.r)
}

func read(r io.Reader) (Message, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return Message{}, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > MaxFrame {
		return Message{}, fmt.Errorf("%w: a message of %d bytes", ErrProtocol, n)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return Message{}, err
	}
	return Decode(data)
}

// Close closes the connection.
func (c *Conn) Close() error { return c.conn.Close() }

// File is an object that has been written to the file with a number.
type File struct {
	Temp   uint64
	Digest fsverity.Digest
	Size   int64 // bytes
}

const (
	objectSize = fsverity.Size + 8
	fileSize   = 8 + objectSize
	pairSize   = 32 + fsverity.Size
)

// AppendFile adds one to the batch of Objects.
func AppendFile(b []byte, f File) []byte {
	return AppendObject(binary.BigEndian.AppendUint64(b, f.Temp), f.Digest, f.Size)
}

// Files reads a batch of Objects.
func (m Message) Files() (files []File) {
	for b := m.Batch; len(b) >= fileSize; b = b[fileSize:] {
		d, size := object(b[8:])
		files = append(files, File{binary.BigEndian.Uint64(b), d, size})
	}
	return files
}

// AppendObject adds one to the batch of Reached or Damaged.
func AppendObject(b []byte, d fsverity.Digest, size int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, d[:]...), uint64(size))
}

// EachObject reads a batch of Reached or Damaged.
func (m Message) EachObject(visit func(fsverity.Digest, int64)) {
	for b := m.Batch; len(b) >= objectSize; b = b[objectSize:] {
		visit(object(b))
	}
}

func object(b []byte) (d fsverity.Digest, size int64) {
	copy(d[:], b)
	return d, int64(binary.BigEndian.Uint64(b[fsverity.Size:]))
}

// AppendPair adds one to the batch of Learnt.
func AppendPair(b []byte, sum [32]byte, d fsverity.Digest) []byte {
	return append(append(b, sum[:]...), d[:]...)
}

// EachPair reads a batch of Learnt.
func (m Message) EachPair(visit func(sum [32]byte, d fsverity.Digest)) {
	for b := m.Batch; len(b) >= pairSize; b = b[pairSize:] {
		visit([32]byte(b[:32]), fsverity.Digest(b[32:pairSize]))
	}
}

// Error is an error on its way over the border.
type Error struct {
	Message string `json:"message"`
	Code    int    `json:"code"`
	Hint    string `json:"hint,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Useless bool   `json:"useless,omitempty"` // what has arrived is of no use
}

// ErrorOf is an error as it is sent; nil for none.
func ErrorOf(err error, useless bool) *Error {
	if err == nil {
		return nil
	}
	e := &Error{Message: exit.Message(err), Code: exit.Code(err), Hint: exit.HintOf(err), Reason: exit.ReasonOf(err), Useless: useless}
	e.Message, e.Hint = cut(e.Message), cut(e.Hint)
	if !e.valid() {
		e.Code = exit.Failed
	}
	return e
}

// cut keeps a text within a frame.
func cut(s string) string { return s[:min(len(s), 64<<10)] }

func (e *Error) valid() bool { return e.Code >= exit.Failed && e.Code <= exit.Busy }

// Err is the error that was sent.
func (e *Error) Err() error {
	if e == nil {
		return nil
	}
	err := errors.New(e.Message)
	if e.Code == exit.NoSpace {
		err = kind.Of(syscall.ENOSPC, err)
	}
	if e.Code != exit.Failed {
		err = exit.WithCode(err, e.Code)
	}
	if e.Reason != "" && e.Reason != exit.ReasonOf(err) {
		err = exit.Reason(err, e.Reason)
	}
	if e.Hint != "" {
		err = exit.Hint(err, "%s", e.Hint)
	}
	return err
}
