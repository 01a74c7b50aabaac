package source

import "io"

// Size and number of the blocks that are read ahead of a stream: 1 MiB.
const (
	aheadBlock  = 256 << 10
	aheadBlocks = 4
)

// readAhead reads r in a goroutine of its own, so that decompression and what
// is done with the result run at the same time. Once Read has returned an
// error, or stop has returned, the goroutine has ended.
type readAhead struct {
	full    chan aheadRead
	free    chan []byte
	quit    chan struct{}
	ended   chan struct{}
	current []byte
	block   []byte
	err     error
}

type aheadRead struct {
	data []byte
	err  error
}

func newReadAhead(r io.Reader) *readAhead {
	a := &readAhead{
		full:  make(chan aheadRead, aheadBlocks),
		free:  make(chan []byte, aheadBlocks),
		quit:  make(chan struct{}),
		ended: make(chan struct{}),
	}
	for range aheadBlocks {
		a.free <- make([]byte, aheadBlock)
	}
	go a.run(r)
	return a
}

func (a *readAhead) run(r io.Reader) {
	defer close(a.ended)
	for {
		var block []byte
		select {
		case block = <-a.free:
		case <-a.quit:
			return
		}
		n, err := 0, error(nil)
		for n < len(block) && err == nil {
			var k int
			k, err = r.Read(block[n:])
			n += k
		}
		a.full <- aheadRead{block[:n], err} // there is room for every block
		if err != nil {
			return
		}
	}
}

func (a *readAhead) Read(p []byte) (int, error) {
	for len(a.current) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if a.block != nil {
			a.free <- a.block
		}
		read := <-a.full
		a.current, a.block = read.data, read.data[:aheadBlock]
		if read.err != nil {
			a.err = read.err
			<-a.ended
		}
	}
	n := copy(p, a.current)
	a.current = a.current[n:]
	return n, nil
}

// stop ends the goroutine once r returns from what it is reading. No Read may
// follow.
func (a *readAhead) stop() {
	close(a.quit)
	<-a.ended
}
