package automation

import (
	"archive/tar"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/report"
)

// made is a deployment of an image whose manifest digest is the word.
func made(id, manifest string, booted bool) *deploy.Deployment {
	return &deploy.Deployment{Deployment: report.Deployment{Record: deployment.Record{ID: id, ManifestDigest: manifest}, Booted: booted}}
}

// An old decision, after things have happened.
func TestRenew(t *testing.T) {
	for name, test := range map[string]struct {
		staged       string // as the decision knew
		booted, next *deploy.Deployment
		want         Decision // without the offer
		update       bool
	}{
		"nothing has happened":  {"", made("1-a", "old", true), made("1-a", "old", true), Decision{Action: Fetch, Code: "mode"}, true},
		"nothing is there":      {"", nil, nil, Decision{Action: Fetch, Code: "mode"}, true},
		"it runs":               {"2-b", made("2-b", "new", true), made("2-b", "new", true), Decision{Action: None, Code: "up_to_date"}, false},
		"it was staged":         {"", made("1-a", "old", true), made("2-b", "new", false), Decision{Action: Fetch, Code: "staged", Staged: "2-b"}, true},
		"it was staged again":   {"2-b", made("1-a", "old", true), made("3-c", "new", false), Decision{Action: Fetch, Code: "staged", Staged: "3-c"}, true},
		"it is staged still":    {"2-b", made("1-a", "old", true), made("2-b", "new", false), Decision{Action: Fetch, Code: "mode", Staged: "2-b"}, true},
		"it was discarded":      {"2-b", made("1-a", "old", true), made("1-a", "old", true), Decision{Action: Fetch, Code: "discarded"}, true},
		"all entries have gone": {"2-b", made("1-a", "old", true), nil, Decision{Action: Fetch, Code: "discarded"}, true},
	} {
		d := Decision{Action: Fetch, Code: "mode", Staged: test.staged, Update: &deploy.Offer{ManifestDigest: "new"}}
		d.Renew(deploy.Roles{Booted: test.booted, Next: test.next})
		if d.Action != test.want.Action || d.Code != test.want.Code || d.Staged != test.want.Staged || (d.Update != nil) != test.update {
			t.Errorf("%s: %+v", name, d)
		}
	}
	var none *Decision
	none.Renew(deploy.Roles{})
	d := Decision{Staged: "2-b"} // without an update there is nothing to renew
	if d.Renew(deploy.Roles{}); d.Staged != "2-b" {
		t.Errorf("%+v", d)
	}
}

// What is judged of an offer, by what the node knows of it.
func TestJudge(t *testing.T) {
	now := time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC)
	q := func(cause deployment.Cause, age time.Duration, attempts int) *deployment.Quarantine {
		return &deployment.Quarantine{Cause: cause, Time: now.Add(-age), Attempts: attempts}
	}
	bad, good := made("3-c", "new", false), made("3-c", "new", false)
	bad.State, good.State = deploy.Bad, deploy.Good
	old, rollback, staged := made("1-a", "old", true), made("9-d", "older", false), made("4-e", "other", false)
	good.Serial, rollback.Serial, rollback.Origin, staged.Origin = 3, 9, "rollback", Origin
	for name, test := range map[string]struct {
		offer        deploy.Offer // of the image "new"
		booted, next *deploy.Deployment
		follow       Follow
		byHand       bool
		action       Action
		code         string
	}{
		"new":                          {booted: old, next: old, action: Tell},
		"it runs":                      {booted: made("2-b", "new", true), next: made("2-b", "new", true), action: None, code: "up_to_date"},
		"it runs, another boots next":  {booted: made("2-b", "new", true), next: old, action: None, code: "up_to_date"},
		"staged":                       {booted: old, next: made("2-b", "new", false), action: Tell},
		"boots next, something odd":    {next: made("2-b", "new", true), action: None, code: "up_to_date"},
		"failed":                       {offer: deploy.Offer{Quarantined: q(deployment.Failed, time.Hour, 0)}, booted: old, action: Hold, code: "quarantined"},
		"failed, by hand":              {offer: deploy.Offer{Quarantined: q(deployment.Failed, time.Hour, 0)}, booted: old, byHand: true, action: Hold, code: "quarantined"},
		"discarded":                    {offer: deploy.Offer{Quarantined: q(deployment.Discarded, time.Hour, 0)}, booted: old, action: Hold, code: "discarded"},
		"discarded, by hand":           {offer: deploy.Offer{Quarantined: q(deployment.Discarded, time.Hour, 0)}, booted: old, byHand: true, action: Tell},
		"no verdict yet":               {offer: deploy.Offer{Quarantined: q(deployment.NoVerdict, retryAfter-1, 1)}, booted: old, action: Hold, code: "rests"},
		"no verdict, a day ago":        {offer: deploy.Offer{Quarantined: q(deployment.NoVerdict, retryAfter, 1), Deployed: bad}, booted: old, action: Tell},
		"no verdict, twice":            {offer: deploy.Offer{Quarantined: q(deployment.NoVerdict, 2*retryAfter, 2)}, booted: old, action: Hold, code: "quarantined"},
		"no tries left":                {offer: deploy.Offer{Deployed: bad}, booted: old, next: old, action: Hold, code: "quarantined"},
		"deployed before":              {offer: deploy.Offer{Deployed: good}, booted: old, next: old, action: Tell},
		"somebody went back from it":   {offer: deploy.Offer{Deployed: good}, booted: old, next: rollback, action: Hold, code: "rolled_back"},
		"somebody staged another":      {booted: old, next: made("5-f", "other", false), action: Hold, code: "staged_by_hand"},
		"by hand, another is staged":   {booted: old, next: made("5-f", "other", false), byHand: true, action: Tell},
		"an older one of ours":         {booted: old, next: staged, action: Tell},
		"older":                        {offer: deploy.Offer{Change: deploy.Change{Downgrade: true}}, booted: old, action: Hold, code: "downgrade"},
		"older, and always":            {offer: deploy.Offer{Change: deploy.Change{Downgrade: true}}, booted: old, follow: FollowAlways, action: Tell},
		"older, in a store of nothing": {offer: deploy.Offer{Change: deploy.Change{Downgrade: true}}, action: Hold, code: "downgrade"},
	} {
		test.offer.ManifestDigest = "new"
		f := Follower{Config: Config{Follow: test.follow}, ByHand: test.byHand, Now: now}
		if v := f.judge(&test.offer, deploy.Roles{Booted: test.booted, Next: test.next}); v.action != test.action || v.code != test.code {
			t.Errorf("%s: %s %s (%s), want %s %s", name, v.action, v.code, v.reason, test.action, test.code)
		}
	}
}

