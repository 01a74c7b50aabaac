package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/border"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/confine"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/layer"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

// Descriptors that the process that reads images inherits.
const (
	readerSocket = 3
	readerStore  = 4
)

// beatEvery is how often a reader says that it is alive.
const beatEvery = 5 * time.Second

// Read is the main function of the process that reads images: it drops its privileges,
// and answers requests until the socket is closed. explain
// gives errors their statuses and hints before they cross the border.
func Read(ctx context.Context, explain func(error) error) error {
	if err := unix.SetNonblock(readerSocket, true); err != nil {
		return fmt.Errorf("read an image for another process: %w", err)
	}
	s := &served{conn: border.New(os.NewFile(readerSocket, "node")), waiting: map[uint64]chan *border.Error{}, requests: make(chan border.Message)}
	go s.listen()
	go s.beat()
	s.node = &Node{Log: slog.New(crossing{s, nil}), Progress: progress.Across(func(p progress.Step) {
		s.send(border.Message{Kind: border.Step, Step: &p})
	})}
	ctx = context.WithoutCancel(ctx) // a signal that means both ends the other, and so this one
	for m := range s.requests {
		body, err := s.serve(ctx, m)
		answer := border.Message{Kind: border.Answer, Call: m.Call, Error: border.ErrorOf(explain(err), inVain(err))}
		if err == nil {
			answer.Body, err = json.Marshal(body)
		}
		if err != nil && answer.Error == nil {
			answer.Error = border.ErrorOf(err, false)
		}
		s.send(answer)
	}
	return nil
}

// served is the reader's side of the border.
type served struct {
	conn     *border.Conn
	node     *Node
	origin   origin
	requests chan border.Message
	damaged  []fsverity.Digest

	mu      sync.Mutex
	calls   uint64
	waiting map[uint64]chan *border.Error
	learnt  []byte
}

// send sends, or ends the process: nobody is there to hear of it.
func (s *served) send(m border.Message) {
	if err := s.conn.Send(m); errors.Is(err, border.ErrProtocol) {
		if m.Kind == border.Answer {
			s.send(border.Message{Kind: border.Answer, Call: m.Call, Error: border.ErrorOf(err, true)})
		}
	} else if err != nil {
		os.Exit(1)
	}
}

func (s *served) beat() {
	for range time.Tick(beatEvery) {
		s.send(border.Message{Kind: border.Beat})
	}
}

// listen hands on requests and replies. When the other side is gone, so is this
// process.
func (s *served) listen() {
	for {
		m, err := s.conn.Receive(0)
		if err != nil {
			os.Exit(1)
		}
		switch m.Kind {
		case border.Reply:
			s.mu.Lock()
			reply := s.waiting[m.Call]
			delete(s.waiting, m.Call)
			s.mu.Unlock()
			if reply != nil {
				reply <- m.Error
			}
		case border.Damaged:
			m.EachObject(func(d fsverity.Digest, _ int64) { s.damaged = append(s.damaged, d) })
		default:
			s.requests <- m
		}
	}
}

// call sends a message and waits for its reply.
func (s *served) call(m border.Message) error {
	reply := make(chan *border.Error, 1)
	s.mu.Lock()
	s.calls++
	m.Call = s.calls
	s.waiting[m.Call] = reply
	s.mu.Unlock()
	s.send(m)
	return (<-reply).Err()
}

func (s *served) Objects(batch []border.File) error {
	m := border.Message{Kind: border.Objects}
	for _, f := range batch {
		m.Batch = border.AppendFile(m.Batch, f)
	}
	return s.call(m)
}

func (s *served) Image(temp uint64, d fsverity.Digest) error {
	return s.call(border.Message{Kind: border.Image, Temp: temp, Digest: d.String()})
}

func (s *served) Layer(temp uint64, id string) error {
	return s.call(border.Message{Kind: border.Layer, Temp: temp, Name: id})
}

func (s *served) Learnt(sum store.Sum, d fsverity.Digest) {
	s.learnt = border.AppendPair(s.learnt, sum, d)
	if len(s.learnt) > border.MaxFrame/2 {
		s.tellLearnt()
	}
}

func (s *served) tellLearnt() {
	if len(s.learnt) > 0 {
		s.send(border.Message{Kind: border.Learnt, Batch: s.learnt})
		s.learnt = nil
	}
}

func (s *served) Commit() error {
	s.tellLearnt()
	return s.call(border.Message{Kind: border.Commit})
}

