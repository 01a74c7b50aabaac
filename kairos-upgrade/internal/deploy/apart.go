package deploy

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/border"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/lint"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"github.com/kairos-io/toolkit/lib/terminal"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Apart describes how images are read in a separate unprivileged process: it decodes
// the untrusted input, and the process that mounts, enables fs-verity and publishes
// gets only numbers, digests and a few lines of text, all of which it checks. See
// package border; Read is the other side.
type Apart struct {
	// Command returns the command that calls Read.
	Command func() *exec.Cmd
	// Scratch is where it may write, beside its place in the store.
	Scratch []string
}

// patience is how long nothing may be heard of the reader, which says every few
// seconds that it is alive. A variable for tests.
var patience = time.Minute

// heirs is how long what the reader has executed may hold its standard error open when
// it is gone.
const heirs = 2 * time.Second

// openOrigin opens a source, in a process of its own if the node says how. Not a
// containers-storage: its library mounts it, and what it holds is this
// machine's own. Nor another store: whoever names one says what runs as root after
// the next boot, without a signature, and a copy of all its objects through the other
// process would cost half as much again. Nor for a medium: that process has no rights
// as a whole.
func (n *Node) openOrigin(ctx context.Context, given string, opts source.Options) (origin, error) {
	if n.Apart == nil || n.Medium != nil || source.Mounts(given) || source.IsStore(given) {
		return openOrigin(ctx, given, opts)
	}
	r, err := n.startReader()
	if err != nil {
		return nil, fmt.Errorf("start the process that reads images: %w", err)
	}
	if err := r.open(ctx, given, opts); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// reader is an origin in another process.
type reader struct {
	node    *Node
	cmd     *exec.Cmd
	conn    *border.Conn
	loan    *store.Loan // nil: the store is only read
	last    deployment.Record
	calls   uint64
	answers chan border.Message
	said    beginning // of its standard error

	mu      sync.Mutex
	lie     error // why it is not to be trusted
	reached map[fsverity.Digest]int64
	lines   int

	work  sync.WaitGroup // what it has handed over
	slots chan struct{}
	ended chan struct{} // it is gone, and err says why
	err   error
}

// maxLines bounds what one reader logs.
const maxLines = 2000

func (n *Node) startReader() (*reader, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "reader"), os.NewFile(uintptr(pair[1]), "node")
	defer theirs.Close()
	r := &reader{node: n, conn: border.New(ours), answers: make(chan border.Message, 1), slots: make(chan struct{}, 4), ended: make(chan struct{})}
	dir, err := n.Store.Root().Open(".")
	if err != nil {
		return nil, errors.Join(err, r.conn.Close())
	}
	defer dir.Close()
	if n.Store.TempDir() != "" {
		if r.loan, err = n.Store.Lend(); err != nil {
			return nil, errors.Join(err, r.conn.Close())
		}
	}
	r.conn.Patience = patience
	r.cmd = n.Apart.Command()
	r.cmd.WaitDelay = heirs // what it has executed may keep its stderr open
	r.cmd.ExtraFiles = []*os.File{theirs, dir}
	if r.cmd.Env == nil {
		r.cmd.Env = os.Environ()
	}
	r.cmd.Env = slices.DeleteFunc(r.cmd.Env, func(e string) bool { return strings.HasPrefix(e, "NOTIFY_SOCKET=") })
	r.cmd.Stderr = &r.said
	if err := r.cmd.Start(); err != nil {
		return nil, errors.Join(err, r.conn.Close(), r.giveBack())
	}
	go r.listen()
	return r, nil
}

func (r *reader) giveBack() error {
	if r.loan == nil {
		return nil
	}
	return r.loan.Close()
}

// beginning keeps the beginning of what is written to it.
type beginning struct {
	mu   sync.Mutex
	text []byte
}

func (b *beginning) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p[:min(len(p), 4096-len(b.text))]...)
	return len(p), nil
}

// line is its first line.
func (b *beginning) line() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	line, _, _ := bytes.Cut(bytes.TrimSpace(b.text), []byte("\n"))
	return terminal.Line(string(line[:min(len(line), 512)]))
}

