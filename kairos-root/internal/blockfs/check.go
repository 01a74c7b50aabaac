package blockfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/ext4"

	"github.com/kairos-io/toolkit/kairos-root/internal/bootargs"
)

// Checker runs e2fsck(8).
type Checker struct {
	Mode   bootargs.FsckMode
	Repair bootargs.FsckRepair
	// Run runs a program and returns its output and exit status.
	Run func(ctx context.Context, argv ...string) (output string, status int, err error)
}

// ErrDamaged says that a file system has errors that were not repaired.
var ErrDamaged = errors.New("the file system is damaged")

// Bits of e2fsck's exit status.
const (
	corrected   = 1 << 0
	reboot      = 1 << 1
	uncorrected = 1 << 2
)

// Needed reports whether a device is checked before it is mounted: when its superblock
// records errors or is torn, or when fsck.mode=force is given. An unclean journal is no
// reason; the kernel replays it.
func (c Checker) Needed(content Content) bool {
	if content.Type != "ext4" || c.Mode == bootargs.FsckSkip {
		return false
	}
	return content.Dirty || content.Torn != nil || c.Mode == bootargs.FsckForce
}

// Check checks an ext4 file system and repairs what fsck.repair allows. It returns what
// it did, for the log. A torn superblock is restored from its backup copy, which e2fsck
// -p does not do by itself; without a copy its halves are joined. ErrDamaged means that
// errors remain; without e2fsck in the initrd Check does nothing.
func (c Checker) Check(ctx context.Context, device string, content Content) (string, error) {
	argv := []string{"e2fsck", "-p"}
	switch c.Repair {
	case bootargs.RepairYes:
		argv[1] = "-y"
	case bootargs.RepairNo:
		argv[1] = "-n"
	}
	if c.Mode == bootargs.FsckForce {
		argv = append(argv, "-f")
	}
	switch t := content.Torn; {
	case t == nil || c.Repair == bootargs.RepairNo:
	case t.Backup != 0:
		argv = append(argv, "-b", fmt.Sprint(t.Backup), "-B", fmt.Sprint(t.BlockSize))
	default:
		if err := join(device); err != nil {
			return "", fmt.Errorf("check %s: %w", device, err)
		}
		if c.Mode != bootargs.FsckForce {
			argv = append(argv, "-f")
		}
	}
	output, status, err := c.Run(ctx, append(argv, device)...)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "e2fsck is not in the initrd", nil
	case err != nil:
		return "", fmt.Errorf("check %s: %w", device, err)
	case status == 0:
		return "clean", nil
	case status&^(corrected|reboot) == 0:
		return "repaired: " + lastLine(output), nil
	}
	err = fmt.Errorf("check %s: %w: e2fsck ended with %d", device, ErrDamaged, status)
	if status&uncorrected == 0 {
		err = fmt.Errorf("check %s: e2fsck ended with %d: %s", device, status, lastLine(output))
	}
	return "", exit.Hint(err, "run e2fsck -y %s, or boot once with fsck.repair=yes", device)
}

// join gives a torn superblock a valid checksum: see ext4.Join.
func join(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(ext4.Join(f), f.Sync(), f.Close())
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// Run runs a program of the initrd; the default for Checker.Run.
func Run(ctx context.Context, argv ...string) (string, int, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	output, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.Exited() {
		err = nil
	}
	return string(output), cmd.ProcessState.ExitCode(), err
}
