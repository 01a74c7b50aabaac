package disk_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/kairos-io/toolkit/tests/powercut/disk"
	"github.com/kairos-io/toolkit/tests/powercut/fixture"
	"github.com/kairos-io/toolkit/tests/powercut/writelog"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// randomLog writes, gives up and flushes here and there in the first sectors of a disk.
func randomLog(random *rand.Rand, sectors uint64) *fixture.Log {
	log := &fixture.Log{}
	for range 300 {
		at, n := random.Uint64N(sectors-40), 1+random.Uint64N(40)
		switch random.IntN(8) {
		case 0:
			log.Flush()
		case 1:
			log.Discard(at, n)
		default:
			data := make([]byte, n*writelog.SectorSize)
			for i := range data {
				data[i] = byte(random.Uint32())
			}
			log.Write(at, data)
		}
	}
	return log
}

// stamped is a block at some time.
type stamped struct {
	partition string
	block     int64
	stamp     uint64
}

// TestPlay cuts a disk at many places. Each time it holds what a plain copy of the disk holds to which the
// same is written; afterwards it is as before. A block that has the same stamp twice is the same.
func TestPlay(t *testing.T) {
	n := fixture.New(t)
	qcow2 := n.Disk(nil, nil)
	dir, err := os.MkdirTemp("/tmp", "kairos-disk-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	raw := filepath.Join(dir, "raw")
	if _, err := workspace.RunTool(t.Context(), "qemu-img", "convert", "-O", "raw", qcow2, raw); err != nil {
		t.Fatal(err)
	}
	durable, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "log")
	// From the partition table across the border of the first partition.
	if err := os.WriteFile(path, randomLog(rand.New(rand.NewPCG(1, 2)), 3000).Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	log, err := writelog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	d, err := disk.Open(t.Context(), dir, qcow2, "", log)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()

	contents := map[stamped][]byte{}
	at := 0
	for _, cut := range log.Cuts(0, log.Len(), 80, 3) {
		for ; at < cut.Durable; at++ {
			write(t, log, durable, writelog.Piece{Entry: at, Count: log.Entry(at).Sectors})
		}
		if err := d.Advance(cut.Durable); err != nil {
			t.Fatal(err)
		}
		compare(t, d, durable, contents)
		after := bytes.Clone(durable)
		for _, piece := range cut.Pieces {
			write(t, log, after, piece)
		}
		if err := d.Cut(cut); err != nil {
			t.Fatal(err)
		}
		compare(t, d, after, contents)
		if err := d.Restore(); err != nil {
			t.Fatal(err)
		}
		compare(t, d, durable, contents)
		if t.Failed() {
			t.Fatalf("at %s", cut)
		}
	}
	exported := filepath.Join(dir, "exported")
	if err := d.Export(exported); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(exported); err != nil || !bytes.Equal(got, durable) {
		t.Errorf("the disk that was written differs, %v", err)
	}
}

// write is what playing a piece comes to.
func write(t *testing.T, log *writelog.Log, to []byte, piece writelog.Piece) {
	t.Helper()
	e := log.Entry(piece.Entry)
	data, err := log.Data(e)
	if err != nil {
		t.Fatal(err)
	}
	if data == nil {
		data = make([]byte, e.Bytes())
	}
	from, to2 := piece.First*writelog.SectorSize, (piece.First+piece.Count)*writelog.SectorSize
	copy(to[e.Sector*writelog.SectorSize+from:], data[from:to2])
}

func compare(t *testing.T, d *disk.Disk, want []byte, contents map[stamped][]byte) {
	t.Helper()
	inside := bytes.Clone(want) // what is in no partition
	for _, p := range d.Partitions {
		part := want[p.Start:][:p.Size]
		if p.Name == disk.Rest {
			part = inside
		}
		for block := int64(0); block < min(p.Size, 2<<20)/disk.BlockSize; block++ {
			got, want := make([]byte, disk.BlockSize), part[block*disk.BlockSize:][:disk.BlockSize]
			if _, err := p.ReadAt(got, block*disk.BlockSize); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("block %d of partition %q differs", block, p.Name)
				return
			}
			is := stamped{p.Name, block, p.Stamp(block)}
			if known, ok := contents[is]; ok && !bytes.Equal(known, got) {
				t.Errorf("two contents of block %d have the stamp %x", block, is.stamp)
			}
			contents[is] = got
		}
		if p.Name != disk.Rest {
			clear(inside[p.Start:][:p.Size])
		}
	}
}