// ErrReader says that the process that reads images failed: it died, stopped answering,
// or violated the protocol.
var ErrReader = errors.New("the process that reads the image")

// listen does what the reader asks for until it is gone.
func (r *reader) listen() {
	defer close(r.ended)
	var err error
	for err == nil {
		var m border.Message
		if m, err = r.conn.Receive(patience); err == nil {
			err = r.hear(m)
		}
	}
	_ = r.cmd.Process.Kill()
	r.conn.Close()
	r.work.Wait()
	gone := r.cmd.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lie == nil && errors.Is(err, border.ErrProtocol) {
		r.lie = err
	}
	var exited *exec.ExitError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		r.err = fmt.Errorf("%w has not been heard of for %s, and was ended", ErrReader, patience)
	case r.lie != nil:
		r.err = fmt.Errorf("%w is not to be trusted, and was ended: %w", ErrReader, r.lie)
	case errors.As(gone, &exited):
		r.err = fmt.Errorf("%w died: %w", ErrReader, gone)
	default:
		r.err = fmt.Errorf("%w ended: %w", ErrReader, err)
	}
	if line := r.said.line(); line != "" {
		r.err = fmt.Errorf("%w: %s", r.err, line)
	}
	r.err = useless(r.err)
}

// hear handles one message. An error ends the reader.
func (r *reader) hear(m border.Message) error {
	n := r.node
	switch m.Kind {
	case border.Beat:
	case border.Log:
		r.log(m.Line)
	case border.Step:
		n.Progress.Take(*m.Step)
	case border.Answer:
		select {
		case r.answers <- m:
		default:
			return fmt.Errorf("%w: an answer that nobody waits for", border.ErrProtocol)
		}
	case border.Reached:
		return r.reach(m)
	case border.Learnt:
		if r.loan == nil {
			return errOnlyReads
		}
		m.EachPair(r.loan.Learn)
	case border.Objects, border.Layer, border.Image, border.Commit:
		if r.loan == nil {
			return errOnlyReads
		}
		r.slots <- struct{}{}
		r.work.Go(func() {
			defer func() { <-r.slots }()
			err := r.takeOver(m)
			sent := r.conn.Send(border.Message{Kind: border.Reply, Call: m.Call, Error: border.ErrorOf(err, false)})
			if errors.Is(sent, os.ErrDeadlineExceeded) {
				r.distrust(fmt.Errorf("it does not read replies: %w", sent))
			}
			if errors.Is(err, store.ErrForeign) || errors.Is(err, fsverity.ErrMismatch) || errors.Is(err, border.ErrProtocol) {
				r.distrust(err)
			}
		})
	default:
		return fmt.Errorf("%w: %s from a reader", border.ErrProtocol, m.Kind)
	}
	return nil
}

var errOnlyReads = fmt.Errorf("%w: the store is only read", border.ErrProtocol)

// distrust ends a reader that lies.
func (r *reader) distrust(err error) {
	r.mu.Lock()
	r.lie = cmp.Or(r.lie, err)
	r.mu.Unlock()
	_ = r.cmd.Process.Kill()
}

func (r *reader) log(l *border.Line) {
	r.mu.Lock()
	r.lines++
	many := r.lines > maxLines
	r.mu.Unlock()
	if many {
		return
	}
	var attrs []any
	for _, a := range l.Attrs {
		attrs = append(attrs, a)
	}
	for i := 0; i+1 < len(attrs); i += 2 {
		attrs[i] = strings.Map(func(c rune) rune {
			if c >= 'a' && c <= 'z' {
				return c
			}
			return '_'
		}, l.Attrs[i])
	}
	r.node.Log.Log(context.Background(), slog.Level(l.Level), l.Text, attrs...)
}

func (r *reader) reach(m border.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reached == nil {
		r.reached = map[fsverity.Digest]int64{}
	}
	m.EachObject(func(d fsverity.Digest, size int64) { r.reached[d] = size })
	if len(r.reached) > maxReached {
		return fmt.Errorf("%w: more than %d objects", border.ErrProtocol, maxReached)
	}
	return nil
}

// maxReached bounds the objects of an image: as many as the index of contents has.
const maxReached = 1 << 21

