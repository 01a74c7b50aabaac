package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/kairos-io/toolkit/tests/workspace"
)

// startTPM starts the TPM, which ends with the machine.
func (m *Machine) startTPM(ctx context.Context) error {
	dir, err := filepath.Abs(filepath.Join(m.Config.Dir, "tpm"))
	if err != nil {
		return err
	}
	if err := CreateTPM(dir); err != nil {
		return err
	}
	_, err = workspace.RunTool(ctx, "swtpm", "socket", "--tpm2", "--daemon", "--terminate",
		"--pid", "file="+filepath.Join(m.sockets.dir, "tpm.pid"),
		"--tpmstate", "dir="+dir, "--ctrl", "type=unixio,path="+filepath.Join(m.sockets.dir, "tpm"))
	return err
}

// stopTPM ends the TPM where the end of QEMU has not.
func (m *Machine) stopTPM() {
	text, err := os.ReadFile(filepath.Join(m.sockets.dir, "tpm.pid"))
	if err != nil {
		return // ended, and removed the file
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		syscall.Kill(pid, syscall.SIGTERM)
	}
}

// Commands of a TPM (TCG TPM 2.0 Library, part 3), as they are sent.
var (
	// TPM2_PCR_Allocate, by the platform, whose password is empty: SHA-256, and neither SHA-1, SHA-384 nor
	// SHA-512.
	allocateSHA256 = []byte{
		0x80, 0x02, 0, 0, 0, 55, 0, 0, 0x01, 0x2b, 0x40, 0, 0, 0x0c, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 4,
		0, 0x04, 3, 0, 0, 0, 0, 0x0b, 3, 0xff, 0xff, 0xff, 0, 0x0c, 3, 0, 0, 0, 0, 0x0d, 3, 0, 0, 0,
	}
	shutdown = []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, 0}
)

// CreateTPM makes the state of a TPM in a folder, unless there is one. It has PCRs of SHA-256 alone: the
// firmware hashes kernel and initrd once for each kind of PCR, and when it is emulated that takes seconds.
func CreateTPM(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "tpm2-00.permall")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return withTPM(dir, func(tpm io.ReadWriter) error {
		for _, command := range [][]byte{allocateSHA256, shutdown} {
			if _, err := ask(tpm, command); err != nil {
				return fmt.Errorf("make a TPM: %w", err)
			}
		}
		return nil
	})
}

// withTPM runs the TPM whose state is in a folder, for as long as use does.
func withTPM(dir string, use func(io.ReadWriter) error) error {
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "tpm"), os.NewFile(uintptr(ends[1]), "swtpm")
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return err
	}
	defer conn.Close()
	var said bytes.Buffer
	tpm := workspace.Tool(context.Background(), "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--fd", "3", "--flags", "not-need-init,startup-clear")
	tpm.ExtraFiles = []*os.File{theirs}
	tpm.Stdout, tpm.Stderr = &said, &said
	ended, err := workspace.Start(tpm)
	if err != nil {
		return err
	}
	theirs.Close()
	err = use(conn)
	conn.Close() // and so it ends
	if end := <-ended; err != nil {
		return fmt.Errorf("%w (%v): %s", err, end, strings.TrimSpace(said.String()))
	}
	return nil
}

// ask sends a command to a TPM, which must succeed, and returns the rest of the answer.
func ask(tpm io.ReadWriter, command []byte) ([]byte, error) {
	if _, err := tpm.Write(command); err != nil {
		return nil, err
	}
	header := make([]byte, 10) // tag, length, response code
	if _, err := io.ReadFull(tpm, header); err != nil {
		return nil, err
	}
	length, code := binary.BigEndian.Uint32(header[2:]), binary.BigEndian.Uint32(header[6:])
	if code != 0 || length < uint32(len(header)) || length > 4096 {
		return nil, fmt.Errorf("response code %#x, %d bytes", code, length)
	}
	rest := make([]byte, length-uint32(len(header)))
	_, err := io.ReadFull(tpm, rest)
	return rest, err
}