// TestDecide has a node that runs one image, and looks at what is there.
func TestDecide(t *testing.T) {
	dir := t.TempDir()
	n := &deploy.Node{Label: "COS_STATE", Log: slog.New(slog.DiscardHandler)}
	var views [2]*view.View
	for i, name := range []string{"store", "esp"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if views[i], err = view.Writable(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if n.Store, err = store.Create(t.Context(), views[0], store.Holder{PID: os.Getpid()}); err != nil {
		t.Fatal(err)
	}
	n.Loader = boot.NewSystemdBoot(views[1], false)
	t.Cleanup(func() { n.Store.Close(); views[1].Close() })
	image := func(version string) string {
		layer := imagetest.Tar(t, []tar.Header{
			{Name: "usr/lib/modules/2/vmlinuz", Typeflag: tar.TypeReg, Mode: 0o644},
			{Name: "usr/lib/modules/2/initramfs.img", Typeflag: tar.TypeReg, Mode: 0o644},
		}, map[string]string{"usr/lib/modules/2/vmlinuz": version, "usr/lib/modules/2/initramfs.img": "initrd"})
		return "oci:" + imagetest.Build(t, imagetest.Image{
			Layers: []imagetest.Layer{{Tar: layer}}, Labels: map[string]string{"org.opencontainers.image.version": version},
		}).Layout(t, "v")
	}
	first, second := image("1"), image("2")
	options := source.Options{Root: t.TempDir()}
	staged, err := n.Stage(t.Context(), deploy.Request{Source: first, Options: options})
	if err != nil {
		t.Fatal(err)
	}
	decide := func(reference string) *Decision {
		t.Helper()
		f := Follower{Node: n, Config: Config{Reference: reference, Mode: Apply, Follow: FollowTag}, Source: options}
		d, err := f.Decide(t.Context(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	expect := func(d *Decision, action Action, code string, update bool, id string) {
		t.Helper()
		if d.Action != action || d.Code != code || (d.Update != nil) != update || d.Staged != id {
			t.Errorf("%+v", d)
		}
	}
	for _, mode := range []deployment.Mode{deployment.Recovery, deployment.Live} {
		n.Booted.Mode = mode
		expect(decide(second), Hold, "not_installed_system", false, "")
	}
	for _, mode := range []deployment.Mode{deployment.Active, deployment.Passive} {
		n.Booted = deployment.Booted{ID: staged.ID, Mode: mode}
		expect(decide(second), Hold, "on_trial", false, "")
	}
	entries, err := n.Loader.Entries()
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	e := entries[0]
	e.Name.Counted = false
	if err := errors.Join(n.Loader.Remove(e.Name.Base), n.Loader.Publish(e)); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []deployment.Mode{deployment.Active, deployment.Passive} {
		n.Booted.Mode = mode
		expect(decide(first), None, "up_to_date", false, "")
		expect(decide(second), Fetch, "mode", true, "")
	}
	next, err := n.Stage(t.Context(), deploy.Request{Source: second, Options: options, Origin: Origin})
	if err != nil {
		t.Fatal(err)
	}
	expect(decide(second), Reboot, "staged", true, next.ID)
	if d := decide(first); !strings.Contains(d.Reason, "is running") {
		t.Errorf("%+v", d)
	}
}
