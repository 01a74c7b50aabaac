package medium

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"

	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// CD copies a live medium to a file that UEFI firmware boots as a CD as well, with files on its
// COS_SEED: an El Torito catalog in the gap between partition table and first partition names the ESP.
func CD(ctx context.Context, live, path string, seed ...string) error {
	if _, err := workspace.Run(exec.CommandContext(ctx, "cp", "--sparse=always", live, path)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	parts, err := disk.ReadGPT(f, 512)
	if err != nil {
		return fmt.Errorf("read the partition table of %s: %w", path, err)
	}
	for _, p := range parts {
		switch p.Label {
		case "LIVE_ESP":
			if _, err := f.WriteAt(elTorito(p.Start, info.Size()), 16*cdBlock); err != nil {
				return err
			}
		case disk.LabelSeed:
			for _, file := range seed {
				if _, err := workspace.RunTool(ctx, "mcopy", "-i", fmt.Sprintf("%s@@%d", path, p.Start), file, "::"); err != nil {
					return fmt.Errorf("put %s on the medium: %w", file, err)
				}
			}
		}
	}
	return f.Close()
}

const cdBlock = 2048

// elTorito returns the blocks from 16 on: a volume descriptor, the boot record that names the catalog,
// the end of the descriptors, and the catalog, which has one entry for EFI ("El Torito" Bootable CD-ROM
// Format Specification 1.0; UEFI specification, 13.3.2.1).
func elTorito(esp, size int64) []byte {
	le := binary.LittleEndian
	blocks := make([]byte, 4*cdBlock)
	volume, record, end, catalog := blocks, blocks[cdBlock:], blocks[2*cdBlock:], blocks[3*cdBlock:]
	copy(volume, "\x01CD001\x01")
	le.PutUint32(volume[80:], uint32(size/cdBlock))
	copy(record, "\x00CD001\x01EL TORITO SPECIFICATION")
	le.PutUint32(record[71:], 16+3)
	copy(end, "\xffCD001\x01")
	const efi = 0xef
	catalog[0], catalog[1], catalog[30], catalog[31] = 1, efi, 0x55, 0xaa
	var sum uint16
	for i := 0; i < 32; i += 2 {
		sum += le.Uint16(catalog[i:])
	}
	le.PutUint16(catalog[28:], -sum)
	entry := catalog[32:]
	entry[0] = 0x88 // bootable; no emulation, and as long as the medium
	le.PutUint32(entry[8:], uint32(esp/cdBlock))
	return blocks
}
