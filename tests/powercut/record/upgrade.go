package record

import (
	"context"

	"github.com/kairos-io/toolkit/tests/story"
)

// Collecting records one operation only: an image is staged while another one is staged that has not been
// booted, and takes its place.
func Collecting(ctx context.Context, w *story.World) (*Recording, error) {
	return running(ctx, w, "cuts-collecting", func(s *session) error {
		if err := s.do(ctx, stage("", "cut-1").Again); err != nil {
			return err
		}
		return s.script(ctx, stage("stage with gc", "cut-2"))
	})
}

// Upgrades records what changes deployments on a running node: staging, the boot that finds the new one
// good, staging that collects, rolling back, staging a config, renewing the recovery system.
func Upgrades(ctx context.Context, w *story.World) (*Recording, error) {
	return running(ctx, w, "cuts-upgrades", func(s *session) error { return s.upgrades(ctx) })
}

func (s *session) upgrades(ctx context.Context) error {
	if err := s.script(ctx, stage("stage", "cut-1")); err != nil {
		return err
	}
	if err := s.operation(ctx, Operation{Name: "blessing", Again: "true"}, s.Reboot); err != nil {
		return err
	}
	if err := s.do(ctx, stage("", "cut-2").Again); err != nil {
		return err
	}
	for _, o := range []Operation{
		stage("stage with gc", "cut-3"),
		{Name: "rollback", Again: "kairos-upgrade rollback", Host: []string{"rollback"}},
		{Name: "config stage", Again: stageConfig},
		stage("recovery renewal", "cut-1", "--recovery"),
	} {
		if err := s.script(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

const stageConfig = `cat > /run/91_staged.yaml <<END
#cloud-config
stages:
  boot:
    - name: Staged
      commands: [touch /run/staged-config]
END
kairos-config stage /run/91_staged.yaml
`

// running returns the recording of a node that has just booted v1 for the first time.
func running(ctx context.Context, w *story.World, name string, do func(*session) error) (*Recording, error) {
	layout, err := push(ctx, w)
	if err != nil {
		return nil, err
	}
	base, err := w.BootedDisk(ctx)
	if err != nil {
		return nil, err
	}
	r, err := recorded(ctx, w, name, func(dir string) (*session, error) {
		node, err := w.FromBooted(ctx, dir)
		if err != nil {
			return nil, err
		}
		s, err := newSession(ctx, node, base)
		if err != nil {
			return nil, err
		}
		if err := node.Start(ctx); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				node.Close()
			}
		}()
		err = do(s)
		return s, err
	})
	if err != nil {
		return nil, err
	}
	r.Images = layout
	return r, nil
}

// recorded makes a recording once. make returns the session whose machine still runs.
func recorded(ctx context.Context, w *story.World, name string, make func(dir string) (*session, error)) (*Recording, error) {
	dir, err := w.Cached(name, func(path string) error {
		s, err := make(path)
		if err != nil {
			return err
		}
		defer s.Close()
		return s.save(ctx)
	})
	if err != nil {
		return nil, err
	}
	return load(dir)
}
