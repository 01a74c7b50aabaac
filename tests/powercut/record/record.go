// Package record runs operations in virtual machines whose system disk writes a log of all writes and
// flushes, and keeps disk and log, so that a power cut at any moment can be played afterwards.
//
// A recording is made once for the same images and kept beside the other machines in .cache/disks.
package record

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/tests/powercut/writelog"
	"github.com/kairos-io/toolkit/tests/story"
	"github.com/kairos-io/toolkit/tests/vm"
)

// Recording is what one machine did.
type Recording struct {
	Dir        string      `json:"-"` // with the firmware's variables and the TPM's state
	Disk       string      `json:"-"` // as it was before the first write, qcow2
	Log        string      `json:"-"` // all writes since
	After      string      `json:"-"` // the disk as it was in the end
	Images     string      `json:"-"` // the layout with the images, as containers/image spells it
	Operations []Operation `json:"operations"`
}

// Operation is a part of the log.
type Operation struct {
	Name string `json:"name"`
	// The entries of the log that belong to it. All before Begin are durable, and all before Done were when
	// the operation said that it was done. What its programs leave to the kernel to write comes after that.
	Begin int `json:"begin"`
	Done  int `json:"done"`
	End   int `json:"end"`
	// Erases and Passing are judge.Operation's.
	Erases  []string `json:"erases,omitempty"`
	Passing []string `json:"passing,omitempty"`
	// Again is a script that does the operation once more, after a cut. It names the registry RegistryHost:
	// each world has another one.
	Again string `json:"again"`
	// Host does the same on this host, where that is possible: kairos-upgrade's arguments, which name the
	// layout with images Layout.
	Host []string `json:"host,omitempty"`
}

const (
	logFile        = "writes.log"
	diskFile       = "before.qcow2"
	systemFile     = "system.qcow2" // package story's
	operationsFile = "operations.json"
)

// What stands for the registry's host and port, and for the layout with the images, in operations.
const (
	RegistryHost = "REGISTRY"
	Layout       = "LAYOUT"
)

// session is a machine that is being recorded.
type session struct {
	*story.Node
	Recording
}

// newSession prepares the recording of a node that has not been started since base was its disk.
func newSession(ctx context.Context, node *story.Node, base string) (*session, error) {
	s := &session{Node: node, Recording: Recording{Dir: node.Dir}}
	node.Log = s.path(logFile)
	return s, vm.CreateOverlay(ctx, s.path(diskFile), base, "qcow2")
}

func (s *session) path(name string) string { return filepath.Join(s.Node.Dir, name) }

// sync makes all writes of the guest durable, and returns how many entries the log has then.
func (s *session) sync(ctx context.Context) (int, error) {
	if _, err := s.Machine.Output(ctx, "sync"); err != nil {
		return 0, err
	}
	return s.entries()
}

func (s *session) entries() (int, error) {
	log, err := writelog.Open(s.Node.Log)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	return log.Len(), nil
}

// operation records what a function does.
func (s *session) operation(ctx context.Context, o Operation, do func(context.Context) error) (err error) {
	s.World.Report("recording: " + o.Name)
	if o.Begin, err = s.sync(ctx); err != nil {
		return err
	}
	if err := do(ctx); err != nil {
		return fmt.Errorf("record %s: %w", o.Name, err)
	}
	if o.Done, err = s.entries(); err != nil {
		return err
	}
	o.End, err = s.sync(ctx)
	s.Operations = append(s.Operations, o)
	return err
}

// script records what the script of an operation does.
func (s *session) script(ctx context.Context, o Operation) error {
	return s.operation(ctx, o, func(ctx context.Context) error { return s.do(ctx, o.Again) })
}

// do runs a script that must succeed.
func (s *session) do(ctx context.Context, script string) error {
	_, err := s.Machine.Output(ctx, strings.ReplaceAll(script, RegistryHost, s.World.Registry.Host()))
	return err
}

// stage is the operation that stages one of the variants.
func stage(name, variant string, option ...string) Operation {
	o := Operation{Name: name, Again: "kairos-upgrade stage " + RegistryHost + "/" + story.Repository + ":" + variant + " " + strings.Join(option, " ")}
	if len(option) == 0 {
		o.Host = []string{"stage", Layout + ":" + variant}
	}
	return o
}

// save ends the machine and writes down what was recorded.
func (s *session) save(ctx context.Context) error {
	if err := s.Machine.PowerOff(ctx); err != nil {
		return err
	}
	data, err := json.Marshal(s.Recording)
	if err != nil {
		return err
	}
	return os.WriteFile(s.path(operationsFile), data, 0o644)
}

// load reads what save wrote.
func load(dir string) (*Recording, error) {
	r := &Recording{Dir: dir, Disk: filepath.Join(dir, diskFile), Log: filepath.Join(dir, logFile), After: filepath.Join(dir, systemFile)}
	data, err := os.ReadFile(filepath.Join(dir, operationsFile))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", operationsFile, err)
	}
	return r, nil
}