func (s *served) serve(ctx context.Context, m border.Message) (any, error) {
	if m.Name == "open" {
		var o opening
		if err := json.Unmarshal(m.Body, &o); err != nil {
			return nil, err
		}
		return s.open(ctx, o)
	}
	n := s.node
	if s.origin == nil {
		return nil, errors.ErrUnsupported
	}
	n.Store.Forget()
	known := n.Store
	if string(m.Body) == "false" { // what an empty store would need
		known = nil
	}
	switch m.Name {
	case "estimate":
		have, err := s.origin.estimate(ctx, known)
		return needed{have.store, have.boot, have.exact, have.files}, err
	case "toFetch":
		layers, size := s.origin.toFetch(known)
		return toFetched{layers, size}, nil
	case "fetch":
		return s.fetch(ctx)
	case "check":
		return s.check(ctx)
	}
	return nil, errors.ErrUnsupported
}

func (s *served) open(ctx context.Context, o opening) (any, error) {
	v, err := view.Inherited(readerStore, o.Store)
	if err != nil {
		return nil, err
	}
	n := s.node
	n.MustBoot = o.MustBoot
	if n.Store, err = store.Borrow(v, o.Loan, o.Verity, s); err != nil {
		return nil, err
	}
	for _, d := range s.damaged {
		n.Store.Distrust(d)
	}
	if err := confineReader(n.Store, o); err != nil {
		return nil, err
	}
	o.Options.Log = n.Log
	if o.Loan != "" {
		o.Options.TempDir, o.Options.Spool = n.Store.TempDir(), n.Store
	}
	if s.origin, err = openOrigin(ctx, o.Given, o.Options); err != nil {
		return nil, err
	}
	return s.origin.about(), nil
}

// confineReader takes from the process what it does not need.
func confineReader(s *store.Store, o opening) error {
	write := o.Scratch
	if o.Loan != "" {
		write = s.Lent()
	}
	var keep []uintptr
	if src, err := source.Parse(o.Given); err == nil && !src.Remote() {
		keep = append(keep, unix.CAP_DAC_READ_SEARCH) // trees and archives may be others' files
	}
	err := confine.Process(write, keep...)
	if errors.Is(err, confine.ErrThreads) { // a build for tests
		return nil
	}
	return err
}

func (s *served) fetch(ctx context.Context) (any, error) {
	c, fetched, err := s.origin.fetch(ctx, s.node)
	if err != nil {
		return nil, err
	}
	s.reached(maps.All(c.objects))
	return fetchedContents{Image: c.image.String(), Kernel: c.kernel, OS: c.os, Version: c.version, Boot: c.boot,
		Notes: c.notes, Kargs: c.kargs, Faults: c.faults, Fetched: fetched}, nil
}

// reached tells of objects.
func (s *served) reached(objects iter.Seq2[fsverity.Digest, int64]) {
	var batch []byte
	for d, size := range objects {
		if batch = border.AppendObject(batch, d, size); len(batch) > border.MaxFrame/2 {
			s.send(border.Message{Kind: border.Reached, Batch: batch})
			batch = nil
		}
	}
	if len(batch) > 0 {
		s.send(border.Message{Kind: border.Reached, Batch: batch})
	}
}

func (s *served) check(ctx context.Context) (any, error) {
	live, err := s.origin.check(ctx)
	if errors.Is(err, errElsewhere) {
		return living{Elsewhere: true}, nil
	}
	if err != nil {
		return nil, err
	}
	s.reached(func(yield func(fsverity.Digest, int64) bool) {
		for d := range live.Objects {
			if !yield(d, 0) {
				return
			}
		}
	})
	have := living{Layers: slices.Collect(maps.Keys(live.Layers))}
	for d := range live.Images {
		have.Images = append(have.Images, d.String())
	}
	return have, nil
}

// inVain reports whether an error says that what has arrived is of no use.
func inVain(err error) bool {
	for _, is := range []error{boot.ErrNoKernel, layer.ErrLayer, layer.ErrLimit, source.ErrDigest, source.ErrCompressed, errUseless} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// crossing is a log whose lines another process writes.
type crossing struct {
	to    *served
	attrs []string
}

func (c crossing) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (c crossing) Handle(_ context.Context, r slog.Record) error {
	line := border.Line{Level: int(r.Level), Text: r.Message, Attrs: append([]string{}, c.attrs...)}
	r.Attrs(func(a slog.Attr) bool {
		line.Attrs = append(line.Attrs, a.Key, a.Value.Resolve().String())
		return true
	})
	c.to.send(border.Message{Kind: border.Log, Line: &line})
	return nil
}

func (c crossing) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		c.attrs = append(c.attrs[:len(c.attrs):len(c.attrs)], a.Key, a.Value.Resolve().String())
	}
	return c
}

func (c crossing) WithGroup(string) slog.Handler { return c }
