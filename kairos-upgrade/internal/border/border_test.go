package border

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

func frame(text string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
}

func TestRefused(t *testing.T) {
	for _, text := range []string{
		"", "null", "{}", `{"kind":"rm"}`, `{"kind":"log"}`, `{"kind":"log","line":{"attrs":["a"]}}`, `{"kind":"step"}`,
		`{"kind":"step","step":{"done":-1}}`, `{"kind":"objects"}`, `{"kind":"objects","batch":"AAAA"}`,
		`{"kind":"beat","batch":"AAAA"}`, `{"kind":"objects","temp":"../../etc/passwd"}`, `{"kind":"image","temp":-1}`,
		`{"kind":"answer","error":{"code":0}}`, `{"kind":"answer","error":{"code":130}}`, `{"kind":"beat"`,
	} {
		if m, err := read(bytes.NewReader(frame(text))); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %+v, %v", text, m, err)
		}
	}
	long := binary.BigEndian.AppendUint32(nil, MaxFrame+1)
	if _, err := read(io.MultiReader(bytes.NewReader(long), bytes.NewReader(make([]byte, 2*MaxFrame)))); !errors.Is(err, ErrProtocol) {
		t.Errorf("a frame of more than MaxFrame: %v", err)
	}
	if _, err := read(bytes.NewReader(frame(`{"kind":"beat"}`)[:8])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut off: %v", err)
	}
}

func TestThereAndBack(t *testing.T) {
	a, b := net.Pipe()
	from, to := New(a), New(b)
	defer from.Close()
	file := File{Temp: 7, Digest: fsverity.Digest{1, 2}, Size: 9}
	sent := Message{Kind: Objects, Call: 3, Batch: AppendFile(AppendFile(nil, file), file)}
	go from.Send(sent)
	have, err := to.Receive(time.Minute)
	if err != nil || !reflect.DeepEqual(have, sent) || !reflect.DeepEqual(have.Files(), []File{file, file}) {
		t.Errorf("have %+v, %v", have, err)
	}
	if _, err := to.Receive(time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("silence: %v", err)
	}
	if err := from.Send(Message{Kind: Log, Line: &Line{Text: string(make([]byte, MaxFrame))}}); !errors.Is(err, ErrProtocol) {
		t.Errorf("a long message: %v", err)
	}
	bad := exit.Hint(exit.Reason(exit.WithCode(errors.New("no"), exit.Refused), "quarantined"), "do it")
	if e := ErrorOf(bad, true); !e.Useless || fmt.Sprint(e.Err()) != "no" || exit.Code(e.Err()) != exit.Refused ||
		exit.HintOf(e.Err()) != "do it" || exit.ReasonOf(e.Err()) != "quarantined" {
		t.Errorf("have %+v", e)
	}
}

// FuzzBorder feeds the process with rights what a taken-over reader may send.
func FuzzBorder(f *testing.F) {
	for _, m := range []Message{
		{Kind: Beat}, {Kind: Objects, Call: 1, Batch: AppendFile(nil, File{1, fsverity.Digest{1}, 5})},
		{Kind: Log, Line: &Line{Level: 4, Text: "text", Attrs: []string{"a", "b"}}},
		{Kind: Step, Step: &progress.Step{Phase: "fetch", Total: 5}},
		{Kind: Learnt, Batch: AppendPair(nil, [32]byte{1}, fsverity.Digest{2})},
		{Kind: Reached, Batch: AppendObject(nil, fsverity.Digest{2}, 8)},
		{Kind: Answer, Call: 2, Body: json.RawMessage(`{"a":[1]}`), Error: &Error{Message: "m", Code: 5, Hint: "h"}},
		{Kind: Image, Call: 9, Temp: 4, Digest: "00"}, {Kind: Layer, Name: "sha256:00"},
	} {
		data, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame(string(data)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		for {
			m, err := read(r)
			if err != nil {
				return
			}
			if !kinds[m.Kind] || m.Kind == Step && !m.Step.Valid() {
				t.Fatalf("accepted %+v", m)
			}
			n := len(m.Files())
			m.EachObject(func(fsverity.Digest, int64) { n++ })
			m.EachPair(func([32]byte, fsverity.Digest) { n++ })
			if n > MaxFrame || m.Kind == Objects && n == 0 {
				t.Fatalf("%d entries of %d bytes", n, len(m.Batch))
			}
			_ = m.Error.Err()
			again, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Decode(again); err != nil {
				t.Fatalf("%s: %v", again, err)
			}
		}
	})
}
