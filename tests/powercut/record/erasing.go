package record

import (
	"context"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/tests/story"
	"github.com/kairos-io/toolkit/tests/vm"
)

// Reset records the reset of a running node, from its arming to the new node's first boot.
func Reset(ctx context.Context, w *story.World) (*Recording, error) {
	return running(ctx, w, "cuts-reset", func(s *session) error {
		reset := Operation{
			Name: "reset", Again: "kairos-reset --yes && systemctl reboot",
			Erases: []string{disk.LabelState, disk.LabelPersistent}, Passing: []string{deployment.ResetEntry},
		}
		return s.operation(ctx, reset, func(ctx context.Context) error {
			next := s.Machine.Boots() + 1
			if err := s.do(ctx, reset.Again); err != nil {
				return err
			}
			return s.ReadyAt(ctx, next+1) // one boot of the recovery system, one of the new deployment
		})
	})
}

// Install records an installation on an empty disk.
func Install(ctx context.Context, w *story.World) (*Recording, error) {
	return recorded(ctx, w, "cuts-install", func(dir string) (_ *session, err error) {
		node, err := w.NewNode(ctx, dir)
		if err != nil {
			return nil, err
		}
		s := &session{Node: node, Recording: Recording{Dir: dir}}
		node.Log = s.path(logFile)
		if err := vm.CreateDisk(ctx, s.path(diskFile), story.DiskSize); err != nil {
			return nil, err
		}
		if err := node.StartLive(ctx); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				node.Close()
			}
		}()
		install := Operation{Name: "install", Erases: []string{"", disk.LabelESP, disk.LabelOEM, disk.LabelRecovery, disk.LabelState, disk.LabelPersistent}}
		err = s.operation(ctx, install, func(ctx context.Context) error {
			_, err := s.Install(ctx, nil)
			return err
		})
		return s, err
	})
}
