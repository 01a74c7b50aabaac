package judge

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kairos-io/toolkit/lib/deployment"
	super "github.com/kairos-io/toolkit/lib/ext4"
	"github.com/kairos-io/toolkit/lib/fsverity"
	image "github.com/kairos-io/toolkit/tests/powercut/disk"
	"github.com/kairos-io/toolkit/tests/powercut/ext4"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// store checks a partition with ext4. What e2fsck changes, by replaying the journal as the kernel would,
// is undone in the end.
func (j *Judge) store(ctx context.Context, p *image.Partition) (_ *Store, err error) {
	key := seen{p.Name, p.Sum()}
	if known, ok := j.stores[key]; ok {
		return known, nil
	}
	s := &Store{Images: map[string]error{}, Records: map[string]error{}, Configs: map[string]string{}}
	undo := filepath.Join(j.dir, "undo")
	options := []string{"-z", undo}
	if err := os.Remove(undo); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// A torn superblock is mended as kairos-root does it; e2fsck's log can't undo that.
	superblock := make([]byte, super.Size)
	if _, err := p.ReadAt(superblock, super.Offset); err != nil {
		return nil, err
	}
	parsed, err := super.Parse(superblock)
	if err != nil {
		s.Problems = []string{"no file system"}
		j.stores[key] = s
		return s, nil
	}
	if tear := parsed.Torn; tear != nil {
		whole := filepath.Join(j.dir, "torn")
		if err := copySparse(ctx, p.Path, whole); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, copySparse(ctx, whole, p.Path), os.Remove(whole)) }()
		if options, err = mend(p, tear); err != nil {
			return nil, err
		}
	}
	said, status, err := run(ctx, append([]string{"sh", "-c", checkExt4, "sh", p.Path}, options...)...)
	if err != nil {
		return nil, err
	}
	if status != 0 {
		s.Problems = append(s.Problems, said)
	}
	if err := j.inside(ctx, p, s); err != nil {
		return nil, err
	}
	if _, err := os.Stat(undo); err == nil {
		if undone, status, err := run(ctx, "e2undo", "-f", undo, p.Path); err != nil || status != 0 {
			return nil, fmt.Errorf("undo what e2fsck did: exit status %d, %w: %s; e2fsck said: %s", status, err, undone, said)
		}
	}
	j.stores[key] = s
	return s, nil
}

// copySparse copies into a file, which stays the same one where it is there.
func copySparse(ctx context.Context, from, to string) error {
	_, err := workspace.RunTool(ctx, "cp", "--sparse=always", from, to)
	return err
}

