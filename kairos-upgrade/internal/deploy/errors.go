package deploy

import (
	"errors"
	"fmt"
)

// There is nothing to do.
var (
	ErrAlready       = errors.New("nothing to do")
	ErrUpToDate      = fmt.Errorf("%w", ErrAlready) // it boots next
	ErrSameImage     = fmt.Errorf("%w", ErrUpToDate)
	ErrNoWayBack     = fmt.Errorf("%w: there is no good deployment beside the one that boots next", ErrAlready)
	ErrNothingStaged = fmt.Errorf("%w: nothing is staged", ErrAlready)
)

// Something is refused unless somebody forces it.
var (
	ErrQuarantined = errors.New("the image failed on this node")
	ErrNoTries     = errors.New("the deployment failed to boot")
	ErrLostVerity  = errors.New("the store has lost fs-verity")
	ErrFailed      = errors.New("the deployment failed without damage")
)

// A deployment can't be removed.
var (
	ErrRunning      = errors.New("it is running")
	ErrStaged       = errors.New("it boots next")
	ErrNext         = fmt.Errorf("%w", ErrStaged) // and nothing else is there
	ErrPinned       = errors.New("it is pinned")
	ErrLastFallback = errors.New("it is the last deployment to fall back to")
	ErrOneInUse     = errors.New("the store has one deployment in use")
	ErrNotDiscarded = errors.New("what boots next is not just staged")
)

// There is not enough space: kinds by what would help.
var (
	ErrNoSpace     = errors.New("not enough space")
	ErrPinnedSpace = fmt.Errorf("%w: unpin a deployment", ErrNoSpace)
	ErrOldRecovery = fmt.Errorf("%w: replace the recovery system", ErrNoSpace)
)

// Something is damaged, or not what it should be.
var (
	ErrDamaged       = errors.New("the deployment is damaged")
	ErrDamagedSource = errors.New("the source is damaged")
	ErrForeignESP    = errors.New("no deployment has a boot entry")
	ErrNotHere       = errors.New("--replace needs a deployment in a store of this machine")
	ErrRecoveryRuns  = errors.New("--replace: the recovery system is running")
)
