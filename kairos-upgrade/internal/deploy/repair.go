package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/layer"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// RepairOptions say from where damaged files may be restored.
type RepairOptions struct {
	// Source says how images are read.
	Source source.Options
	// Spares are other stores of this machine. They are looked at, in turn,
	// before anything is fetched.
	Spares []Spare
	// DryRun returns what would be tried, and changes nothing.
	DryRun bool
}

// Spare is another store, and its name for people.
type Spare struct {
	Name  string
	Store *store.Store
}

// Repaired is the result of a repair: found damage, restored files and, in Damaged,
// what could not be restored.
type Repaired struct {
	Verified
	Mended []Mended `json:"repaired"`
	Fetched
}

// Mended is something that is whole again.
type Mended struct {
	Kind string `json:"kind"` // as of Damage
	Name string `json:"name"`
	From string `json:"from"` // where it was restored from, for people
	// Paths are as of Damage.
	Paths []string `json:"paths,omitempty"`

	deployments []string // ids of those that it touched
}

// Repair verifies, and restores damaged or missing files: from boot files and other
// stores of the node, then from the image, by its digest, from which the deployment was
// made. It verifies each file before one rename replaces the damaged one, and changes
// no undamaged file. Damaged has the files that could not be restored.
func (n *Node) Repair(ctx context.Context, id string, o RepairOptions) (*Repaired, error) {
	v, err := n.Verify(ctx, id)
	if err != nil {
		return nil, err
	}
	r := &repair{node: n, options: o, result: Repaired{Verified: *v, Mended: []Mended{}}, failed: map[string]error{}}
	if len(v.Damaged) == 0 {
		return &r.result, nil
	}
	if o.DryRun {
		return &r.result, r.plan()
	}
	if err := r.run(ctx); err != nil {
		return nil, fmt.Errorf("repair: %w", err)
	}
	return &r.result, nil
}

// repair is one of them.
type repair struct {
	node    *Node
	options RepairOptions
	list    []Deployment
	result  Repaired
	failed  map[string]error // by deployment: why its image was of no help
}

func (r *repair) run(ctx context.Context) error {
	n := r.node
	for _, d := range r.result.Damaged {
		if d.Kind == "object" {
			n.Store.Distrust(d.digest)
		}
	}
	if err := r.fromBootFiles(ctx); err != nil {
		return err
	}
	if err := r.fromSpares(ctx); err != nil {
		return err
	}
	have, err := n.Inventory() // what is unreadable is in the result
	if err != nil {
		return err
	}
	r.list = byImportance(have.Deployments)
	for _, d := range r.list {
		if !r.lacks(d) {
			continue
		}
		if from, err := r.fromImage(ctx, d); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			n.Log.Warn("deployment could not be repaired", "deployment", d.ID, "error", err)
			r.failed[d.ID] = err
		} else if err := r.collect(from); err != nil {
			return err
		}
	}
	if err := errors.Join(r.dropUnneeded(), n.Store.Sync()); err != nil {
		return err
	}
	r.bootFiles()
	r.unreached()
	r.explain()
	return nil
}

// byImportance puts first what boots: the way back comes before history.
func byImportance(list []Deployment) []Deployment {
	roles := RolesOf(list)
	rank := func(d *Deployment) int {
		return slices.IndexFunc([]*Deployment{roles.Next, roles.Booted, roles.Previous, nil}, func(r *Deployment) bool {
			return r == nil || r.ID == d.ID
		})
	}
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b Deployment) int { return rank(&a) - rank(&b) })
	return sorted
}

// whole checks a damaged thing once more.
func (r *repair) whole(d Damage) bool {
	var err error
	switch d.Kind {
	case "object":
		if !r.node.Store.Has(d.digest) {
			return false
		}
		_, err = r.node.Store.CheckObject(d.digest)
	case "image":
		err = r.node.Store.CheckImage(d.digest)
	case "boot_file":
		err = r.node.Loader.Check(d.file)
	default:
		return false
	}
	return err == nil
}

// collect notes everything that has become whole by what was done last.
func (r *repair) collect(from string) error {
	if err := r.node.Store.Commit(context.Background()); err != nil {
		return err
	}
	r.result.Damaged = slices.DeleteFunc(r.result.Damaged, func(d Damage) bool {
		whole := r.whole(d)
		if whole {
			r.result.Mended = append(r.result.Mended, Mended{d.Kind, d.Name, from, d.Paths, d.Deployments})
		}
		return whole
	})
	return nil
}

