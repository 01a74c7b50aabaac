package cmd

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kairos-io/toolkit/kairos-reset/internal/factory"
	"github.com/kairos-io/toolkit/kairos-reset/internal/request"
	"github.com/kairos-io/toolkit/kairos-reset/internal/settings"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/run"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

// Plan is the object that arming a reset prints with --json.
type Plan struct {
	OEM            bool     `json:"oem"`
	KeepPersistent bool     `json:"keep_persistent"`
	PowerOff       bool     `json:"poweroff"`
	Image          string   `json:"image"`  // "": the image of the recovery system
	Erases         []string `json:"erases"` // device nodes that are erased
	Steps          []string `json:"steps"`  // in the order of execution
	Armed          bool     `json:"armed"`
}

func arm(c *cli.Context, m Machine) error {
	if _, err := cmdline.Arguments(c); err != nil {
		return err
	}
	if err := request.CheckImage(c.String("image")); err != nil {
		return exit.WithCode(err, exit.Usage)
	}
	esp, err := m.open()
	if err != nil {
		return err
	}
	defer esp.Root.Close()
	node, err := m.node()
	if err != nil {
		return err
	}
	if _, err := esp.Recovery(); err != nil {
		return err
	}
	r, err := wanted(c)
	if err != nil {
		return err
	}
	plan := Plan{OEM: r.OEM, KeepPersistent: r.KeepPersistent, PowerOff: r.PowerOff, Image: r.Image, Erases: []string{node.State}}
	if !r.KeepPersistent {
		plan.Erases = []string{node.Persistent, node.State}
	}
	if r.OEM {
		plan.Erases = append(plan.Erases, node.OEM)
	}
	for _, s := range node.Steps(r) {
		plan.Steps = append(plan.Steps, s.Text)
	}
	if c.Bool("dry-run") {
		return show(c, plan)
	}
	if !c.Bool("quiet") {
		persistent := disk.LabelPersistent + " on " + node.Persistent + ", "
		if r.KeepPersistent {
			persistent = ""
		}
		terminal.Fprintf(c.App.ErrWriter, "to be erased: %s%s on %s\n", persistent, disk.LabelState, node.State)
		if r.OEM {
			terminal.Fprintf(c.App.ErrWriter, "to be cleared: %s on %s, with the node's config\n", disk.LabelOEM, node.OEM)
		}
	}
	question := "erase this node's data and reset it?"
	if r.KeepPersistent {
		question = "reset this node?"
	}
	if err := cmdline.Confirm(c, question); err != nil {
		return err
	}
	if err := esp.Arm(r); err != nil {
		return err
	}
	plan.Armed = true
	if err := show(c, plan); err != nil || !c.Bool("now") {
		return err
	}
	return reboot(c)
}

// wanted returns the request from the node's config and the options, which take
// precedence.
func wanted(c *cli.Context) (r request.Request, err error) {
	if !c.Bool("ignore-config") {
		var ignored []string
		if r, ignored, err = settings.Load(c.Context, run.Runner{}); err != nil {
			return r, exit.Hint(err, "kairos-config validate shows the mistake; --ignore-config resets without the config")
		}
		if len(ignored) > 0 && !c.Bool("quiet") {
			terminal.Fprintf(c.App.ErrWriter, "kairos-reset: warning: without effect: %s\n", strings.Join(ignored, ", "))
		}
	}
	for name, value := range map[string]*bool{"oem": &r.OEM, "keep-persistent": &r.KeepPersistent, "poweroff": &r.PowerOff} {
		if c.IsSet(name) {
			*value = c.Bool(name)
		}
	}
	if c.IsSet("image") {
		r.Image = c.String("image")
	}
	return r, nil
}

func show(c *cli.Context, plan Plan) error {
	switch {
	case c.Bool("json"):
		return cmdline.PrintJSON(c, plan)
	case plan.Armed && !c.Bool("quiet"):
		fmt.Fprintln(c.App.Writer, "armed: the next boot resets this node; kairos-reset cancel disarms the reset")
	case !plan.Armed:
		for i, s := range plan.Steps {
			terminal.Fprintf(c.App.Writer, "%d. %s\n", i+1, s)
		}
	}
	return nil
}

func reboot(c *cli.Context) error { return leave(c, "reboot") }

