package cmd

import (
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/automation"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/unpack"
	"github.com/kairos-io/toolkit/lib/exit"
)

// explanations say how the program, a transaction and a call on the bus end with
// what the packages beneath return.
var explanations = exit.Explanations{
	{Kind: deploy.ErrSameImage, Status: exit.Nothing, Reason: "up_to_date", Hint: "--force makes a new deployment of it"},
	{Kind: deploy.ErrUpToDate, Status: exit.Nothing, Reason: "up_to_date"},
	{Kind: deploy.ErrNoWayBack, Status: exit.Nothing, Reason: "no_way_back"},
	{Kind: deploy.ErrNothingStaged, Status: exit.Nothing, Reason: "nothing_staged"},
	{Kind: deploy.ErrAlready, Status: exit.Nothing},
	{Kind: deploy.ErrQuarantined, Status: exit.Refused, Reason: "quarantined", Hint: "--force tries it again"},
	{Kind: deploy.ErrNoTries, Status: exit.Refused, Hint: "--force tries it again"},
	{Kind: deploy.ErrLostVerity, Status: exit.Refused,
		Hint: "find the cause, or reinstall; --allow-unverified, or AllowUnverified= in upgrade.conf, stages without fs-verity"},
	{Kind: deploy.ErrUnsigned, Status: exit.Refused, Hint: "put the image into a registry or an OCI layout"},
	{Kind: deploy.ErrFailed, Status: exit.Refused, Hint: "kairos-upgrade stage IMAGE installs another one"},
	{Kind: deploy.ErrCannotBoot, Reason: "cannot_boot"},

	{Kind: deploy.ErrRunning, Status: exit.Refused, Hint: "kairos-upgrade rollback, and reboot: then it can go"},
	{Kind: deploy.ErrNext, Status: exit.Refused, Hint: "stage another one first"},
	{Kind: deploy.ErrStaged, Status: exit.Refused, Hint: "kairos-upgrade discard removes the staged deployment"},
	{Kind: deploy.ErrPinned, Status: exit.Refused, Hint: "kairos-upgrade unpin %s"},
	{Kind: deploy.ErrLastFallback, Status: exit.Refused, Hint: "--force removes it"},
	{Kind: deploy.ErrNotDiscarded, Hint: "kairos-upgrade rollback %s makes %s boot next"},
	{Kind: deploy.ErrOneInUse, Status: exit.Usage},

	{Kind: deploy.ErrPinnedSpace, Status: exit.NoSpace, Hint: "unpin deployments: kairos-upgrade unpin %s"},
	{Kind: deploy.ErrOldRecovery, Status: exit.NoSpace,
		Hint: "there is no space for two recovery systems: --replace removes the old one before the new one is complete"},
	{Kind: deploy.ErrNoSpace, Status: exit.NoSpace,
		Hint: "everything that is not needed for a rollback was already removed: use a larger partition or a smaller image"},
	{Kind: unpack.ErrNoSpace, Status: exit.NoSpace},
	{Kind: unpack.ErrAlready, Status: exit.Nothing},
	{Kind: unpack.ErrDirectory, Hint: "remove it if it is not needed"},

	{Kind: deploy.ErrNotHere, Status: exit.Usage,
		Hint: "stage the image on COS_STATE first, then: kairos-upgrade stage --recovery --replace store:/run/kairos/store:ID"},
	{Kind: deploy.ErrRecoveryRuns, Hint: "boot the installed system first"},
	{Kind: deploy.ErrDamagedSource, Hint: "kairos-upgrade verify on that store lists the damage"},
	{Kind: deploy.ErrDamaged, Hint: "kairos-upgrade verify lists what else is damaged; stage the image again"},
	{Kind: deploy.ErrForeignESP, Hint: "everything would be garbage: check that this ESP belongs to the store"},

	{Kind: automation.ErrSettings, Hint: "kairos-upgrade.conf(5) lists the settings; there are no automatic upgrades until they are correct"},
	{Kind: automation.ErrNothingFollowed, Hint: "set Reference= in /etc/kairos/upgrade.conf to the image to follow"},

	{Kind: source.ErrUsage, Status: exit.Usage},
	{Kind: source.ErrRefused, Status: exit.Refused},
	{Kind: source.ErrNoSuchImage, Reason: "no_such_image"},
	{Kind: source.ErrNoCredentials, Reason: "no_credentials"},
	{Kind: source.ErrWrongCredentials, Reason: "wrong_credentials"},
	{Kind: source.ErrNoTLS, Reason: "no_tls",
		Hint: "the registry speaks HTTP without TLS: give --insecure, which upgrades remember, or set insecure = true for it in registries.conf"},
}

// explain gives an error what the explanations say of it: for those who look at
// its status before the program ends.
func explain(err error) error { return explanations.Explain(err) }
