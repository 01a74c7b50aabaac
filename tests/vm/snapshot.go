package vm

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Save writes the running machine's memory and devices to file, and ends the machine. Its disks and
// its folder stay as they are at that moment: a machine with copies of both, whose Config.Resume names
// the file, goes on from there.
func (m *Machine) Save(ctx context.Context, file string) error {
	if err := m.save(ctx, file); err != nil {
		return m.explain(fmt.Errorf("save the machine to %s: %w", file, err))
	}
	m.end()
	return m.WaitOff(ctx)
}

func (m *Machine) save(ctx context.Context, file string) error {
	path, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	if err := m.announceMigration(); err != nil {
		return err
	}
	if err := m.monitor.do("stop", nil, nil); err != nil {
		return err
	}
	if err := m.monitor.do("migrate", map[string]any{"uri": "file:" + path}, nil); err != nil {
		return err
	}
	return m.migrated(ctx)
}

// announceMigration makes QEMU tell by events how far it is.
func (m *Machine) announceMigration() error {
	events := []map[string]any{{"capability": "events", "state": true}}
	return m.monitor.do("migrate-set-capabilities", map[string]any{"capabilities": events}, nil)
}

// migrated waits until the state has been written or read: to QEMU both are a migration.
func (m *Machine) migrated(ctx context.Context) error {
	ctx, cancel := m.watched(ctx)
	defer cancel()
	return m.state.wait(ctx, "the saved state", func() (bool, error) {
		switch {
		case m.state.exited:
			return false, errMonitorGone
		case m.state.migration == "failed":
			return false, errors.New("QEMU could not")
		}
		return m.state.migration == "completed", nil
	})
}

// resume reads the saved state, waits until the machine goes on from it, and sets its clock, which
// stood still meanwhile.
func (m *Machine) resume(ctx context.Context) error {
	path, err := filepath.Abs(m.Config.Resume)
	if err != nil {
		return err
	}
	if err := m.announceMigration(); err != nil {
		return err
	}
	if err := m.monitor.do("migrate-incoming", map[string]any{"uri": "file:" + path}, nil); err != nil {
		return err
	}
	if err := m.migrated(ctx); err != nil {
		return fmt.Errorf("%w %s", err, m.stderr.String())
	}
	if err := m.monitor.do("cont", nil, nil); err != nil { // it was stopped when it was saved
		return err
	}
	m.guest.hello()
	_, err = m.Output(ctx, fmt.Sprintf("date --set=@%d", time.Now().Unix()))
	return err
}
