package automation

import (
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/report"
)

// What is followed: the config's reference, or the tag that the node came from.
func TestFollowed(t *testing.T) {
	from := func(reference string) *deploy.Deployment {
		return &deploy.Deployment{Deployment: report.Deployment{Record: deployment.Record{ID: "1-a", Reference: reference}}}
	}
	const repository = "registry.example.com/acme/os"
	digest := "@sha256:" + strings.Repeat("ab", 32)
	for name, test := range map[string]struct {
		follower     Follower
		roles        deploy.Roles
		want, saying string
	}{
		"the config's":       {Follower{Config: Config{Reference: "registry.example.com/x:1"}}, deploy.Roles{}, "registry.example.com/x:1", ""},
		"a tag":              {Follower{}, deploy.Roles{Booted: from(repository + ":2"), Next: from(repository + ":3")}, repository + ":2", ""},
		"by hand":            {Follower{ByHand: true}, deploy.Roles{Booted: from(repository + ":2"), Next: from(repository + ":3")}, repository + ":3", ""},
		"only staged":        {Follower{}, deploy.Roles{Next: from(repository + ":3")}, repository + ":3", ""},
		"no tag":             {Follower{}, deploy.Roles{Booted: from("docker://" + repository)}, repository, ""},
		"nothing":            {Follower{}, deploy.Roles{}, "", "no deployment"},
		"a directory":        {Follower{}, deploy.Roles{Booted: from("dir:/rootfs")}, "", "not a registry"},
		"a digest":           {Follower{}, deploy.Roles{Booted: from(repository + digest)}, "", "by a digest"},
		"a digest, releases": {Follower{Config: Config{Follow: FollowSemver}}, deploy.Roles{Booted: from(repository + digest)}, repository, ""},
	} {
		have, err := test.follower.reference(test.roles)
		if have != test.want || (err == nil) != (test.saying == "") || err != nil && !strings.Contains(err.Error(), test.saying) {
			t.Errorf("%s: %q, %v, want %q %s", name, have, err, test.want, test.saying)
		}
	}
}
