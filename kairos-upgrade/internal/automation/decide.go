package automation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/kind"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// Action is the next action of automatic upgrades.
type Action string

const (
	None   Action = "none"   // there is no upgrade
	Hold   Action = "hold"   // there may be, but not for this node as it is
	Tell   Action = "tell"   // there is an upgrade; a person decides
	Wait   Action = "wait"   // there is an upgrade, but not now
	Fetch  Action = "stage"  // it is staged
	Reboot Action = "reboot" // it is staged already, and booted
)

// Decision is the result of a check for upgrades: from the settings, the registry, the
// state of the node and the time.
type Decision struct {
	Checked time.Time     `json:"checked"`
	Mode    Mode          `json:"mode"`
	Action  Action        `json:"action"`
	Code    string        `json:"reason_code"` // for programs: kairos-json(5)
	Reason  string        `json:"reason"`      // for people
	Update  *deploy.Offer `json:"update"`      // the available upgrade, null for none
	Staged  string        `json:"staged"`      // id of its deployment if that boots next, ""
	// WindowOpens is when a waiting action will be done, null otherwise.
	WindowOpens *time.Time `json:"window_opens"`
	Error       string     `json:"error"` // why nothing could be decided or done, ""
}

// Renew corrects an old decision by the current state: an upgrade that runs is none any
// more, and a staged deployment may have been removed. d may be nil.
func (d *Decision) Renew(roles deploy.Roles) {
	if d == nil || d.Update == nil {
		return
	}
	digest := d.Update.ManifestDigest
	switch next := roles.Next; {
	case roles.Booted != nil && roles.Booted.ManifestDigest == digest:
		d.Update, d.Staged, d.Action = nil, "", None
		d.Code, d.Reason = "up_to_date", "it is running"
	case next != nil && next.ManifestDigest == digest && d.Staged != next.ID:
		d.Staged, d.Code, d.Reason = next.ID, "staged", "it is staged and boots next"
	case d.Staged != "" && (next == nil || next.ID != d.Staged):
		d.Staged, d.Code, d.Reason = "", "discarded", "it does not boot next any more"
	}
}

// Origin is the origin in the records of automatically staged deployments.
const Origin = "auto"

// Follower looks for updates of a node.
type Follower struct {
	Node   *deploy.Node
	Config Config
	Source source.Options
	// Exact finds out exactly how much would be fetched, which takes reading
	// the tables of contents of layers. A timer does without.
	Exact bool
	// ByHand says that a person asks: staged deployments and rollbacks do not hold the
	// upgrade then, and the reference of a staged deployment is followed.
	ByHand bool
	Now    time.Time
}

// retryAfter is how long an image rests that no boot could give a verdict of,
// before the automation tries it once more: whatever was wrong with the supply may
// be over by then.
const retryAfter = 24 * time.Hour

// from returns the deployment whose image is followed.
func (f *Follower) from(roles deploy.Roles) *deploy.Deployment {
	if f.ByHand {
		return cmp.Or(roles.Next, roles.Booted)
	}
	return cmp.Or(roles.Booted, roles.Next)
}

// Decide looks for an upgrade and returns what to do now. An error means that it could
// not look.
func (f *Follower) Decide(ctx context.Context, now time.Time) (*Decision, error) {
	f.Now = now
	d := &Decision{Checked: now.UTC().Truncate(time.Second), Mode: f.Config.Mode}
	have, err := f.Node.Inventory()
	if err := errors.Join(err, have.Complete()); err != nil {
		return nil, fmt.Errorf("deployments are damaged: %w", err) // nothing is automated on half a view
	}
	roles := have.Roles()
	if reason := f.unready(roles); reason != "" {
		d.Action, d.Code, d.Reason = Hold, "on_trial", reason
		if f.Node.Booted.Mode != deployment.Active && f.Node.Booted.Mode != deployment.Passive {
			d.Code = "not_installed_system"
		}
		return d, nil
	}
	v, err := f.Find(ctx)
	if err != nil {
		return nil, err
	}
	d.Action, d.Code, d.Reason = v.action, v.code, v.reason
	if v.action == None {
		return d, nil
	}
	d.Update = v.offer
	if roles.Next != nil && roles.Next.ManifestDigest == v.offer.ManifestDigest {
		d.Staged = roles.Next.ID
	}
	if v.action == Tell {
		f.act(d, now)
	}
	return d, nil
}

