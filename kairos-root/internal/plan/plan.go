// Package plan decides which mounts make the writable paths of a system, from
// the layout, from what the image holds, and from whether COS_PERSISTENT is
// there. It changes nothing.
//
// The rules:
//
//   - /etc, /var, /srv and what else the layout names are overlays whose
//     changes live in memory.
//   - A persistent path beneath /etc, /usr or /opt, where images carry programs
//     and settings, is an overlay with its upper layer on COS_PERSISTENT: a
//     file that the node never changed follows the image. Where the image has
//     nothing there, it is a bind of the same directory.
//   - Any other persistent path holds data. It is a bind of a directory on
//     COS_PERSISTENT, which is filled once from the image.
//   - /usr/local is COS_PERSISTENT itself. What the image carries in a
//     directory of /usr/local shows through an overlay.
//   - Without COS_PERSISTENT everything is an overlay in memory.
//   - A path that the image lacks is made where its parent is writable. An empty
//     directory of the image, such as /mnt, becomes writable in memory for what
//     is asked for beneath it. Elsewhere the path is left out.
package plan

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-root/internal/layout"
	"github.com/kairos-io/toolkit/lib/report"
)

// Kind is the way in which a path is made writable.
type Kind string

const (
	Ephemeral Kind = "ephemeral" // an overlay with changes in memory
	Overlay   Kind = "overlay"   // an overlay with changes on COS_PERSISTENT
	Bind      Kind = "bind"      // a directory of COS_PERSISTENT
	Volume    Kind = "volume"    // another file system
)

// Local is the mount point of COS_PERSISTENT for users.
const Local = "/usr/local"

// Step is one mount.
type Step struct {
	Kind   Kind
	Path   string // as in the layout
	Target string // with symbolic links of the image resolved
	State  string // overlay, bind: directory on COS_PERSISTENT, relative to its root
	Work   string // overlay: its working directory, likewise
	Source string // volume: the device
	Lower  bool   // the image has a directory at Target
	Seed   bool   // bind: a new directory is filled from the image
}

// Skip is a path that is not mounted, with the reason.
type Skip = report.Skip

// Plan is the list of mounts, in order, and of skipped paths.
type Plan struct {
	Steps   []Step
	Skipped []Skip
}

// Make makes the plan. image is the root of the image.
func Make(image fs.ReadLinkFS, l layout.Layout, persistent bool) Plan {
	m := maker{image: image, layout: l, persistent: persistent}
	bases := m.bases()
	m.layout.Ephemeral = slices.Concat(l.Ephemeral, bases)
	m.ephemeral()
	if persistent {
		m.local()
		m.persist()
	}
	m.volumes()
	// A mount hides what is beneath it: outer ones first.
	slices.SortStableFunc(m.plan.Steps, func(a, b Step) int { return comparePaths(a.Target, b.Target) })
	return m.plan
}

// String formats the plan for people and for tests: a line for each step and for each
// skipped path.
func (p Plan) String() string {
	var out strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintf(&out, "%-9s %s", s.Kind, s.Path)
		if s.Target != s.Path {
			fmt.Fprintf(&out, " at %s", s.Target)
		}
		if from := cmp.Or(s.State, s.Source); from != "" {
			fmt.Fprintf(&out, " from %s", from)
		}
		switch {
		case s.Seed:
			out.WriteString(" (filled once)")
		case !s.Lower && s.Kind != Volume:
			out.WriteString(" (not in the image)")
		}
		out.WriteByte('\n')
	}
	for _, s := range p.Skipped {
		fmt.Fprintf(&out, "skipped   %s: %s\n", s.Path, s.Reason)
	}
	return out.String()
}

type maker struct {
	image      fs.ReadLinkFS
	layout     layout.Layout
	persistent bool
	plan       Plan
}

func (m *maker) skip(p, format string, args ...any) {
	m.plan.Skipped = append(m.plan.Skipped, Skip{Path: p, Reason: fmt.Sprintf(format, args...)})
}

func (m *maker) add(s Step) { m.plan.Steps = append(m.plan.Steps, s) }

// at returns the step whose target is exactly target.
func (m *maker) at(target string) bool {
	return slices.ContainsFunc(m.plan.Steps, func(s Step) bool { return s.Target == target })
}

// writable reports whether a step above target makes it writable.
func (m *maker) writable(target string) bool {
	return slices.ContainsFunc(m.plan.Steps, func(s Step) bool { return within(target, s.Target) })
}

// bases returns the empty directories of the image that contain missing paths.
func (m *maker) bases() []string {
	paths := slices.Concat(m.layout.Ephemeral, m.layout.Persistent)
	for _, v := range m.layout.Volumes {
		paths = append(paths, v.Target)
	}
	places := []place{{target: Local, exists: true}, {target: "/tmp", exists: true}} // which have mounts of their own
	for _, p := range paths {
		if place, err := resolve(m.image, p); err == nil { // the others are skipped
			places = append(places, place)
		}
	}
	var bases []string
	for _, p := range places {
		if p.exists {
			continue
		}
		dir, above := p.target, p
		for !above.exists && dir != "/" {
			dir = path.Dir(dir)
			above, _ = resolve(m.image, dir)
		}
		covered := func(asked place) bool { return dir == asked.target || within(dir, asked.target) }
		if above.dir && layout.Allows(dir) && !within(dir, "/usr") && !slices.ContainsFunc(places, covered) && empty(m.image, dir) {
			bases = append(bases, dir)
		}
	}
	return bases
}

