package cmd

import (
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
)

// explanations say how the program, and a call on the bus, ends with what the
// assessment returns.
var explanations = exit.Explanations{
	{Kind: deployment.ErrNotBooted, Status: exit.Failed,
		Hint: "kairos-root writes " + deployment.BootedPath + " when a deployment boots"},
	{Kind: assess.ErrNotJudged, Status: exit.Refused},
	{Kind: assess.ErrArgument, Status: exit.Usage},
	{Kind: assess.ErrNoFallback, Status: exit.Refused, Hint: "stage another image first: kairos-upgrade stage"},
	{Kind: assess.ErrOnTrial, Status: exit.Refused, Hint: "wait until it is blessed: systemctl start boot-complete.target"},
}