// mend returns the options of e2fsck for a torn superblock, which it puts together where there is no copy.
func mend(p *image.Partition, tear *super.Tear) ([]string, error) {
	if tear.Backup != 0 {
		return []string{"-b", fmt.Sprint(tear.Backup), "-B", fmt.Sprint(tear.BlockSize)}, nil
	}
	f, err := os.OpenFile(p.Path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return []string{"-f"}, errors.Join(super.Join(f), f.Close())
}

// checkExt4 first does what the kernel and systemd-fsck do at boot: it replays the journal and finishes
// what was deleted while it was open (exit status 1 says that something was done). Then nothing must be
// left to mend.
const checkExt4 = `disk=$1; shift
e2fsck -p "$@" "$disk"; [ $? -le 1 ] || exit 2
e2fsck -fn "$disk" || exit 3`

// inside looks at what the file system holds. What can't be read is noted, no error.
func (j *Judge) inside(ctx context.Context, p *image.Partition, s *Store) error {
	f, err := ext4.Open(p)
	if err != nil {
		s.Problems = append(s.Problems, err.Error())
		return nil
	}
	if err := j.images(ctx, p, f, s); err != nil {
		return err
	}
	names, err := list(f, deployment.Dir)
	if err != nil {
		s.Problems = append(s.Problems, err.Error())
	}
	for _, name := range sorted(names) {
		if id, ok := strings.CutSuffix(name, ".json"); ok && !strings.HasPrefix(name, ".") {
			s.Records[id] = j.record(p, f, id, s)
		}
	}
	j.configs(f, s)
	return nil
}

// list returns what is in a directory; nothing where there is none.
func list(f *ext4.FS, name string) (map[string]uint32, error) {
	dir, err := f.Lookup(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return f.ReadDir(dir)
}

// images checks each composefs image, and the objects that it names.
func (j *Judge) images(ctx context.Context, p *image.Partition, f *ext4.FS, s *Store) error {
	names, err := list(f, "images")
	if err != nil {
		s.Problems = append(s.Problems, err.Error())
	}
	for name := range names {
		digest, err := fsverity.Parse(name)
		if err != nil {
			s.Problems = append(s.Problems, "images: "+err.Error())
			continue
		}
		if err := j.named(p, f, "images/"+name, digest); err != nil {
			s.Images[name] = err
			continue
		}
		objects, err := j.objectsOf(ctx, f, digest)
		if err != nil {
			return err
		}
		s.Images[name] = j.present(p, f, objects)
	}
	return nil
}

// objectsOf asks composefs-info what an image is made of.
func (j *Judge) objectsOf(ctx context.Context, f *ext4.FS, digest fsverity.Digest) ([]fsverity.Digest, error) {
	if known, ok := j.objects[digest]; ok {
		return known, nil
	}
	data, err := f.ReadFile("images/"+digest.String(), 256<<20)
	if err != nil {
		return nil, err
	}
	file, err := j.temporary(data)
	if err != nil {
		return nil, err
	}
	said, status, err := run(ctx, "composefs-info", "objects", file)
	if err != nil || status != 0 {
		return nil, fmt.Errorf("composefs-info: exit status %d, %w: %s", status, err, said)
	}
	objects := []fsverity.Digest{}
	for line := range strings.Lines(said) {
		d, err := fsverity.Parse(strings.ReplaceAll(strings.TrimSpace(line), "/", ""))
		if err != nil {
			return nil, fmt.Errorf("composefs-info: %w", err)
		}
		objects = append(objects, d)
	}
	if len(objects) == 0 {
		return nil, fmt.Errorf("composefs-info finds no objects in image %s", digest)
	}
	j.objects[digest] = objects
	return objects, nil
}

// present checks objects. The first that is missing or wrong is the error.
func (j *Judge) present(p *image.Partition, f *ext4.FS, objects []fsverity.Digest) error {
	dirs := map[string]map[string]uint32{}
	for _, d := range objects {
		shard, rest := d.String()[:2], d.String()[2:]
		if dirs[shard] == nil {
			names, err := list(f, "objects/"+shard)
			if err != nil {
				return err
			}
			dirs[shard] = names
		}
		number, ok := dirs[shard][rest]
		if !ok {
			return fmt.Errorf("object %s: %w", d, fs.ErrNotExist)
		}
		i, err := f.Inode(number)
		if err == nil {
			err = j.verity(p, i, d)
		}
		if err != nil {
			return fmt.Errorf("object %s: %w", d, err)
		}
	}
	return nil
}

func (j *Judge) named(p *image.Partition, f *ext4.FS, name string, digest fsverity.Digest) error {
	i, err := f.Lookup(name)
	if err == nil {
		err = j.verity(p, i, digest)
	}
	return err
}

// verity checks that a file has fs-verity enabled with a digest and can be read.
func (j *Judge) verity(p *image.Partition, i *ext4.Inode, digest fsverity.Digest) error {
	where := fnv.New64a()
	fmt.Fprintln(where, p.Name, i.Size, i.Verity(), i.Extents)
	i.Blocks(func(block int64) { writeNumber(where, p.Stamp(block)) })
	key := content{where.Sum64(), digest}
	if known, ok := j.contents[key]; ok {
		return known
	}
	have, err := i.CheckVerity()
	if err == nil && have != digest {
		err = fmt.Errorf("%w: it is %s", fsverity.ErrMismatch, have)
	}
	j.contents[key] = err
	return err
}

// record checks a deployment's record and the objects of its boot files, from which it can be published
// again.
func (j *Judge) record(p *image.Partition, f *ext4.FS, id string, s *Store) error {
	data, err := f.ReadFile(path.Join(deployment.Dir, id+".json"), 4<<20)
	if err != nil {
		return err
	}
	s.Deployed += string(data)
	r, err := deployment.Parse(data)
	if err != nil {
		return err
	}
	if r.ID != id {
		return fmt.Errorf("it is the record of %q", r.ID)
	}
	var objects []fsverity.Digest
	for _, b := range r.Boot {
		d, err := fsverity.Parse(b.Digest)
		if err != nil {
			return err
		}
		objects = append(objects, d)
	}
	return j.present(p, f, objects)
}

// configs reads the generations of the node's config.
func (j *Judge) configs(f *ext4.FS, s *Store) {
	const dir = ".generations"
	generations, err := list(f, dir)
	if err != nil {
		s.Problems = append(s.Problems, err.Error())
	}
	for name := range generations {
		var all strings.Builder
		if err := readTree(f, path.Join(dir, name), &all); err != nil {
			s.Problems = append(s.Problems, err.Error())
		}
		s.Configs[name] = all.String()
	}
}

// readTree writes down names and contents.
func readTree(f *ext4.FS, name string, to *strings.Builder) error {
	i, err := f.Lookup(name)
	if err != nil {
		return err
	}
	if !i.Mode().IsDir() {
		data, err := f.ReadFile(name, 1<<20)
		fmt.Fprintf(to, "%s %v %q\n", name, i.Mode(), data)
		return err
	}
	names, err := f.ReadDir(i)
	if err != nil {
		return err
	}
	for _, n := range sorted(names) {
		if err := readTree(f, path.Join(name, n), to); err != nil {
			return err
		}
	}
	return nil
}

var noProblems = regexp.MustCompile(`(?m)^No problems found`)
