// Package agent runs commands in a virtual machine for the test that owns it.
//
// It speaks through a virtio-serial port, one JSON object a line in both directions. A serial port
// survives what the guest does not: a line may be cut in half by a reset, and a request may arrive at
// the next boot's agent. Therefore each agent announces itself with a session of its own, requests
// name the session that they are meant for, and lines that are no JSON are skipped.
package agent

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Port is the name of the virtio-serial port.
const Port = "io.kairos.test"

// Request is a line from the host.
type Request struct {
	Hello   bool   `json:"hello,omitempty"`   // asks for the agent's hello, whatever the session
	Session string `json:"session,omitempty"` // a request for another session is ignored
	ID      int    `json:"id,omitempty"`
	Script  string `json:"script,omitempty"` // run by bash
	Kill    bool   `json:"kill,omitempty"`   // kill the script of that id, with all it started
}

// Reply is a line from the guest.
type Reply struct {
	Session string `json:"session"`
	Hello   bool   `json:"hello,omitempty"`
	Bye     bool   `json:"bye,omitempty"` // the agent ends: the machine is going down
	ID      int    `json:"id,omitempty"`
	Out     []byte `json:"out,omitempty"`  // what the script wrote to standard output
	Err     []byte `json:"err,omitempty"`  // and to standard error
	Exit    *Exit  `json:"exit,omitempty"` // the script has ended
}

// Exit is the end of a script.
type Exit struct {
	Status int   `json:"status"`  // 128 + number of the signal that ended it
	MaxRSS int64 `json:"max_rss"` // bytes: the most that one of its processes had in memory
}

// Serve answers on port until ctx ends.
func Serve(ctx context.Context, port *os.File) error {
	s := &server{session: rand.Text(), port: port, scripts: map[int]*exec.Cmd{}}
	s.send(Reply{Hello: true})
	go func() {
		<-ctx.Done()
		s.send(Reply{Bye: true})
		port.Close()
	}()
	for {
		err := s.read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read requests: %w", err)
		}
		// End of file: the host is gone. The driver has no blocking wait for its return.
		time.Sleep(time.Second)
	}
}

type server struct {
	session string
	port    *os.File
	mu      sync.Mutex
	scripts map[int]*exec.Cmd
}

func (s *server) read(ctx context.Context) error {
	lines := bufio.NewReader(s.port)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var request Request
		if json.Unmarshal(line, &request) != nil {
			continue
		}
		switch {
		case request.Hello:
			s.send(Reply{Hello: true})
		case request.Session != s.session:
		case request.Kill:
			s.kill(request.ID)
		default:
			go s.run(ctx, request)
		}
	}
}

func (s *server) run(ctx context.Context, request Request) {
	cmd := exec.Command("/bin/bash", "-c", request.Script)
	cmd.Dir = "/"
	cmd.Env = []string{ // as at a login, not as in the agent's unit
		"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/bash", "LANG=C.UTF-8",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
	cmd.Stdout = stream(func(p []byte) { s.send(Reply{ID: request.ID, Out: p}) })
	cmd.Stderr = stream(func(p []byte) { s.send(Reply{ID: request.ID, Err: p}) })
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = 2 * time.Second // a script may leave something behind that holds its output open
	exit := Exit{Status: 127}
	if err := cmd.Start(); err == nil {
		s.mu.Lock()
		s.scripts[request.ID] = cmd
		s.mu.Unlock()
		cmd.Wait()
		s.mu.Lock()
		delete(s.scripts, request.ID)
		s.mu.Unlock()
		exit.Status = exitStatus(cmd.ProcessState)
		if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			exit.MaxRSS = usage.Maxrss << 10
		}
	} else {
		s.send(Reply{ID: request.ID, Err: []byte(err.Error())})
	}
	if ctx.Err() == nil {
		s.send(Reply{ID: request.ID, Exit: &exit})
	}
}

func exitStatus(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

func (s *server) kill(id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cmd := s.scripts[id]; cmd != nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
}

// send writes one line. It begins with a newline of its own, to end whatever an earlier boot left
// unfinished in the port.
func (s *server) send(reply Reply) {
	reply.Session = s.session
	line, err := json.Marshal(reply)
	if err != nil {
		panic(err) // the type has nothing that cannot be marshalled
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.port.Write(append(append([]byte{'\n'}, line...), '\n'))
}

type stream func([]byte)

func (s stream) Write(p []byte) (int, error) {
	s(p)
	return len(p), nil
}