// fromBootFiles takes a kernel or an initrd back from the boot loader.
func (r *repair) fromBootFiles(ctx context.Context) error {
	n := r.node
	for _, record := range n.Store.Records().Readable {
		for _, f := range record.Boot {
			d, err := fsverity.Parse(f.Digest)
			if err != nil || !r.damaged(d) || n.Loader.Check(f) != nil {
				continue
			}
			file, err := n.Loader.Open(f)
			if err != nil {
				continue
			}
			_, err = n.Store.Put(ctx, file, f.Size)
			file.Close()
			if err != nil {
				return err
			}
		}
	}
	return r.collect("the boot files")
}

// fromSpares copies from other stores.
func (r *repair) fromSpares(ctx context.Context) error {
	for _, spare := range r.options.Spares {
		for _, d := range r.result.Damaged {
			if d.Kind != "object" {
				continue
			}
			// What is wrong there would fail the whole transaction here.
			if _, err := spare.Store.CheckObject(d.digest); err != nil {
				continue
			}
			if err := r.node.Store.Copy(ctx, spare.Store, d.digest); err != nil {
				return err
			}
		}
		if err := r.collect(spare.Name); err != nil {
			return err
		}
	}
	return nil
}

func (r *repair) damaged(object fsverity.Digest) bool {
	return slices.ContainsFunc(r.result.Damaged, func(d Damage) bool { return d.Kind == "object" && d.digest == object })
}

// lacks reports whether a deployment misses what its image has.
func (r *repair) lacks(d Deployment) bool {
	return slices.ContainsFunc(r.result.Damaged, func(damage Damage) bool {
		return (damage.Kind == "object" || damage.Kind == "image") && slices.Contains(damage.Deployments, d.ID)
	})
}

// fromImage makes the contents of a deployment once more: of the layers that
// are known if that is enough, else of the image in its registry.
func (r *repair) fromImage(ctx context.Context, d Deployment) (from string, err error) {
	c, err := r.fromLayers(ctx, d)
	from = "the known layers"
	if err != nil {
		if from, err = pinned(d); err != nil {
			return "", err
		}
		if c, err = r.fetch(ctx, d, from); err != nil {
			return "", err
		}
	}
	if have := "sha256:" + c.image.String(); have != d.ImageDigest {
		return "", fmt.Errorf("%s gives the image %s, not %s", from, have, d.ImageDigest)
	}
	return from, nil
}

var errNotKnown = errors.New("not all layers are known")

// fromLayers needs no network: when only the image is damaged, or an object
// that a damaged image was thought not to need.
func (r *repair) fromLayers(ctx context.Context, d Deployment) (*contents, error) {
	if len(d.Layers) == 0 {
		return nil, errNotKnown
	}
	layers := make([]*layer.Layer, len(d.Layers))
	for i, diffID := range d.Layers {
		var err error
		if layers[i], err = r.node.Store.Load(diffID); err != nil {
			return nil, errNotKnown
		}
	}
	root, err := layer.Merge(layers)
	if err != nil {
		return nil, err
	}
	missing := false
	if err := visitNeeded(r.node.Store, root, func(o fsverity.Digest) { missing = missing || !r.node.Store.Has(o) }); err != nil || missing {
		return nil, errors.Join(errNotKnown, err)
	}
	return assemble(ctx, r.node.Store, root)
}

// pinned names the image that a deployment was made of, by its digest.
func pinned(d Deployment) (string, error) {
	if d.ManifestDigest == "" {
		return "", fmt.Errorf("it was made of %s, and its digest is not known", d.Reference)
	}
	return source.Pinned(d.Reference, d.ManifestDigest)
}

// lost names what a deployment lacks, for people: a few files, and how many more.
func (r *repair) lost(d Deployment) string {
	const few = 3
	var names []string
	for _, damage := range r.result.Damaged {
		switch {
		case !slices.Contains(damage.Deployments, d.ID):
		case len(damage.Paths) > 0:
			names = append(names, damage.Paths[0])
		case damage.Kind == "object" || damage.Kind == "image":
			names = append(names, damage.Kind+" "+damage.Name)
		}
	}
	if more := len(names) - few; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), more)
	}
	return strings.Join(names, ", ")
}

