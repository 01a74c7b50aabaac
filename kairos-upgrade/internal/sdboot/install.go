package sdboot

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/kairos-io/toolkit/lib/atomicfile"
	"golang.org/x/sys/unix"
)

// Step is one change of the ESP.
type Step struct {
	Text string
	do   func() error
}

// Do makes the change, durable.
func (s Step) Do() error { return s.do() }

// Steps tells what is there, and returns the steps to do about it in their
// order, none unless the action is to install or to finish.
func (m Target) Steps() (Status, []Step, error) {
	l, err := m.look()
	if err != nil {
		return l.Status, nil, err
	}
	var steps []Step
	put := func(name, version string, data []byte) {
		steps = append(steps, Step{fmt.Sprintf("write systemd-boot %s to %s", version, name), func() error { return m.put(name, data) }})
	}
	switch l.Action {
	case Install:
		// What has never booted is not worth keeping in place of what has.
		if l.Installed != "" && (l.Running == l.Installed || l.Previous == "") {
			steps = append(steps, Step{
				fmt.Sprintf("save systemd-boot %s as %s", l.Installed, l.paths.previous),
				func() error { return m.put(l.paths.previous, l.main) },
			})
		}
		put(l.paths.main, l.Available, l.available)
	case Finish:
		put(l.paths.fallback, l.Installed, l.main)
	}
	return l.Status, steps, nil
}

// put replaces a program: it is written beside the old one and read back before
// one rename makes it the one that boots.
func (m Target) put(name string, data []byte) (err error) {
	fresh := name + ".new"
	defer func() {
		if err != nil {
			err = fmt.Errorf("install boot loader: %w", err)
		}
	}()
	if err := atomicfile.Write(m.ESP, fresh, data, 0o644); err != nil {
		return err
	}
	if err := m.check(fresh, data); err != nil {
		return errors.Join(err, atomicfile.Remove(m.ESP, fresh))
	}
	return atomicfile.Rename(m.ESP, fresh, name)
}

// check reads a program back, from the disk.
func (m Target) check(name string, want []byte) error {
	f, err := m.ESP.Open(name)
	if err != nil {
		return err
	}
	// What the disk has counts, not what was just written.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	if err := f.Close(); err != nil {
		return err
	}
	have, _, err := program(m.ESP, name)
	if err == nil && !bytes.Equal(have, want) {
		err = errors.New("its content is not what was written")
	}
	if err != nil {
		return fmt.Errorf("check %s: %w", name, err)
	}
	return nil
}