// takeOver gives what the reader has written its place.
func (r *reader) takeOver(m border.Message) error {
	switch m.Kind {
	case border.Objects:
		var group errgroup.Group
		group.SetLimit(4) // as a store's own finishers
		for files := range slices.Chunk(m.Files(), 16) {
			group.Go(func() error {
				for _, f := range files {
					if err := r.loan.Object(f.Temp, f.Digest, f.Size); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return group.Wait()
	case border.Layer:
		if !slices.Contains(r.last.Layers, m.Name) {
			return fmt.Errorf("%w: %.80q is no layer of this image", border.ErrProtocol, m.Name)
		}
		return r.loan.Layer(m.Temp, m.Name)
	case border.Image:
		d, err := fsverity.Parse(m.Digest)
		if err != nil {
			return fmt.Errorf("%w: %w", border.ErrProtocol, err)
		}
		return r.loan.Image(m.Temp, d)
	}
	return r.node.Store.Commit(context.Background())
}

// ask asks the reader for something, and waits.
func (r *reader) ask(ctx context.Context, name string, body, answer any) error {
	r.calls++
	m := border.Message{Kind: border.Request, Call: r.calls, Name: name}
	var err error
	if m.Body, err = json.Marshal(body); err != nil {
		return err
	}
	if err := r.conn.Send(m); err != nil && !errors.Is(err, border.ErrProtocol) {
		err = nil // it is gone: listen says why
	} else if err != nil {
		return err
	}
	select {
	case m = <-r.answers:
	case <-r.ended:
		return r.failed(ctx)
	case <-ctx.Done():
		r.stop()
		return ctx.Err()
	}
	switch {
	case m.Call != r.calls:
		err = fmt.Errorf("%w: an answer to %d, not %d", border.ErrProtocol, m.Call, r.calls)
	case m.Error != nil && ctx.Err() != nil:
		return ctx.Err()
	case m.Error != nil:
		if err = m.Error.Err(); m.Error.Useless {
			err = useless(err)
		}
		return err
	case answer != nil:
		if err = json.Unmarshal(m.Body, answer); err != nil {
			err = fmt.Errorf("%w: %w", border.ErrProtocol, err)
		}
	}
	return r.untrue(err)
}

// untrue ends a reader whose answer can't be.
func (r *reader) untrue(err error) error {
	if err == nil {
		return nil
	}
	r.stop()
	return useless(fmt.Errorf("%w is not to be trusted, and was ended: %w", ErrReader, err))
}

// failed says why the reader is gone. Who interrupts the one interrupts the other.
func (r *reader) failed(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.err
}

// stop ends the reader, and what it has handed over.
func (r *reader) stop() {
	_ = r.cmd.Process.Kill()
	<-r.ended
}

// Close ends the reader, and takes away what it has not handed over.
func (r *reader) Close() error {
	r.stop()
	return r.giveBack()
}

// opening is the first request: what is to be read, and from where.
type opening struct {
	Given    string         `json:"given"`
	Options  source.Options `json:"options"` // without what is no setting
	Store    string         `json:"store"`   // for messages
	Loan     string         `json:"loan"`
	Verity   bool           `json:"verity"`
	MustBoot bool           `json:"must_boot"`
	Scratch  []string       `json:"scratch"`
}

func (r *reader) open(ctx context.Context, given string, opts source.Options) error {
	opts.Log, opts.Spool, opts.TempDir = nil, nil, ""
	o := opening{Given: given, Options: opts, Store: r.node.Store.View().Path, Verity: r.node.Store.Verity(),
		MustBoot: r.node.MustBoot, Scratch: r.node.Apart.Scratch}
	if r.loan != nil {
		o.Loan = r.loan.Name()
	}
	var batch []byte
	for d := range r.node.Store.Distrusted() {
		if batch = border.AppendObject(batch, d, 0); len(batch) > border.MaxFrame/2 {
			_ = r.conn.Send(border.Message{Kind: border.Damaged, Batch: batch})
			batch = nil
		}
	}
	if len(batch) > 0 {
		_ = r.conn.Send(border.Message{Kind: border.Damaged, Batch: batch})
	}
	if err := r.ask(ctx, "open", o, &r.last); err != nil {
		return err
	}
	return r.untrue(errors.Join(checkAbout(r.last), checkInsecure(r.last, opts)))
}

func (r *reader) about() deployment.Record { return r.last }

// needed is a need on its way.
type needed struct {
	Store, Boot int64
	Exact       bool
	Files       []deployment.File
}

func (r *reader) estimate(ctx context.Context, s *store.Store) (n need, err error) {
	var have needed
	if err := r.ask(ctx, "estimate", s != nil, &have); err != nil {
		return n, err
	}
	if have.Store < 0 || have.Boot < 0 || have.Store > maxBytes || have.Boot > maxBytes {
		err = fmt.Errorf("%w: %d and %d bytes needed", border.ErrProtocol, have.Store, have.Boot)
	}
	for _, f := range have.Files {
		if f.Digest != "" || f.Path != "" {
			err = errors.Join(err, checkBootFile(f))
		}
	}
	return need{have.Store, have.Boot, have.Exact, have.Files}, r.untrue(err)
}

// maxBytes leaves room to calculate with: 64 PiB.
const maxBytes = 1 << 56

// toFetched is the answer to toFetch.
type toFetched struct {
	Known int
	Size  int64
}

func (r *reader) toFetch(s *store.Store) (known int, size int64) {
	var have toFetched
	if r.ask(context.Background(), "toFetch", s != nil, &have) != nil || have.Known < 0 || have.Size < 0 {
		return 0, 0
	}
	return min(have.Known, len(r.last.Layers)), min(have.Size, maxBytes)
}

// fetchedContents is the answer to fetch; the objects come before it.
type fetchedContents struct {
	Image, Kernel, OS, Version string
	Boot                       []deployment.File
	Notes, Kargs               []string
	Faults                     []lint.Finding
	Fetched                    Fetched
}

func (r *reader) fetch(ctx context.Context, n *Node) (*contents, Fetched, error) {
	if n != r.node || r.loan == nil {
		return nil, Fetched{}, errors.ErrUnsupported
	}
	var have fetchedContents
	if err := r.ask(ctx, "fetch", nil, &have); err != nil {
		r.stop() // what it has under way must not arrive while it is undone
		return nil, have.Fetched, err
	}
	c, err := r.contents(have)
	return c, have.Fetched, r.untrue(err)
}

// contents checks what the reader says of the image that it has made.
func (r *reader) contents(have fetchedContents) (*contents, error) {
	n := r.node
	image, err := fsverity.Parse(have.Image)
	if err == nil {
		err = n.Store.Vouch(image)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: image %.80q: %w", border.ErrProtocol, have.Image, err)
	}
	c := &contents{image: image, boot: have.Boot, kernel: have.Kernel, notes: have.Notes, kargs: have.Kargs,
		os: have.OS, version: have.Version, faults: have.Faults}
	r.mu.Lock()
	c.objects, r.reached = r.reached, nil
	r.mu.Unlock()
	for d, size := range c.objects {
		if is, err := n.Store.Size(d); err != nil || is != size {
			return nil, fmt.Errorf("%w: object %s of %d bytes: it has %d: %w", border.ErrProtocol, d, size, is, errors.Join(err))
		}
		c.bytes += size
	}
	for _, f := range c.boot {
		if err := checkBootFile(f); err != nil {
			return nil, err
		}
		d, _ := fsverity.Parse(f.Digest)
		if size, ok := c.objects[d]; !ok || size != f.Size {
			return nil, fmt.Errorf("%w: boot file %s is no object of the image", border.ErrProtocol, f.Path)
		}
	}
	for _, text := range append([]string{c.kernel, c.os, c.version}, c.kargs...) {
		if err := checkText(text); err != nil {
			return nil, err
		}
	}
	if err := boot.CheckImageKargs(c.kargs); err != nil {
		return nil, fmt.Errorf("%w: %w", border.ErrProtocol, err)
	}
	return c, nil
}

// checkBootFile refuses a boot file that is written elsewhere than its digest
// says.
func checkBootFile(f deployment.File) error {
	known := f.Kind == boot.Linux || f.Kind == boot.Initrd || f.Kind == boot.UKI
	if _, err := fsverity.Parse(f.Digest); !known || err != nil || f.Path != boot.FilePath(f.Kind, f.Digest) || f.Size < 0 || f.Size > maxBytes {
		return fmt.Errorf("%w: boot file %.80q in %.80q", border.ErrProtocol, f.Kind, f.Path)
	}
	return nil
}

// checkText refuses what is no line of a boot entry or a record.
func checkText(s string) error {
	if len(s) > maxText || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%w: text %.80q", border.ErrProtocol, s)
	}
	return nil
}

// maxText is the length of the longest text about an image, in bytes: a
// reference, a kernel argument.
const maxText = 4096

// checkInsecure refuses a registry without TLS that nobody has accepted: it would be
// remembered.
func checkInsecure(r deployment.Record, opts source.Options) error {
	if r.InsecureRegistry == "" || opts.Insecure || r.InsecureRegistry == opts.InsecureRegistry {
		return nil
	}
	return fmt.Errorf("%w: %.80q was not accepted without TLS", border.ErrProtocol, r.InsecureRegistry)
}

// checkAbout refuses a description that no source has.
func checkAbout(r deployment.Record) error {
	for _, text := range []string{r.Reference, r.Version, r.Architecture, r.Kernel, r.OS, r.InsecureRegistry} {
		if err := checkText(text); err != nil {
			return err
		}
	}
	digests := slices.Clone(r.Layers)
	for _, d := range []string{r.ManifestDigest, r.ImageDigest} {
		if d != "" {
			digests = append(digests, d)
		}
	}
	for _, d := range digests {
		if _, err := deployment.ParseDigest(d); err != nil {
			return fmt.Errorf("%w: %w", border.ErrProtocol, err)
		}
	}
	for _, f := range r.Boot {
		if err := checkBootFile(f); err != nil {
			return err
		}
	}
	only := deployment.Record{ManifestDigest: r.ManifestDigest, ImageDigest: r.ImageDigest, Reference: r.Reference, Version: r.Version,
		Architecture: r.Architecture, Layers: r.Layers, Boot: r.Boot, Kernel: r.Kernel, OS: r.OS, InsecureRegistry: r.InsecureRegistry, Created: r.Created}
	a, errA := json.Marshal(only)
	b, errB := json.Marshal(r)
	if err := errors.Join(errA, errB); err != nil || !bytes.Equal(a, b) {
		return errors.Join(fmt.Errorf("%w: more about the image than a source knows", border.ErrProtocol), err)
	}
	return nil
}

func (r *reader) digest(context.Context, func(done, total int64)) (d fsverity.Digest, err error) {
	return d, errors.ErrUnsupported
}

func (r *reader) examine(context.Context, *lint.Keep, func(done, total int64)) (lint.Image, error) {
	return lint.Image{}, errors.ErrUnsupported
}

// living is the answer to check; the objects come before it.
type living struct {
	Elsewhere bool
	Images    []string
	Layers    []string
}

// check keeps more, or less, of the store than it should if the reader lies: of a
// recovery system that is given up anyway.
func (r *reader) check(ctx context.Context) (live store.Live, err error) {
	var have living
	if err := r.ask(ctx, "check", nil, &have); err != nil {
		return live, err
	}
	if have.Elsewhere {
		return live, errElsewhere
	}
	live = store.Live{Objects: map[fsverity.Digest]struct{}{}, Images: map[fsverity.Digest]struct{}{}, Layers: map[string]struct{}{}}
	r.mu.Lock()
	for d := range r.reached {
		live.Objects[d] = struct{}{}
	}
	r.reached = nil
	r.mu.Unlock()
	for _, image := range have.Images {
		d, err := fsverity.Parse(image)
		if err != nil {
			return live, r.untrue(fmt.Errorf("%w: %w", border.ErrProtocol, err))
		}
		live.Images[d] = struct{}{}
	}
	for _, id := range have.Layers {
		live.Layers[id] = struct{}{}
	}
	return live, nil
}

var _ io.Closer = (*reader)(nil)
