package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/report/boots"
	"github.com/kairos-io/toolkit/lib/run"
)

// within is how long a tool may take to print its status.
const within = 30 * time.Second

// asked are the tools that are asked, and what of their answer is shown.
type answers struct {
	Upgrade upgradeStatus
	Assess  assessStatus
	Config  configStatus
	Crypt   report.Crypt

	raw    map[string]json.RawMessage // complete answers by program
	errors map[string]error
}

// space is the size and the free space of a file system, in bytes.
type space struct {
	Label string `json:"label"`
	Size  int64  `json:"size"`
	Free  int64  `json:"free"`
}

type upgradeStatus struct {
	Staged      string                  `json:"staged"`
	Deployments []report.Deployment     `json:"deployments"`
	Quarantined []deployment.Quarantine `json:"quarantined"`
	Automation  *struct {
		Checked time.Time `json:"checked"`
		Reason  string    `json:"reason"`
		Error   string    `json:"error"`
		Update  *struct {
			Reference string `json:"reference"`
			Version   string `json:"version"`
		} `json:"update"`
	} `json:"automation"`
	Settings struct {
		Mode  string `json:"mode"`
		Error string `json:"error"`
	} `json:"settings"`
	Store space `json:"store"`
	ESP   space `json:"esp"`
	Busy  *struct {
		Command   string `json:"command"`
		Reference string `json:"reference"`
	} `json:"busy"`
}

func (s upgradeStatus) find(id string) (found report.Deployment, ok bool) {
	for _, d := range s.Deployments {
		if d.ID == id && id != "" {
			return d, true
		}
	}
	return found, false
}

type assessStatus struct {
	Boot         boots.Boot   `json:"boot"`
	LastFallback *boots.Event `json:"last_fallback"`
}

type configStatus struct {
	Stages []report.Stage `json:"stages"`
	Config struct {
		Booted      string `json:"booted"`
		Staged      string `json:"staged"`
		Generations []struct {
			ID     string `json:"id"`
			State  string `json:"state"`
			Reason string `json:"reason"`
		} `json:"generations"`
	} `json:"config"`
}

// gather runs all tools in parallel.
func gather(ctx context.Context) *answers {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	a := &answers{raw: map[string]json.RawMessage{}, errors: map[string]error{}}
	var mu sync.Mutex
	var all sync.WaitGroup
	for tool, into := range map[string]any{"upgrade": &a.Upgrade, "boot-assess": &a.Assess, "config": &a.Config, "crypt": &a.Crypt} {
		program, there := find(tool)
		if !there {
			continue
		}
		all.Go(func() {
			data, err := run.Runner{}.Output(ctx, program, "status", "--json")
			if err == nil {
				err = json.Unmarshal(data, into)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				a.errors[prefix+tool] = err
				return
			}
			a.raw[prefix+tool] = json.RawMessage(strings.TrimSpace(string(data)))
		})
	}
	all.Wait()
	return a
}

// units returns the failed units.
func units(ctx context.Context) (failed []string, err error) {
	if !run.Has("systemctl") {
		return nil, nil
	}
	data, err := run.Runner{}.Output(ctx, "systemctl", "list-units", "--state=failed", "--output=json", "--no-pager")
	if err != nil {
		return nil, err
	}
	var list []struct{ Unit string }
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("read the list of units: %w", err)
	}
	for _, u := range list {
		failed = append(failed, u.Unit)
	}
	return failed, nil
}

// persistent is where COS_PERSISTENT is mounted.
const persistent = "/run/kairos/persistent"

func persistentSpace() (*space, error) {
	var st syscall.Statfs_t
	err := syscall.Statfs(persistent, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "statfs", Path: persistent, Err: err}
	}
	return &space{"COS_PERSISTENT", int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize}, nil
}
