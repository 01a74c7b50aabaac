// Package disk plays a log of writes on a disk image, in both directions: forward to what is durable at a
// moment, and from there to what a power cut leaves and back. Nothing is copied for a cut but what it
// changes.
//
// Each partition is a sparse file of its own, so that programs that check file systems can work on it.
package disk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/kairos-io/toolkit/tests/powercut/writelog"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// BlockSize is the unit in which changes are told apart, in bytes.
const BlockSize = 4096

// Partition is a part of the disk.
type Partition struct {
	Name   string // its label, "COS_STATE"
	Start  int64  // on the disk, in bytes; a multiple of BlockSize
	Size   int64  // in bytes
	Path   string // of the file that holds it
	file   *os.File
	stamps []uint64 // one for each block: see Stamp
	sum    uint64   // of all stamps
}

// Disk is the image of a disk.
type Disk struct {
	Size       int64
	Partitions []*Partition // and what is outside of all: the one with the name Rest
	log        *writelog.Log
	at         int // entries before this one are durable
	undo       []undo
}

// Rest is the name of what no partition holds: the partition tables.
const Rest = ""

// undo is what a part of a block was before a cut.
type undo struct {
	partition *Partition
	offset    int64
	length    int64
	data      []byte // nil: zeros
	stamp     uint64
}

// Open makes the image of a disk in the folder dir: as the file qcow2 has it, before the entry begin of
// the log. layout is where the partition table is read from, qcow2 itself if it is "".
func Open(ctx context.Context, dir, qcow2, layout string, log *writelog.Log) (*Disk, error) {
	if layout == "" {
		layout = qcow2
	}
	d := &Disk{log: log}
	if err := d.readTable(ctx, dir, layout); err != nil {
		return nil, fmt.Errorf("read the partition table of %s: %w", layout, err)
	}
	if err := d.fill(ctx, dir, qcow2); err != nil {
		return nil, errors.Join(fmt.Errorf("unpack %s: %w", qcow2, err), d.Close())
	}
	return d, nil
}

// table is the part of what sfdisk prints that is needed.
type table struct {
	PartitionTable struct {
		SectorSize int64 `json:"sectorsize"`
		Partitions []struct {
			Start int64  `json:"start"`
			Size  int64  `json:"size"`
			Name  string `json:"name"`
		} `json:"partitions"`
	} `json:"partitiontable"`
}

func (d *Disk) readTable(ctx context.Context, dir, qcow2 string) error {
	head := filepath.Join(dir, "head.raw")
	defer os.Remove(head)
	_, err := workspace.RunTool(ctx, "qemu-img", "dd", "-f", "qcow2", "-O", "raw", "bs=1M", "count=1", "if="+qcow2, "of="+head)
	if err != nil {
		return err
	}
	info, err := workspace.RunTool(ctx, "qemu-img", "info", "--output=json", qcow2)
	if err != nil {
		return err
	}
	var size struct {
		Bytes int64 `json:"virtual-size"`
	}
	if err := json.Unmarshal([]byte(info), &size); err != nil {
		return err
	}
	d.Size = size.Bytes
	if err := os.Truncate(head, d.Size); err != nil {
		return err
	}
	text, err := workspace.RunTool(ctx, "sfdisk", "--json", head)
	if err != nil {
		return err
	}
	var t table
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return err
	}
	for _, p := range t.PartitionTable.Partitions {
		p.Start, p.Size = p.Start*t.PartitionTable.SectorSize, p.Size*t.PartitionTable.SectorSize
		if p.Start%BlockSize != 0 || p.Size%BlockSize != 0 || p.Start < 0 || p.Size <= 0 || p.Start > d.Size-p.Size || p.Name == Rest {
			return fmt.Errorf("partition %q: %d bytes at %d", p.Name, p.Size, p.Start)
		}
		d.Partitions = append(d.Partitions, &Partition{Name: p.Name, Start: p.Start, Size: p.Size})
	}
	d.Partitions = append(d.Partitions, &Partition{Name: Rest, Size: d.Size})
	return nil
}

// fill makes the files of the partitions.
func (d *Disk) fill(ctx context.Context, dir, qcow2 string) error {
	whole := filepath.Join(dir, "whole.raw")
	defer os.Remove(whole)
	if _, err := workspace.RunTool(ctx, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", qcow2, whole); err != nil {
		return err
	}
	source, err := os.Open(whole)
	if err != nil {
		return err
	}
	defer source.Close()
	for i, p := range d.Partitions {
		p.Path = filepath.Join(dir, strconv.Itoa(i)+"-"+p.Name+".raw")
		if p.file, err = os.Create(p.Path); err != nil {
			return err
		}
		if err := p.file.Truncate(p.Size); err != nil {
			return err
		}
		p.stamps = make([]uint64, p.Size/BlockSize)
	}
	return copyData(source, d.Size, func(data []byte, at int64) error {
		return d.each(at, int64(len(data)), func(p *Partition, offset, done, n int64) error {
			_, err := p.file.WriteAt(data[done:done+n], offset)
			return err
		})
	})
}

// Export writes the disk as it is now to a file.
func (d *Disk) Export(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Truncate(d.Size); err != nil {
		return err
	}
	for _, p := range d.Partitions {
		err := copyData(p.file, p.Size, func(data []byte, at int64) error {
			_, err := file.WriteAt(data, p.Start+at)
			return err
		})
		if err != nil {
			return err
		}
	}
	return file.Close()
}

// each calls do for each partition that a part of the disk is in: n bytes at offset in it, done bytes
// after the part's begin.
func (d *Disk) each(start, length int64, do func(p *Partition, offset, done, n int64) error) error {
	rest := d.Partitions[len(d.Partitions)-1]
	for done := int64(0); done < length; {
		at, in, until := start+done, rest, d.Size
		for _, p := range d.Partitions[:len(d.Partitions)-1] {
			if at >= p.Start && at < p.Start+p.Size {
				in, until = p, p.Start+p.Size
				break
			}
			if p.Start > at {
				until = min(until, p.Start)
			}
		}
		n := min(length-done, until-at)
		if n <= 0 {
			return fmt.Errorf("%d bytes at %d are not on the disk", length, start)
		}
		if err := do(in, at-in.Start, done, n); err != nil {
			return err
		}
		done += n
	}
	return nil
}

// Partition returns the one with a label, nil if there is none.
func (d *Disk) Partition(name string) *Partition {
	for _, p := range d.Partitions {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Close removes the image.
func (d *Disk) Close() error {
	var err error
	for _, p := range d.Partitions {
		if p.file != nil {
			err = errors.Join(err, p.file.Close(), os.Remove(p.Path))
		}
	}
	return err
}

// ReadAt reads from the partition as it is now.
func (p *Partition) ReadAt(data []byte, offset int64) (int, error) {
	return p.file.ReadAt(data, offset)
}

// Stamp tells what was written to a block: as long as it is the same, the block is. What other programs
// write to the partition's file is not in it.
func (p *Partition) Stamp(block int64) uint64 { return p.stamps[block] }

// Sum tells the same of all blocks together.
func (p *Partition) Sum() uint64 { return p.sum }