// unready says why nothing may be changed now, whatever there is.
func (f *Follower) unready(roles deploy.Roles) string {
	switch mode := f.Node.Booted.Mode; {
	case mode != deployment.Active && mode != deployment.Passive:
		return "the installed system is not running"
	case roles.Booted != nil && roles.Booted.State == deploy.Pending:
		return fmt.Sprintf("deployment %s is on trial: there is no verdict on this boot yet", roles.Booted.ID)
	}
	return ""
}

// act decides what is done now about an update that the node can take.
func (f *Follower) act(d *Decision, now time.Time) {
	open := f.Config.Windows.Contains(now)
	switch {
	case f.Config.Mode == Check:
		d.Action, d.Code, d.Reason = Tell, "mode", "Mode=check"
	case f.Config.Mode == Stage && d.Staged != "":
		d.Action, d.Code, d.Reason = None, "staged", "it is staged and boots next"
	case !open:
		next := f.Config.Windows.Next(now)
		d.Action, d.Code, d.WindowOpens = Wait, "window", &next
		d.Reason = "the window opens " + next.Format("Mon 2006-01-02 15:04")
	case d.Staged != "":
		d.Action, d.Code, d.Reason = Reboot, "staged", "it is staged"
	default:
		d.Action, d.Code, d.Reason = Fetch, "mode", "Mode="+string(f.Config.Mode)
	}
}

// Verdict is an offered image with the node's decision: None, Hold or Tell.
type Verdict struct {
	offer  *deploy.Offer
	action Action
	code   string // of the reason, for programs
	reason string
}

// Code is the word for programs of why the node can't take the offer.
func (v Verdict) Code() string { return v.code }

// Offer returns the offer, nil when there was none, and whether the node may stage it;
// reason says why not.
func (v Verdict) Offer() (o *deploy.Offer, takes bool, reason string) {
	return v.offer, v.action == Tell, v.reason
}

// maxHeld is how many releases that the node can't take are passed over.
const maxHeld = 5

// Find looks for the followed image: that of the tag, or the newest release in the
// range that the node may stage.
func (f *Follower) Find(ctx context.Context) (Verdict, error) {
	have, err := f.Node.Inventory()
	if err != nil {
		return Verdict{}, err
	}
	roles := have.Roles()
	reference, err := f.reference(roles)
	if err != nil {
		return Verdict{}, err
	}
	if f.Config.Follow != FollowSemver {
		return f.Judge(ctx, reference)
	}
	repository, _ := source.Repository(reference)
	tags, err := source.Tags(ctx, repository, f.options(roles))
	if err != nil {
		return Verdict{}, err
	}
	runs := current(repository, f.from(roles))
	newer := f.Config.Newer(For(tags, runs, cmp.Or(f.Source.Architecture, runtime.GOARCH)), runs)
	held := Verdict{action: None, code: "up_to_date", reason: fmt.Sprintf("%s has no release that is followed", repository)}
	if runs.Version != nil {
		held.reason += fmt.Sprintf(" and newer than %s", runs.Version)
	}
	for i, release := range newer[:min(maxHeld, len(newer))] {
		v, err := f.Judge(ctx, repository+":"+release.Tag)
		if err != nil || v.action == Tell {
			return v, err
		}
		if i == 0 {
			held = v
		}
	}
	return held, nil
}

// ErrNothingFollowed says that nothing tells which repository or tag to follow.
var ErrNothingFollowed = errors.New("nothing to follow")

