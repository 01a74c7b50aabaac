package cmd

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"unicode"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/lib/buildinfo"
	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/kind"
)

// service is io.kairos.Upgrade1: this node's store and boot loader on the bus.
type service struct {
	machine
	where  where
	bus    *bus.Service
	object *bus.Object
	jobs   *bus.Transactions
	log    *slog.Logger
	quiet  bool
	out    io.Writer

	refreshing sync.Mutex // states are read one after the other

	mu   sync.Mutex
	node nodeState
}

func (s *service) describe() bus.Interface {
	return bus.Interface{
		Name: busName,
		Methods: []bus.Method{
			{Name: "Stage", Action: action + "stage", Widens: widensStage, In: []string{"reference", "options"}, Out: []string{"transaction"}, Func: s.stage},
			{Name: "Check", Action: action + "check", Widens: widensCheck, In: []string{"reference", "options"}, Out: []string{"result"}, Func: s.check},
			{Name: "Rollback", Action: action + "rollback", Widens: widensRollback, In: []string{"id", "options"}, Out: []string{"transaction"}, Func: s.rollback},
			{Name: "Pin", Action: action + "pin", In: []string{"id"}, Func: s.pin(true)},
			{Name: "Unpin", Action: action + "pin", In: []string{"id"}, Func: s.pin(false)},
			{Name: "CollectGarbage", Action: action + "collect-garbage", In: []string{"options"}, Out: []string{"transaction"}, Func: s.collect},
			{Name: "Verify", Action: action + "verify", In: []string{"id", "options"}, Out: []string{"transaction"}, Func: s.verify},
		},
		Properties: []bus.Property{
			{Name: "Version", Type: "s", Const: true, Get: func() any { return buildinfo.Version }},
			{Name: "Booted", Type: "s", Get: func() any { return s.state().booted }},
			{Name: "Staged", Type: "s", Get: func() any { return s.state().staged }},
			{Name: "Previous", Type: "s", Get: func() any { return s.state().previous }},
			{Name: "Deployments", Type: "aa{sv}", Get: func() any { return s.state().deployments }},
			{Name: "Quarantined", Type: "aa{sv}", Get: func() any { return s.state().quarantined }},
			{Name: "Transaction", Type: "o", Get: func() any { return s.jobs.Running() }},
		},
		Signals: []bus.Signal{bus.CompletedSignal},
	}
}

// widensStage returns the actions that a request to stage takes beside that of
// its method: who may stage the images of a repository may not choose the
// kernel command line, take an image that failed before, or one of a directory
// that he can write.
func widensStage(details map[string]string) (actions []string) {
	actions = widensCheck(details)
	if details["karg"] != "" || details["delete-karg"] != "" {
		actions = append(actions, action+"stage-with-arguments")
	}
	return append(actions, widensRollback(details)...)
}

// widensCheck tells polkit the repository in its full form as well, by which a
// rule is not misled: the detail is there for images of registries alone.
func widensCheck(details map[string]string) []string {
	delete(details, "repository")
	repository, ok := source.FullRepository(details["reference"])
	if !ok {
		return []string{action + "stage-local"}
	}
	details["repository"] = repository
	return nil
}

func widensRollback(details map[string]string) []string {
	if _, given := details["force"]; given && details["force"] != "false" {
		return []string{action + "force"}
	}
	return nil
}

// request reads the options of Stage and Check.
func request(reference string, given map[string]dbus.Variant) (deploy.Request, error) {
	r := deploy.Request{Source: reference, Origin: "stage"}
	if err := text("reference", reference); err != nil {
		return r, err
	}
	if _, err := source.Parse(reference); err != nil {
		return r, kind.Of(source.ErrUsage, err)
	}
	options := bus.Options{"force": &r.Force, "karg": &r.AddKargs, "delete-karg": &r.DeleteKargs}
	return r, options.Decode(given)
}

// maxReference is the length of the longest reference, in bytes.
const maxReference = 1024

