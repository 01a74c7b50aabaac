package ext4

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/lib/run"
)

// Made says what file system is made.
type Made struct {
	Label, UUID, HashSeed string
	Time                  time.Time // of everything in it
}

// Source is a file to be written. Length is what its blocks hold, Size what it shows;
// they differ for a file with fs-verity.
type Source struct {
	Length, Size int64
	Hole         int64  // bytes that take no block
	Flags        uint32 // of the inode; 0: as mkfs and debugfs choose
}

// named is what names in a store look like: debugfs takes a line apart at spaces.
var named = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`)

// Tree is what a file system is made of: directories and regular files of a directory
// of this machine, by their path in it, in the order of their names.
type Tree struct {
	Dir   string
	Paths []string
	Files map[string]Source // of each path; directories are not in it
}

// Scan reads a directory. What is neither a file nor a directory is refused, and so
// are names that no store has.
func Scan(dir string) (Tree, error) {
	t := Tree{Dir: dir, Files: map[string]Source{}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if !named.MatchString(d.Name()) || !d.IsDir() && !d.Type().IsRegular() {
			return fmt.Errorf("%q: not a file of a store", rel)
		}
		if !d.IsDir() {
			info, err := d.Info()
			if err != nil {
				return err
			}
			t.Files[rel] = Source{Length: info.Size(), Size: info.Size()}
		}
		t.Paths = append(t.Paths, rel)
		return nil
	})
	return t, err
}

const (
	blocksPerGroup = 8 * BlockSize
	extentBlocks   = 2048 // a cautious length of what lies in one piece
)

// Size returns a size of a file system in bytes, a multiple of 1 MiB, that the tree
// fits into.
func (t Tree) Size() int64 {
	blocks, children := int64(0), map[string]int64{}
	for _, path := range t.Paths {
		children[filepath.Dir(path)] += int64(len(filepath.Base(path))) + 12
		if f, ok := t.Files[path]; ok {
			blocks += (f.Length - f.Hole + BlockSize - 1) / BlockSize
			if f.Length > 4*extentBlocks*BlockSize {
				blocks++ // for extents that do not fit into the inode
			}
		}
	}
	for _, bytes := range children {
		blocks += bytes/(BlockSize-512) + 1
	}
	blocks += t.inodes()*256/BlockSize + 512 // with lost+found, and what the file system takes for itself
	blocks += blocks/blocksPerGroup*8 + blocks/50
	const mib = 1 << 20
	return (blocks*BlockSize + mib - 1) / mib * mib
}

func (t Tree) inodes() int64 { return int64(len(t.Paths)) + 64 }

// Make makes the file system in a file, at a place and of a size in bytes. The same
// tree makes the same bytes.
func (t Tree) Make(ctx context.Context, runner run.Runner, file string, at, size int64, m Made) error {
	stamp := fmt.Sprint(m.Time.Unix())
	runner.Extra = append(runner.Extra, "E2FSPROGS_FAKE_TIME="+stamp, "SOURCE_DATE_EPOCH="+stamp, "TZ=UTC", "MKE2FS_CONFIG=/dev/null")
	// Without a journal, which what is never written does not need, and with features
	// that say themselves, whatever the machine's mke2fs.conf says. Without backups of
	// the superblock: versions of mkfs.ext4 leave different things in them, and a
	// damaged medium is made again.
	_, err := runner.Output(ctx, "mkfs.ext4", "-q", "-F", "-b", fmt.Sprint(BlockSize), "-I", "256", "-m", "0", "-N", fmt.Sprint(t.inodes()),
		"-O", "none,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super2,large_file,huge_file,dir_nlink,extra_isize,metadata_csum,verity",
		"-U", m.UUID, "-L", m.Label, "-E", fmt.Sprintf("hash_seed=%s,root_owner=0:0,lazy_itable_init=0,nodiscard,num_backup_sb=0,offset=%d", m.HashSeed, at),
		file, fmt.Sprint(size/BlockSize))
	if err != nil {
		return fmt.Errorf("make file system %s: %w", m.Label, err)
	}
	script, err := t.script(stamp)
	if err != nil {
		return err
	}
	commands := filepath.Join(filepath.Dir(t.Dir), "debugfs.commands")
	if err := os.WriteFile(commands, []byte(script), 0o600); err != nil {
		return err
	}
	// It ends with 0 whatever went wrong, and says so on stderr, behind its version.
	var said []string
	runner.Line = func(_, line string) {
		if !strings.HasPrefix(line, "debugfs 1.") && !strings.HasPrefix(line, "debugfs: ") {
			said = append(said, line)
		}
	}
	runner.Dir = t.Dir
	if _, err = runner.Output(ctx, "debugfs", "-w", "-f", commands, fmt.Sprintf("%s?offset=%d", file, at)); err == nil && len(said) > 0 {
		err = &run.Error{Program: "debugfs", Cause: strings.Join(said[:min(3, len(said))], "; ")}
	}
	if err != nil {
		return fmt.Errorf("fill file system %s: %w", m.Label, err)
	}
	return forget(file, at)
}

// forget clears the number of kilobytes ever written, which depends on the version of
// the programs, in the superblock.
func forget(file string, at int64) error {
	const (
		written  = 0x178 // u64
		checksum = 0x3fc // u32: CRC-32C of what is before it
	)
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1024)
	if _, err := f.ReadAt(b, at+1024); err != nil {
		return err
	}
	clear(b[written:][:8])
	sum := ^crc32.Checksum(b[:checksum], crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(b[checksum:], sum)
	if _, err := f.WriteAt(b, at+1024); err != nil {
		return err
	}
	return f.Close()
}

// script returns the commands that fill the file system.
func (t Tree) script(stamp string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "set_current_time @%s\nsif / mode 040700\n", stamp)
	for _, path := range t.Paths {
		f, ok := t.Files[path]
		if !ok {
			// mkdir takes /a for a below the current directory.
			fmt.Fprintf(&b, "cd /%s\nmkdir %s\n", filepath.Dir(path), filepath.Base(path))
			continue
		}
		if strings.ContainsAny(path, " \"\n") {
			return "", errors.New("a name with a space")
		}
		fmt.Fprintf(&b, "cd /%s\nwrite %s %s\nsif %[3]s mode 0100644\n", filepath.Dir(path), path, filepath.Base(path))
		if f.Flags != 0 {
			fmt.Fprintf(&b, "sif %s size %d\nsif %[1]s flags 0x%[3]x\n", filepath.Base(path), f.Size, f.Flags)
		}
	}
	return b.String(), nil
}