// ephemeral plans the overlays in memory.
func (m *maker) ephemeral() {
	paths := m.layout.Ephemeral
	if m.persistent {
		// Asked for as both, a path is persistent.
		paths = slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return slices.Contains(m.layout.Persistent, p) })
	} else {
		paths = slices.Concat(paths, []string{Local}, m.layout.Persistent)
	}
	for _, p := range m.places(paths) {
		switch {
		case m.at(p.target):
		case m.writable(p.target):
			if !p.exists && slices.Contains(m.layout.Ephemeral, p.path) {
				m.add(Step{Kind: Ephemeral, Path: p.path, Target: p.target})
			}
		case !p.exists:
			m.skip(p.path, "the image has no such directory, and the one above it is read-only")
		case !p.dir:
			m.skip(p.path, "is not a directory in the image")
		default:
			m.add(Step{Kind: Ephemeral, Path: p.path, Target: p.target, Lower: true})
		}
	}
}

// asked is a path of the layout with its resolved target.
type asked struct {
	path string
	place
}

// places resolves paths and sorts them by target, parents first.
func (m *maker) places(paths []string) []asked {
	var all []asked
	for _, p := range paths {
		place, err := resolve(m.image, p)
		if err != nil {
			m.skip(p, "%v", err)
			continue
		}
		all = append(all, asked{p, place})
	}
	slices.SortStableFunc(all, func(a, b asked) int { return comparePaths(a.target, b.target) })
	return all
}

// persist plans the persistent paths.
func (m *maker) persist() {
	states := map[string]string{}
	for _, p := range m.places(m.layout.Persistent) {
		state := path.Join(m.layout.StateDir, stateName(p.path))
		switch {
		case m.at(p.target) || p.target == Local || within(p.target, Local):
		case states[state] != "":
			m.skip(p.path, "is kept under the same name as %s", states[state])
		case p.exists && !p.dir:
			m.skip(p.path, "is not a directory in the image")
		case !p.exists && !m.writable(p.target):
			m.skip(p.path, "the image has no such directory, and the one above it is read-only")
		default:
			states[state] = p.path
			m.add(m.keep(p, state))
		}
	}
}

// keep plans one valid persistent path.
func (m *maker) keep(p asked, state string) Step {
	s := Step{Kind: Bind, Path: p.path, Target: p.target, State: state, Lower: p.exists}
	image := slices.ContainsFunc([]string{"/etc", "/usr", "/opt"}, func(dir string) bool {
		return p.target == dir || within(p.target, dir)
	})
	switch {
	case image && p.exists && !empty(m.image, p.target):
		s.Kind, s.Work = Overlay, workName(state)
	case !image:
		s.Seed = p.exists
	}
	return s
}

// local plans /usr/local: a bind of COS_PERSISTENT, and an overlay over each of its
// directories in which the image has files.
func (m *maker) local() {
	place, err := resolve(m.image, Local)
	switch {
	case err != nil:
		m.skip(Local, "%v", err)
		return
	case !place.exists && !m.writable(place.target), place.exists && !place.dir:
		m.skip(Local, "is not a directory in the image")
		return
	}
	m.add(Step{Kind: Bind, Path: Local, Target: place.target, State: ".", Lower: place.exists})
	if !place.exists {
		return
	}
	entries, err := fs.ReadDir(m.image, name(place.target))
	if err != nil {
		m.skip(Local, "%v", err)
	}
	top, _, _ := strings.Cut(m.layout.StateDir, "/")
	for _, e := range entries {
		target := path.Join(place.target, e.Name())
		switch {
		case !e.IsDir() || !hasFile(m.image, target):
		case e.Name() == top:
			m.skip(target, "is where %s is kept", "the node's state")
		default:
			p := path.Join(Local, e.Name())
			work := workName(path.Join(m.layout.StateDir, stateName(p)))
			m.add(Step{Kind: Overlay, Path: p, Target: target, State: e.Name(), Work: work, Lower: true})
		}
	}
}

func (m *maker) volumes() {
	for _, v := range m.layout.Volumes {
		place, err := resolve(m.image, v.Target)
		switch {
		case err != nil:
			m.skip(v.Target, "%v", err)
		case m.at(place.target):
			m.skip(v.Target, "%s is not mounted: the path is another mount's", v.Source)
		case place.exists && !place.dir:
			m.skip(v.Target, "is not a directory in the image")
		case !place.exists && !m.writable(place.target):
			m.skip(v.Target, "the image has no such directory, and the one above it is read-only")
		default:
			m.add(Step{Kind: Volume, Path: v.Target, Target: place.target, Source: v.Source, Lower: place.exists})
		}
	}
}

// stateName returns the name of the directory in which Kairos stores a path:
// etc-ssl-certs.bind for /etc/ssl/certs.
func stateName(p string) string {
	return strings.ReplaceAll(strings.Trim(p, "/"), "/", "-") + ".bind"
}

// workName returns the working directory for a state directory.
func workName(state string) string { return strings.TrimSuffix(state, ".bind") + ".work" }

// within reports whether p is beneath dir.
func within(p, dir string) bool { return strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/") }

// comparePaths orders paths so that a directory is followed by everything beneath it:
// "/a/b" before "/a-b".
func comparePaths(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}
