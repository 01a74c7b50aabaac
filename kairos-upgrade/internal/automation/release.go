package automation

import (
	"cmp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Release is a tag of a repository.
type Release struct {
	Tag     string
	Version *semver.Version // nil: the tag is no version
}

// NewRelease reads a tag: a semantic version, with or without a v before it.
// Parts that are missing count as 0, so that v3 is one.
func NewRelease(tag string) Release {
	v, err := semver.NewVersion(tag)
	if err != nil {
		v = nil
	}
	return Release{tag, v}
}

// Sorted returns releases newest first, and behind them the tags that are no
// versions, by name.
func Sorted(tags []string) []Release {
	releases := make([]Release, len(tags))
	for i, tag := range tags {
		releases[i] = NewRelease(tag)
	}
	slices.SortStableFunc(releases, func(a, b Release) int {
		switch {
		case a.Version == nil && b.Version == nil:
			return strings.Compare(a.Tag, b.Tag)
		case a.Version == nil:
			return 1
		case b.Version == nil:
			return -1
		}
		// Of 2 and 2.0.0 the longer one is the one that will not move.
		return cmp.Or(b.Version.Compare(a.Version), cmp.Compare(len(b.Tag), len(a.Tag)), strings.Compare(a.Tag, b.Tag))
	})
	return releases
}

// Newer returns the releases that are an update of a version by the range that
// is followed, newest first. Of a version that isn't one (nil), all are.
func (c Config) Newer(tags []string, than *semver.Version) []Release {
	within := c.Range
	if within != nil && c.Prerelease {
		within.IncludePrerelease = true
	}
	return slices.DeleteFunc(Sorted(tags), func(r Release) bool {
		return r.Version == nil ||
			!c.Prerelease && r.Version.Prerelease() != "" ||
			within != nil && !within.Check(r.Version) ||
			than != nil && !r.Version.GreaterThan(than)
	})
}
