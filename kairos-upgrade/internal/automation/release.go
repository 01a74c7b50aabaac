package automation

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Release is a tag of a repository.
type Release struct {
	Tag     string
	Version *semver.Version // nil: the tag is no version
	// Of Kairos' own tags: system, variant, architecture, model and Kubernetes,
	// which stay the same from one release to the next; the architecture of
	// these; and the version of Kubernetes, nil without.
	Flavor       string
	Architecture string
	Kubernetes   *semver.Version
}

// Kairos' tags are SYSTEM-VARIANT-ARCHITECTURE-MODEL-vVERSION, and behind that
// -k3svVERSION or -k0svVERSION. What follows else, as in -img, is no image to boot.
var (
	kairosTag = regexp.MustCompile(`^(.+-(?:core|standard)-([a-z0-9]+)-[a-z0-9_-]+?)-v([0-9]+\.[0-9]+\.[0-9]+(?:-(?:alpha|beta|rc)[a-z0-9.]*)?)` +
		`(?:-(k3s|k0s)-?v?([0-9]+\.[0-9]+\.[0-9]+(?:[-+.]k[03]s[0-9.]*)?))?$`)
	kairosLike = regexp.MustCompile(`-(?:core|standard)-[a-z0-9]+-[a-z0-9_-]+-v[0-9]`)
)

// NewRelease parses a tag: one of Kairos' own, or a semantic version, with or without a
// leading v. Missing parts count as 0, so that v3 is valid.
func NewRelease(tag string) Release {
	if m := kairosTag.FindStringSubmatch(tag); m != nil {
		r := Release{Tag: tag, Flavor: m[1] + "-" + m[4], Architecture: m[2]}
		r.Version, _ = semver.NewVersion(m[3])
		r.Kubernetes, _ = semver.NewVersion(m[5])
		return r
	}
	v, err := semver.NewVersion(tag)
	if err != nil || kairosLike.MatchString(tag) {
		v = nil
	}
	return Release{Tag: tag, Version: v}
}

// compare orders releases that are versions.
func (r Release) compare(other Release) int {
	c := r.Version.Compare(other.Version)
	if c == 0 && r.Kubernetes != nil && other.Kubernetes != nil {
		c = r.Kubernetes.Compare(other.Kubernetes)
	}
	return c
}

// Newer reports whether a release is newer than another. Of one that is no
// version, nothing is.
func (r Release) Newer(than Release) bool {
	return r.Version != nil && than.Version != nil && r.compare(than) > 0
}

// date is how builds are tagged by their day; 2024.1.2 may be a version.
var date = regexp.MustCompile(`^v?(?:19|20)[0-9]{2}[-._](?:0[1-9]|1[0-2])[-._](?:0[1-9]|[12][0-9]|3[01])\b`)

// numberMin is the number from which digits alone are a date or the beginning of
// a commit id, where there are versions of three parts.
const numberMin = 100_000

// read reads tags, among which digits alone and dates may be none beside
// versions.
func read(tags []string) []Release {
	releases := make([]Release, len(tags))
	three := false
	for i, tag := range tags {
		releases[i] = NewRelease(tag)
		v := releases[i].Version
		three = three || v != nil && v.Major() < numberMin && strings.Count(tag, ".") >= 2 && !date.MatchString(tag)
	}
	for i := range releases {
		if v := releases[i].Version; three && v != nil && (v.Major() >= numberMin || date.MatchString(tags[i])) {
			releases[i].Version = nil
		}
	}
	return releases
}

// For returns the tags that a node may follow. Of Kairos' own tags these are the ones
// with the running flavor or, where no such tag is running, with an architecture.
func For(tags []string, runs Release, architecture string) []string {
	return slices.DeleteFunc(slices.Clone(tags), func(tag string) bool {
		r := NewRelease(tag)
		switch {
		case runs.Flavor != "":
			return r.Flavor != runs.Flavor
		case r.Flavor != "":
			return r.Architecture != architecture
		}
		return false
	})
}

// Sorted returns releases newest first, and behind them the tags that are no
// versions, by name.
func Sorted(tags []string) []Release {
	releases := read(tags)
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
		return cmp.Or(b.compare(a), cmp.Compare(len(b.Tag), len(a.Tag)), strings.Compare(a.Tag, b.Tag))
	})
	return releases
}

// Newer returns the releases that are an update of a version by the range that
// is followed, newest first. Of what is no version, all are.
func (c Config) Newer(tags []string, than Release) []Release {
	within := c.Range
	if within != nil && c.Prerelease {
		within.IncludePrerelease = true
	}
	return slices.DeleteFunc(Sorted(tags), func(r Release) bool {
		return r.Version == nil ||
			!c.Prerelease && r.Version.Prerelease() != "" ||
			within != nil && !within.Check(r.Version) ||
			than.Version != nil && !r.Newer(than)
	})
}
