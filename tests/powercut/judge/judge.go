// Package judge looks at the disk of a node after a power cut and says whether the node is safe: its file
// systems are whole or replay to be so, the boot entries are legal, what boots is complete and is what was
// there before or what was to come, and all that stood by stands by still.
//
// The file systems are judged by programs that others wrote: sfdisk, sgdisk, e2fsck, fsck.fat,
// composefs-info. What a store and an ESP hold is read here, and only what a cut can have changed.
package judge

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/fsverity"
	image "github.com/kairos-io/toolkit/tests/powercut/disk"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// Judge looks at one disk. It remembers what it has seen, so that a cut costs what it changes.
type Judge struct {
	disk *image.Disk
	dir  string // for files of its own

	tables   map[uint64][]string // problems, by the stamps of what they were found in
	stores   map[seen]*Store
	esps     map[uint64]*ESP
	contents map[content]error          // whether files with fs-verity are what their names say
	digests  map[uint64]fsverity.Digest // of boot files, by where they lie
	objects  map[fsverity.Digest][]fsverity.Digest
}

// seen is a partition with a content.
type seen struct {
	name string
	sum  uint64
}

// content is a file that lies in certain blocks with certain stamps, and should have a digest.
type content struct {
	where  uint64
	digest fsverity.Digest
}

// Snapshot is what a disk holds.
type Snapshot struct {
	Table  []string          // problems of the partition table
	ESP    *ESP              // nil without such a partition
	Stores map[string]*Store // all partitions with ext4, by label
}

// ESP is what an EFI system partition holds.
type ESP struct {
	Problems []string
	Loader   fsverity.Digest // of the boot loader that the firmware finds; zero if there is none
	Entries  []bls.Entry     // in the order of the boot menu: the first boots
	Illegal  []string        // what is wrong with names or entries
	files    map[string]error
}

// Store is what a partition with ext4 holds.
type Store struct {
	Problems []string
	Images   map[string]error  // composefs images with all of their objects, by hexadecimal digest
	Records  map[string]error  // of deployments with their boot files' objects, by id
	Configs  map[string]string // generations of the node's config, by id: names and contents of files
	Deployed string            // all that the records say
}

// For prepares to judge a disk, with a folder for files of its own.
func For(d *image.Disk, dir string) *Judge {
	return &Judge{disk: d, dir: dir, tables: map[uint64][]string{}, stores: map[seen]*Store{}, esps: map[uint64]*ESP{},
		contents: map[content]error{}, digests: map[uint64]fsverity.Digest{}, objects: map[fsverity.Digest][]fsverity.Digest{}}
}

// Look says what is on the disk now. An error is one of the judge, not of the disk.
func (j *Judge) Look(ctx context.Context) (*Snapshot, error) {
	s := &Snapshot{Stores: map[string]*Store{}}
	for _, p := range j.disk.Partitions {
		var err error
		switch p.Name {
		case image.Rest:
			s.Table, err = j.table(ctx, p)
		case disk.LabelESP:
			s.ESP, err = j.esp(ctx, p)
		default:
			s.Stores[p.Name], err = j.store(ctx, p)
		}
		if err != nil {
			return nil, fmt.Errorf("look at partition %q: %w", p.Name, err)
		}
	}
	return s, nil
}

// table checks the partition table and its copy.
func (j *Judge) table(ctx context.Context, p *image.Partition) ([]string, error) {
	if known, ok := j.tables[p.Sum()]; ok {
		return known, nil
	}
	problems := []string{}
	for _, command := range [][]string{{"sfdisk", "--verify", p.Path}, {"sgdisk", "--verify", p.Path}} {
		said, status, err := run(ctx, command...)
		if err != nil {
			return nil, err
		}
		if status != 0 || command[0] == "sgdisk" && !noProblems.MatchString(said) {
			problems = append(problems, fmt.Sprintf("%s: exit status %d: %s", command[0], status, said))
		}
	}
	j.tables[p.Sum()] = problems
	return problems, nil
}

// temporary writes a file of the judge's own for a program to read.
func (j *Judge) temporary(data []byte) (path string, err error) {
	path = filepath.Join(j.dir, "file")
	return path, os.WriteFile(path, data, 0o644)
}

// run runs a program of the tools root, and returns what it says and its exit status.
func run(ctx context.Context, command ...string) (said string, status int, err error) {
	out, err := workspace.Tool(ctx, command[0], command[1:]...).CombinedOutput()
	if status, ok := exitStatus(err); ok {
		return string(out), status, nil
	}
	return string(out), 0, err
}
