package vm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/kairos-io/toolkit/tests/agent"
)

// ErrInterrupted says that the guest went away (reboot, power-off) while a script ran.
var ErrInterrupted = errors.New("the guest went away while the script ran")

// Result is what a script did.
type Result struct {
	Stdout, Stderr string
	Status         int   // exit status; 128 + number of the signal that ended it
	MaxRSS         int64 // bytes: the most that one of its processes had in memory
}

// Output is what the script wrote, standard output first.
func (r Result) Output() string { return r.Stdout + r.Stderr }

// StatusError says that a script failed.
type StatusError struct {
	Script string
	Result Result
}

func (e *StatusError) Error() string {
	output := strings.TrimRight(e.Result.Output(), "\n")
	return fmt.Sprintf("in the guest: %s: exit status %d\n  %s", e.Script, e.Result.Status, strings.ReplaceAll(output, "\n", "\n  "))
}

// guest is the host's end of the agent's port.
type guest struct {
	conn    net.Conn
	state   *state
	replies atomic.Int64 // lines that came from the guest
	mu      sync.Mutex
	next    int
	waiting map[int]*script
}

type script struct {
	stdout, stderr bytes.Buffer
	live           io.Writer // also gets the output, as it comes
	done           chan struct{}
	result         Result
	err            error
}

func newGuest(conn net.Conn, state *state) *guest {
	g := &guest{conn: conn, state: state, waiting: map[int]*script{}}
	go g.follow()
	return g
}

// hello asks an agent that is already there to announce itself.
func (g *guest) hello() { json.NewEncoder(g.conn).Encode(agent.Request{Hello: true}) }

func (g *guest) follow() {
	lines := bufio.NewReader(g.conn)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			g.lost()
			return
		}
		var reply agent.Reply
		if json.Unmarshal(line, &reply) != nil {
			continue // half a line of an earlier boot
		}
		g.replies.Add(1)
		switch {
		case reply.Hello:
			g.greeted(reply.Session)
		case reply.Bye:
			g.state.happened(AgentBye, func() { g.state.session = "" })
		default:
			g.answered(reply)
		}
	}
}

func (g *guest) greeted(session string) {
	g.state.mu.Lock()
	known := g.state.session == session
	g.state.mu.Unlock()
	if known {
		return
	}
	g.lost()
	g.state.happened(AgentUp, func() { g.state.session = session })
}

// lost ends all scripts that wait for a guest that is gone.
func (g *guest) lost() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, s := range g.waiting {
		s.err = ErrInterrupted
		close(s.done)
		delete(g.waiting, id)
	}
}

func (g *guest) answered(reply agent.Reply) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.waiting[reply.ID]
	if s == nil {
		return
	}
	s.stdout.Write(reply.Out)
	s.stderr.Write(reply.Err)
	if s.live != nil {
		s.live.Write(reply.Out)
		s.live.Write(reply.Err)
	}
	if reply.Exit != nil {
		s.result = Result{Stdout: s.stdout.String(), Stderr: s.stderr.String(), Status: reply.Exit.Status, MaxRSS: reply.Exit.MaxRSS}
		close(s.done)
		delete(g.waiting, reply.ID)
	}
}

// run sends a script to the agent of the session and waits for its end.
func (g *guest) run(ctx context.Context, session, text string, live io.Writer) (Result, error) {
	s := &script{live: live, done: make(chan struct{})}
	g.mu.Lock()
	g.next++
	id := g.next
	g.waiting[id] = s
	err := json.NewEncoder(g.conn).Encode(agent.Request{Session: session, ID: id, Script: text})
	g.mu.Unlock()
	if err != nil {
		return Result{}, fmt.Errorf("send a script to the guest: %w", err)
	}
	select {
	case <-s.done:
		return s.result, s.err
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.waiting, id)
		json.NewEncoder(g.conn).Encode(agent.Request{Session: session, ID: id, Kill: true})
		return Result{Stdout: s.stdout.String(), Stderr: s.stderr.String(), Status: -1}, context.Cause(ctx)
	}
}

// running counts the scripts that have not ended.
func (g *guest) running() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}