func (r *repair) fetch(ctx context.Context, d Deployment, from string) (*contents, error) {
	n := r.node
	opts := r.options.Source
	opts.TempDir, opts.Log, opts.InsecureRegistry = n.Store.TempDir(), n.Log, d.InsecureRegistry
	n.Log.Info("fetch " + from + " to restore " + r.lost(d))
	o, err := n.openOrigin(ctx, from, opts)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	if have := o.about().ManifestDigest; have != d.ManifestDigest {
		return nil, fmt.Errorf("%s is another image by now: %s, not %s", from, have, d.ManifestDigest)
	}
	c, fetched, err := o.fetch(ctx, n)
	r.result.Fetched.add(fetched)
	return c, err
}

// dropUnneeded removes what came with the layers and no deployment needs.
func (r *repair) dropUnneeded() error {
	live, err := live(r.node.Store, r.node.Store.Records().Readable)
	if err != nil {
		return nil // an image is still damaged; the next collection will know
	}
	_, err = r.node.Store.Drop(func(d fsverity.Digest) bool { _, needed := live.Objects[d]; return needed })
	return err
}

// bootFiles writes boot files once more, of their objects.
func (r *repair) bootFiles() {
	for _, d := range r.result.Damaged {
		if d.Kind != "boot_file" {
			continue
		}
		if err := r.node.putBootFile(d.file); err != nil {
			for _, id := range d.Deployments {
				r.failed[id] = errors.Join(r.failed[id], err)
			}
		}
	}
	_ = r.collect("its object")
}

// unreached removes damaged objects that nothing needs. While an image cannot
// be read it is not known what nothing needs.
func (r *repair) unreached() {
	n := r.node
	if slices.ContainsFunc(r.result.Damaged, func(d Damage) bool { return d.Kind == "image" || d.Kind == "record" }) {
		return
	}
	have, err := n.Inventory()
	if err := errors.Join(err, have.Complete()); err != nil {
		return
	}
	records, err := n.named(have, nil)
	if err != nil {
		return
	}
	for _, d := range have.Deployments {
		records = append(records, d.Record)
	}
	live, err := live(n.Store, append(records, n.running()...))
	if err != nil {
		return
	}
	r.result.Damaged = slices.DeleteFunc(r.result.Damaged, func(d Damage) bool {
		if _, needed := live.Objects[d.digest]; d.Kind != "object" || len(d.Deployments) > 0 || needed {
			return false
		}
		if err := n.Store.RemoveObject(d.digest); err != nil {
			n.Log.Warn("damaged object could not be removed", "error", err)
			return false
		}
		r.result.Mended = append(r.result.Mended, Mended{d.Kind, d.Name, "nothing: no deployment needs it, it was removed", nil, nil})
		return true
	})
}

// explain says of what is left why.
func (r *repair) explain() {
	for i := range r.result.Damaged {
		d := &r.result.Damaged[i]
		var why error
		for _, id := range d.Deployments {
			if err := r.failed[id]; err != nil {
				why = errors.Join(why, fmt.Errorf("%s: %w", id, err))
			}
		}
		if why != nil {
			d.Failure = strings.ReplaceAll(why.Error(), "\n", "; ")
		}
	}
}

// plan says what would be tried, in order.
func (r *repair) plan() error {
	have, err := r.node.Inventory()
	if err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	r.list = byImportance(have.Deployments)
	for i := range r.result.Damaged {
		d := &r.result.Damaged[i]
		if from := r.wouldCome(*d); from != "" {
			r.result.Mended = append(r.result.Mended, Mended{d.Kind, d.Name, from, d.Paths, d.Deployments})
		}
	}
	return nil
}

func (r *repair) wouldCome(d Damage) string {
	switch {
	case d.Kind == "boot_file":
		return "its object"
	case d.Kind != "object" && d.Kind != "image":
		return ""
	case len(d.Deployments) == 0:
		return "nothing: no deployment needs it, it would be removed"
	}
	if d.Kind == "object" {
		for _, spare := range r.options.Spares {
			if _, err := spare.Store.CheckObject(d.digest); err == nil {
				return spare.Name
			}
		}
	}
	for _, dep := range r.list {
		if slices.Contains(d.Deployments, dep.ID) {
			if from, err := pinned(dep); err == nil {
				return from
			}
		}
	}
	return ""
}
