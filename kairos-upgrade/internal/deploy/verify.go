package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sync/errgroup"
)

// Damage is a damaged or missing file.
type Damage struct {
	Kind    string `json:"kind"`    // record, image, object, boot_file, entry or quarantine
	Name    string `json:"name"`    // id, digest, path or name of the entry
	Problem string `json:"problem"` // for people
	// Paths are files of the images whose content the object is, maxPaths at most.
	Paths       []string `json:"paths,omitempty"`
	Deployments []string `json:"deployments"` // ids of the deployments that need it
	// Advice is what a person can do about damage that Repair can't restore, and
	// Failure why Repair has not restored it.
	Advice  string `json:"advice,omitempty"`
	Failure string `json:"failure,omitempty"`

	digest fsverity.Digest // of an object or an image
	file   deployment.File // of a boot file
}

// Verified is the result of a verification: what was checked, and the damage.
type Verified struct {
	Deployments int      `json:"deployments"`
	Images      int      `json:"images"`
	Objects     int      `json:"objects"`
	Bytes       int64    `json:"bytes"` // read
	BootFiles   int      `json:"boot_files"`
	Incomplete  []string `json:"incomplete"` // ids: interrupted before their boot entry was published
	Damaged     []Damage `json:"damaged"`
}

// Verify reads all files of one deployment or, with id "", of all, with unneeded
// objects, and compares them with their digests. It needs only read access, and no
// lock: a staging doesn't wait for it. It verifies the state at its start; files that
// other processes remove meanwhile are no damage.
func (n *Node) Verify(ctx context.Context, id string) (*Verified, error) {
	v := &verifier{node: n, all: id == "", result: Verified{Damaged: []Damage{}, Incomplete: []string{}}, users: map[fsverity.Digest]uses{}}
	if err := v.run(ctx, id); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	slices.SortStableFunc(v.result.Damaged, func(a, b Damage) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return &v.result, nil
}

// workers is how many objects are read at once: enough to keep a disk and the
// hashing of another object busy. Each takes a buffer of 256 KiB.
const workers = 4

// uses is a set of deployments, by their index; those beyond the 63rd share
// the last place.
type uses uint64

type verifier struct {
	node   *Node
	all    bool
	list   []Deployment
	users  map[fsverity.Digest]uses
	sizes  int64 // of the objects that deployments need, in bytes
	result Verified
}

func (v *verifier) run(ctx context.Context, id string) error {
	have, err := v.node.Inventory()
	if err != nil {
		return err
	}
	v.list = have.Deployments
	if id != "" {
		d, err := have.Find(id)
		if err != nil {
			return err
		}
		v.list = []Deployment{*d}
	} else {
		v.records(have.Unreadable)
		v.orphans(have.Orphans)
	}
	v.result.Deployments = len(v.list)
	if err := v.images(ctx); err != nil {
		return err
	}
	if err := v.boot(ctx); err != nil {
		return err
	}
	if err := v.objects(ctx); err != nil {
		return err
	}
	v.paths()
	return v.recheck()
}

// maxPaths is how many files of the same content are named.
const maxPaths = 8

// paths finds out which files damaged objects are. What is no file of an image that
// can be read, such as a boot file, has none.
func (v *verifier) paths() {
	damaged := map[fsverity.Digest]*Damage{}
	var touched uses
	for i := range v.result.Damaged {
		if d := &v.result.Damaged[i]; d.Kind == "object" {
			damaged[d.digest] = d
			touched |= v.users[d.digest]
		}
	}
	seen := map[string]bool{}
	for i, d := range v.list {
		image, err := imageDigest(d.Record)
		if touched&bit(i) == 0 || err != nil || seen[d.ImageDigest] {
			continue
		}
		seen[d.ImageDigest] = true
		root, err := verifiedImage(v.node.Store, image)
		if err != nil {
			continue // which is reported
		}
		for path, n := range root.Walk() {
			if !n.HasObject() {
				continue
			}
			path = "/" + strings.TrimPrefix(path, "/")
			if d := damaged[n.Digest]; d != nil && len(d.Paths) < maxPaths && !slices.Contains(d.Paths, path) {
				d.Paths = append(d.Paths, path)
			}
		}
	}
}

func (v *verifier) damage(d Damage, err error, users uses) {
	d.Problem, d.Deployments = err.Error(), []string{}
	for i, dep := range v.list {
		if users&bit(i) != 0 {
			d.Deployments = append(d.Deployments, dep.ID)
		}
	}
	v.result.Damaged = append(v.result.Damaged, d)
}

func bit(i int) uses { return 1 << min(i, 63) }

// records reports what Deployments could not read.
func (v *verifier) records(err error) {
	var joined interface{ Unwrap() []error }
	switch {
	case err == nil:
	case errors.As(err, &joined):
		for _, e := range joined.Unwrap() {
			v.records(e)
		}
	default:
		v.damage(Damage{Kind: "record", Name: deployment.Dir, Advice: adviceRecord}, err, 0)
	}
}

// orphans reports entries without record.
func (v *verifier) orphans(entries []bls.Entry) {
	for _, e := range entries {
		image, _ := boots(e)
		err := fmt.Errorf("it boots %s, which has no record", image)
		if d, bad := imageDigest(deployment.Record{ImageDigest: image}); bad != nil {
			err = bad
		} else if bad := v.node.Store.CheckImage(d); bad != nil {
			err = fmt.Errorf("%w; %w", err, bad)
		}
		v.damage(Damage{Kind: "entry", Name: e.Name.String(), Advice: adviceOrphan}, err, 0)
	}
}

// images checks the images and notes which objects they need.
func (v *verifier) images(ctx context.Context) error {
	v.node.Progress.Phase("verify images", 0)
	records := make([]deployment.Record, len(v.list))
	for i, d := range v.list {
		records[i] = d.Record
	}
	read := func(image fsverity.Digest) (*tree.Inode, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return verifiedImage(v.node.Store, image)
	}
	for r, err := range reach(records, read) {
		by := uses(0)
		for _, i := range r.by {
			by |= bit(i)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case r.image:
			v.result.Images++
			if err != nil {
				v.damage(Damage{Kind: "image", Name: "sha256:" + r.digest.String(), digest: r.digest}, err, by)
			}
		case err != nil:
			return err
		default:
			if v.users[r.digest] == 0 {
				v.sizes += r.size
			}
			v.users[r.digest] |= by
		}
	}
	return nil
}

// boot checks entries and the files that they name.
func (v *verifier) boot(ctx context.Context) error {
	users := map[deployment.File]uses{}
	for i, d := range v.list {
		if d.State == Incomplete {
			v.result.Incomplete = append(v.result.Incomplete, d.ID)
			continue
		}
		for _, f := range d.Boot {
			users[f] |= bit(i)
		}
		if e := d.entry; !strings.Contains(e.Options, d.ImageDigest) {
			v.damage(Damage{Kind: "entry", Name: e.Name.String(), Advice: adviceEntry}, fmt.Errorf("it does not boot %s", d.ImageDigest), bit(i))
		} else if want := v.node.Loader.Entry(d.Record).Files(); !slices.Equal(e.Files(), want) {
			v.damage(Damage{Kind: "entry", Name: e.Name.String(), Advice: adviceEntry}, fmt.Errorf("it names %v, the record %v", e.Files(), want), bit(i))
		}
	}
	v.node.Progress.Phase("verify boot files", 0)
	for f, by := range users {
		if err := ctx.Err(); err != nil {
			return err
		}
		v.result.BootFiles++
		if err := v.node.Loader.Check(f); err != nil {
			v.damage(Damage{Kind: "boot_file", Name: f.Path, file: f}, err, by)
		}
		v.node.Progress.Add(f.Size)
	}
	return nil
}

// Advice about files for which there is no other source.
const (
	adviceRecord = "it boots as before, but gc does not work: stage its image again, then remove the file"
	adviceOrphan = "gc keeps its files: stage an image, and remove the entry after that has booted"
	adviceEntry  = "stage its image again with --force, or roll back: both publish a new entry"
)

// objects reads the objects: all of them, or those of one deployment.
func (v *verifier) objects(ctx context.Context) error {
	v.node.Progress.Phase("verify objects", v.sizes)
	if v.all {
		for o, err := range v.node.Store.Objects() {
			if err != nil {
				v.damage(Damage{Kind: "object", Name: "objects"}, err, 0)
				continue
			}
			if _, used := v.users[o.Digest]; !used {
				v.users[o.Digest] = 0
			}
		}
	}
	var mu sync.Mutex // of the result
	var group errgroup.Group
	group.SetLimit(workers)
	for o, by := range v.users {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			size, err := v.node.Store.CheckObject(o)
			if by == 0 && errors.Is(err, fs.ErrNotExist) { // collected since it was listed
				return nil
			}
			v.node.Progress.Add(size)
			mu.Lock()
			defer mu.Unlock()
			v.result.Objects++
			v.result.Bytes += size
			if err != nil {
				v.damage(Damage{Kind: "object", Name: o.String(), digest: o}, err, by)
			}
			return nil
		})
	}
	return errors.Join(group.Wait(), ctx.Err())
}

// recheck drops what others did meanwhile, which is no damage: they removed
// deployments and what only these reached, or published what was incomplete.
func (v *verifier) recheck() error {
	// Who publishes what was incomplete at the beginning is at it since then.
	holder := v.node.Store.Busy()
	busy := holder != nil && holder.PID != os.Getpid()
	now, err := v.node.Inventory()
	if err != nil {
		return err
	}
	state := map[string]State{}
	for _, d := range now.Deployments {
		state[d.ID] = d.State
	}
	there := func(id string) bool { return state[id] != "" }
	v.result.Damaged = slices.DeleteFunc(v.result.Damaged, func(d Damage) bool {
		return len(d.Deployments) > 0 && !slices.ContainsFunc(d.Deployments, there)
	})
	v.result.Incomplete = slices.DeleteFunc(v.result.Incomplete, func(id string) bool {
		return busy || state[id] != Incomplete
	})
	return nil
}
