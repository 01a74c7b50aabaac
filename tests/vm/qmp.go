package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
)

// monitor speaks QEMU's machine protocol (docs/interop/qmp-spec.rst): requests are answered in order,
// events come in between.
type monitor struct {
	conn    net.Conn
	mu      sync.Mutex // one request at a time
	replies chan reply
}

type reply struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
	QMP   json.RawMessage `json:"QMP"` // the greeting
}

var errMonitorGone = errors.New("the machine has ended")

// newMonitor follows the connection, handing events to event, and leaves the negotiation mode.
func newMonitor(conn net.Conn, event func(name string, data json.RawMessage)) (*monitor, error) {
	m := &monitor{conn: conn, replies: make(chan reply)}
	go func() {
		defer close(m.replies)
		decoder := json.NewDecoder(conn)
		for {
			var r reply
			if decoder.Decode(&r) != nil {
				return
			}
			switch {
			case r.Event != "":
				event(r.Event, r.Data)
			case r.QMP == nil:
				m.replies <- r
			}
		}
	}()
	return m, m.do("qmp_capabilities", nil, nil)
}

// do executes a command and decodes what it returns into result, unless that is nil.
func (m *monitor) do(command string, arguments, result any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return fmt.Errorf("send %s to the monitor: %w", command, err)
	}
	r, ok := <-m.replies
	if !ok {
		return fmt.Errorf("monitor command %s: %w", command, errMonitorGone)
	}
	if r.Error != nil {
		return fmt.Errorf("monitor command %s: %s", command, r.Error.Desc)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(r.Return, result)
}