// text refuses what is no line of text.
func text(what, s string) error {
	switch {
	case s == "":
		return exit.Usagef("%s is empty", what)
	case len(s) > maxReference:
		return exit.Usagef("%s has %d bytes, more than %d", what, len(s), maxReference)
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return exit.Usagef("%s %q has characters that cannot be printed", what, s)
	}
	return nil
}

// idText refuses what is no id of a deployment, or the beginning of one.
func idText(id string) error {
	if len(id) > 64 || strings.Trim(id, "0123456789abcdef-") != "" {
		return exit.Usagef("id %.64q: not of the form [0-9a-f-]", id)
	}
	return nil
}

func (s *service) stage(_ context.Context, c *bus.Call, reference string, options map[string]dbus.Variant) (dbus.ObjectPath, error) {
	r, err := request(reference, options)
	if err == nil && c.Caller.UID != 0 {
		err = deploy.Judged(reference)
	}
	if err != nil {
		return "", err
	}
	return s.do(c, begin{mode: Change("stage").on(reference).creating()}, func(ctx context.Context, n *deploy.Node) (any, error) {
		r.Options.Log = n.Log
		return n.Stage(ctx, r)
	})
}

func (s *service) check(ctx context.Context, c *bus.Call, reference string, options map[string]dbus.Variant) (map[string]dbus.Variant, error) {
	r, err := request(reference, options)
	if err == nil && c.Caller.UID != 0 {
		err = deploy.Judged(reference)
	}
	if err != nil {
		return nil, err
	}
	r.Options.Log = s.log
	o, err := s.start(context.Background(), s.where, begin{bar: s.bar(), log: s.log})
	if err != nil {
		return nil, err
	}
	defer o.end(nil)
	plan, err := o.Plan(ctx, r)
	if err != nil {
		return nil, err
	}
	return bus.Dict(plan), nil
}

func (s *service) rollback(_ context.Context, c *bus.Call, id string, options map[string]dbus.Variant) (dbus.ObjectPath, error) {
	force := false
	if err := (bus.Options{"force": &force}).Decode(options); err != nil {
		return "", err
	}
	if err := idText(id); err != nil {
		return "", err
	}
	return s.do(c, begin{mode: Change("rollback").on(id)}, func(ctx context.Context, n *deploy.Node) (any, error) {
		to, err := rollbackTo(n, id, force)
		if err != nil {
			return nil, err
		}
		r, discarded, err := n.GoBack(ctx, to)
		return rolledBackTo(r.ID, to, discarded), err
	})
}

func (s *service) pin(pinned bool) func(context.Context, *bus.Call, string) error {
	command := "unpin"
	if pinned {
		command = "pin"
	}
	return func(ctx context.Context, _ *bus.Call, id string) error {
		if err := idText(id); err != nil {
			return err
		}
		if id == "" {
			return exit.Usagef("id is empty")
		}
		bar := s.bar()
		o, err := s.start(context.Background(), s.where, begin{mode: Change(command).on(id), bar: bar, log: s.logger(bar)})
		if err != nil {
			return err
		}
		_, err = pinOn(o.Node, id, pinned)
		o.end(err)
		s.refresh()
		return err
	}
}

func (s *service) collect(_ context.Context, c *bus.Call, options map[string]dbus.Variant) (dbus.ObjectPath, error) {
	if err := (bus.Options{}).Decode(options); err != nil {
		return "", err
	}
	return s.do(c, begin{mode: Change("gc")}, func(_ context.Context, n *deploy.Node) (any, error) { return n.Collect(false) })
}

func (s *service) verify(_ context.Context, c *bus.Call, id string, options map[string]dbus.Variant) (dbus.ObjectPath, error) {
	if err := (bus.Options{}).Decode(options); err != nil {
		return "", err
	}
	if err := idText(id); err != nil {
		return "", err
	}
	return s.do(c, begin{mode: mode{command: "verify", reference: id, reading: true}}, func(ctx context.Context, n *deploy.Node) (any, error) {
		v, err := n.Verify(ctx, id)
		if err == nil && len(v.Damaged) > 0 {
			err = damageError(v, nil, false)
		}
		return v, err
	})
}