// leave reboots or powers off.
func leave(c *cli.Context, how string) error {
	if _, err := (run.Runner{}).Output(c.Context, "systemctl", "--no-block", how); err != nil {
		return fmt.Errorf("cannot %s: %w", how, err)
	}
	return nil
}

func cancel(c *cli.Context, m Machine) error {
	if _, err := cmdline.Arguments(c); err != nil {
		return err
	}
	esp, err := m.open()
	if err != nil {
		return err
	}
	defer esp.Root.Close()
	// A request that can't be read is cancelled like any other.
	r, err := esp.Read()
	switch {
	case errors.Is(err, request.ErrNone):
		return exit.WithCode(err, exit.Nothing)
	case err == nil && r.Begun():
		return exit.Hint(errors.New("the reset has begun, and cannot be cancelled"), "reboot to continue it")
	}
	if err := esp.Finish(); err != nil {
		return err
	}
	if !c.Bool("quiet") {
		fmt.Fprintln(c.App.Writer, "cancelled: nothing was changed")
	}
	return nil
}

// Status is the object that kairos-reset status prints with --json.
type Status struct {
	Armed bool `json:"armed"`
	// Exhausted says that no recovery system came up in any of the boots for the reset:
	// it is not tried again.
	Exhausted      bool          `json:"exhausted"`
	OEM            bool          `json:"oem"`
	KeepPersistent bool          `json:"keep_persistent"`
	PowerOff       bool          `json:"poweroff"`
	Image          string        `json:"image"`
	Done           request.Phase `json:"done"` // the last finished phase, "" for none
}

func status(c *cli.Context, m Machine) error {
	if _, err := cmdline.Arguments(c); err != nil {
		return err
	}
	esp, err := m.open()
	if err != nil {
		return err
	}
	defer esp.Root.Close()
	r, err := esp.Read()
	if err != nil && !errors.Is(err, request.ErrNone) {
		return err
	}
	s := Status{Armed: err == nil, OEM: r.OEM, KeepPersistent: r.KeepPersistent, PowerOff: r.PowerOff, Image: r.Image, Done: r.Done}
	if s.Exhausted, err = esp.Exhausted(); err != nil {
		return err
	}
	if c.Bool("json") {
		return cmdline.PrintJSON(c, s)
	}
	switch {
	case !s.Armed:
		fmt.Fprintln(c.App.Writer, "no reset is armed")
	case s.Exhausted:
		fmt.Fprintln(c.App.Writer, "armed, but the recovery system did not boot: it is not tried again, and nothing was changed")
	case r.Begun():
		terminal.Fprintf(c.App.Writer, "a reset is running: the phase %s is done\n", s.Done)
	default:
		fmt.Fprintln(c.App.Writer, "armed: the next boot resets this node")
	}
	return nil
}

// open opens the EFI system partition.
func (m Machine) open() (request.ESP, error) {
	if !m.Admin {
		return request.ESP{}, exit.Hint(errors.New("a reset needs root"), "sudo kairos-reset …")
	}
	root, err := os.OpenRoot(m.ESP)
	if err != nil {
		if _, none := deployment.ReadBooted(m.Booted); errors.Is(none, deployment.ErrNotBooted) {
			return request.ESP{}, none // no node: that it has no ESP there is no fault
		}
		return request.ESP{}, exit.Hint(fmt.Errorf("open EFI system partition: %w", err),
			"systemctl status efi.automount efi.mount shows why it is not mounted")
	}
	return request.ESP{Root: root}, nil
}

// node finds this node's partitions on the disk that it runs from.
func (m Machine) node() (*factory.Node, error) {
	booted, err := deployment.ReadBooted(m.Booted)
	if err != nil {
		return nil, err
	}
	if booted.Mode == deployment.Live {
		return nil, exit.Hint(errors.New("this system was booted from a medium"), "kairos-install installs the node again")
	}
	n := &factory.Node{Store: m.Store, ESPPath: m.ESP, Work: m.Work, Verity: m.Verity, Dev: m.Disk.Dev}
	for label, node := range map[string]*string{disk.LabelState: &n.State, disk.LabelPersistent: &n.Persistent, disk.LabelOEM: &n.OEM} {
		find := func() (disk.Partition, error) { return m.Disk.FindOn(booted.Disk, label) }
		if booted.Disk == "" {
			find = func() (disk.Partition, error) { return m.Disk.Find(label) }
		}
		p, err := find()
		if err != nil {
			return nil, err
		}
		*node = p.Path
	}
	return n, nil
}
