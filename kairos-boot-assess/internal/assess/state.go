package assess

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/atomicfile"
)

// StateFile is the file in StateDir about this boot, a history.Boot.
const StateFile = "boot.json"

// state returns what is recorded about this boot; ok is false when nothing is.
func (n *Node) state() (b history.Boot, ok bool) {
	data, err := os.ReadFile(n.path(StateDir + "/" + StateFile))
	if err != nil || json.Unmarshal(data, &b) != nil {
		return history.Boot{}, false
	}
	return b, b.BootID == n.bootID()
}

// update changes the record of this boot, which Check and Fail may do at the same time.
// It returns the changed record even when it could not be written.
func (n *Node) update(change func(*history.Boot)) (history.Boot, error) {
	root, unlock, err := n.lockState()
	if err != nil {
		err = fmt.Errorf("write %s/%s: %w", StateDir, StateFile, err)
	} else {
		defer unlock()
	}
	b, ok := n.state()
	if !ok {
		b = n.newBoot()
	}
	change(&b)
	if err != nil {
		return b, err
	}
	return b, atomicfile.WriteJSON(root, StateFile, b, 0o644)
}

// newBoot returns the record of a boot about which nothing is known.
func (n *Node) newBoot() history.Boot {
	return history.Boot{BootID: n.bootID(), Started: n.Now().UTC(), Verdict: history.Verdict{Outcome: history.Pending}}
}

// lockState opens StateDir and locks it until unlock is called.
func (n *Node) lockState() (root *os.Root, unlock func(), err error) {
	dir := n.path(StateDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	if root, err = os.OpenRoot(dir); err != nil {
		return nil, nil, err
	}
	self, err := root.Open(".")
	if err == nil {
		err = unix.Flock(int(self.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		self.Close()
		root.Close()
		return nil, nil, err
	}
	return root, func() { self.Close(); root.Close() }, nil
}

// record adds an event with the current time to the history.
func (n *Node) record(e history.Event) error {
	e.Time, e.BootID, e.UptimeMS = n.Now().UTC(), n.bootID(), n.Uptime().Milliseconds()
	if boot, ok := n.state(); ok {
		e.SoftReboots = boot.SoftReboots
	}
	log, _ := n.history()
	return log.Append(e)
}
