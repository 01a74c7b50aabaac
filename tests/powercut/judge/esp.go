package judge

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"path"
	"strings"

	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/fsverity"
	image "github.com/kairos-io/toolkit/tests/powercut/disk"
	"github.com/kairos-io/toolkit/tests/powercut/fat"
)

// loaderPath is what the firmware boots from a disk that it knows nothing else of.
const loaderPath = "EFI/BOOT/BOOTX64.EFI"

// esp checks the EFI system partition.
func (j *Judge) esp(ctx context.Context, p *image.Partition) (*ESP, error) {
	if known, ok := j.esps[p.Sum()]; ok {
		return known, nil
	}
	said, status, err := run(ctx, "fsck.fat", "-n", p.Path)
	if err != nil {
		return nil, err
	}
	e := &ESP{files: map[string]error{}, Problems: harmful(said)}
	if status > 1 { // 1: something would be mended
		e.Problems = append(e.Problems, fmt.Sprintf("fsck.fat: exit status %d: %s", status, said))
	}
	if err := j.boot(p, e); err != nil {
		e.Problems = append(e.Problems, err.Error())
	}
	j.esps[p.Sum()] = e
	return e, nil
}

// boot reads the boot entries and checks the files that they name.
func (j *Judge) boot(p *image.Partition, e *ESP) error {
	f, err := fat.Open(p)
	if err != nil {
		return err
	}
	if loader, err := f.Lookup(loaderPath); err == nil {
		e.Loader, _ = j.digest(p, loader) // one that can't be read is none
	}
	dir, err := f.Lookup(bls.EntriesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	files, err := f.ReadDir(dir)
	if err != nil {
		return err
	}
	bases := map[string]string{}
	for _, file := range files {
		// No boot loader takes these for entries. An empty file is what a new name stands for on FAT until
		// the file's first cluster and size are written there.
		if atomicfile.IsTemp(file.Name) || file.Dir || file.Size == 0 {
			continue
		}
		entry, err := readEntry(file)
		if err != nil {
			e.Illegal = append(e.Illegal, fmt.Sprintf("entry %q: %v", file.Name, err))
			continue
		}
		if other, twice := bases[strings.ToLower(entry.Name.Base)]; twice {
			e.Illegal = append(e.Illegal, fmt.Sprintf("%s and %s are one deployment", other, file.Name))
		}
		bases[strings.ToLower(entry.Name.Base)] = file.Name
		e.Entries = append(e.Entries, entry)
		for _, name := range entry.Files() {
			e.files[name] = j.bootFile(p, f, name)
		}
	}
	bls.Sort(e.Entries)
	return nil
}

func readEntry(file *fat.File) (bls.Entry, error) {
	name, err := bls.ParseName(file.Name)
	if err != nil {
		return bls.Entry{}, err
	}
	if file.Size > 64<<10 {
		return bls.Entry{}, fmt.Errorf("%d bytes", file.Size)
	}
	data, err := file.Content()
	if err != nil {
		return bls.Entry{}, err
	}
	entry, err := bls.Parse(name, data)
	if err == nil && len(entry.Files()) == 0 {
		err = errors.New("it boots nothing")
	}
	return entry, err
}

// bootFile checks a file against the digest in its name.
func (j *Judge) bootFile(p *image.Partition, f *fat.FS, name string) error {
	file, err := f.Lookup(name)
	if err != nil {
		return err
	}
	_, text, _ := strings.Cut(strings.TrimSuffix(path.Base(name), ".efi"), "-")
	digest, err := fsverity.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	have, err := j.digest(p, file)
	if err == nil && have != digest {
		err = fmt.Errorf("%w: it is %s", fsverity.ErrMismatch, have)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// digest reads a file, unless it has read the same one before.
func (j *Judge) digest(p *image.Partition, file *fat.File) (fsverity.Digest, error) {
	where := fnv.New64a()
	fmt.Fprintln(where, p.Name, file.Size, file.Chain)
	file.Blocks(image.BlockSize, func(block int64) { writeNumber(where, p.Stamp(block)) })
	if known, ok := j.digests[where.Sum64()]; ok {
		return known, nil
	}
	data, err := file.Content()
	if err != nil {
		return fsverity.Digest{}, err
	}
	digest := fsverity.Bytes(data)
	j.digests[where.Sum64()] = digest
	return digest, nil
}