// reference returns what is followed, as it is to be asked for.
func (f *Follower) reference(roles deploy.Roles) (string, error) {
	if f.Config.Reference != "" {
		return f.Config.Reference, nil
	}
	from := f.from(roles)
	if from == nil {
		return "", kind.Errorf(ErrNothingFollowed, "there is no deployment whose image could be followed")
	}
	repository, ok := source.Repository(from.Reference)
	if !ok {
		return "", kind.Errorf(ErrNothingFollowed, "deployment %s came from %s, which is not a registry", from.ID, from.Reference)
	}
	switch tag := source.Tag(from.Reference); {
	case tag != "":
		return repository + ":" + tag, nil
	case f.Config.Follow != FollowSemver && from.Reference != repository && "docker://"+repository != from.Reference:
		return "", kind.Errorf(ErrNothingFollowed, "deployment %s was staged by a digest, not by a tag", from.ID)
	}
	return repository, nil
}

// options are those by which images are read: a registry that was accepted without
// TLS for what is followed is accepted so again.
func (f *Follower) options(roles deploy.Roles) source.Options {
	o := f.Source
	if from := f.from(roles); from != nil {
		o.InsecureRegistry = from.InsecureRegistry
	}
	return o
}

// current returns the release that runs: of its tag, or of what the image says.
// It may be no version.
func current(repository string, from *deploy.Deployment) Release {
	if from == nil {
		return Release{}
	}
	if name, ok := source.Repository(from.Reference); ok && name == repository {
		if r := NewRelease(source.Tag(from.Reference)); r.Version != nil {
			return r
		}
	}
	return NewRelease(from.Version)
}

// Judge judges one image, by the history of the node.
func (f *Follower) Judge(ctx context.Context, reference string) (Verdict, error) {
	have, err := f.Node.Inventory()
	if err != nil {
		return Verdict{}, err
	}
	o, err := f.Node.Look(ctx, reference, f.options(have.Roles()), f.Exact)
	if err != nil {
		return Verdict{}, err
	}
	v := f.judge(o, have.Roles())
	v.offer = o
	return v, nil
}

func (f *Follower) judge(o *deploy.Offer, roles deploy.Roles) Verdict {
	next, booted, q := roles.Next, roles.Booted, o.Quarantined
	staged := next != nil && !next.Booted
	hold := func(code, format string, args ...any) Verdict {
		return Verdict{action: Hold, code: code, reason: fmt.Sprintf(format, args...)}
	}
	none := func(how string) Verdict {
		return Verdict{action: None, code: "up_to_date", reason: o.Reference + how}
	}
	rests := q != nil && q.Cause == deployment.NoVerdict && f.Now.Before(q.Time.Add(retryAfter))
	switch {
	case booted != nil && booted.ManifestDigest == o.ManifestDigest:
		return none(" is running")
	case staged && next.ManifestDigest == o.ManifestDigest:
		return Verdict{action: Tell}
	case next != nil && next.ManifestDigest == o.ManifestDigest:
		return none(" boots next")
	case q.Refuses():
		return hold("quarantined", "%s failed on this node on %s: %s", o.Reference, terminal.Time(q.Time), q.Reason)
	case f.ByHand: // a person has seen it
	case q != nil && q.Cause == deployment.Discarded:
		return hold("discarded", "%s was discarded: stage it by hand, or wait for a newer image", o.Reference)
	case rests:
		return hold("rests", "%s had no verdict on this node (%s): it is tried once more from %s on, and by hand at any time",
			o.Reference, q.Reason, terminal.Time(q.Time.Add(retryAfter)))
	case q != nil: // it is tried once more
	case o.Deployed != nil && o.Deployed.State == deploy.Bad:
		return hold("quarantined", "%s failed on this node: deployment %s has no tries left", o.Reference, o.Deployed.ID)
	case o.Deployed != nil && next != nil && next.Origin == "rollback" && o.Deployed.Serial < next.Serial:
		return hold("rolled_back", "the node was rolled back from %s: stage it by hand, or wait for a newer image", o.Reference)
	}
	switch {
	case staged && next.Origin != Origin && !f.ByHand:
		return hold("staged_by_hand", "%s was staged by hand and boots next: boot it, or discard it with kairos-upgrade discard", next.ID)
	case o.Downgrade && f.Config.Follow != FollowAlways:
		return hold("downgrade", "%s is version %s, older than %s", o.Reference, o.Version, o.FromVersion)
	}
	return Verdict{action: Tell}
}
