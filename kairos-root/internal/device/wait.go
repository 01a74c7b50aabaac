// Package device waits for partitions to appear. It waits for events of the kernel, and
// never polls.
package device

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"
)

// Finder finds partitions of a machine, first on the boot disk.
type Finder struct {
	System disk.System
	// Events is the subscription to device events. NewEvents creates it.
	Events func() (Events, error)
}

// Events is a subscription to changes of devices.
type Events interface {
	// Wait waits for an event. At the deadline it returns an error that is
	// os.ErrDeadlineExceeded.
	Wait(deadline time.Time) error
	Close() error
}

// Find returns the partition with a label: the one on the boot disk or, when the boot
// disk is unknown or has none, the only one on any disk. It waits for the partition
// until the context ends. Two candidates on other disks are an error at once, since
// waiting does not make the choice safe.
func (f Finder) Find(ctx context.Context, label string) (disk.Partition, error) {
	return f.wait(ctx, label, func() (disk.Partition, error) {
		if boot, err := f.System.BootPartition(); err == nil {
			f.Settle(boot.Disk)
		}
		return f.System.Find(label)
	})
}

// FindOn returns the partition with a label on one disk. It does not wait.
func (f Finder) FindOn(diskName, label string) (disk.Partition, error) {
	f.Settle(diskName)
	return f.System.FindOn(diskName, label)
}

// Settle returns once the kernel has read the whole partition table of a disk:
// opening the disk waits for that. Otherwise a partition of another disk could
// be taken while this disk's own is a moment from appearing.
func (f Finder) Settle(name string) {
	if d, err := os.Open(filepath.Join(f.System.Dev, name)); err == nil {
		d.Close()
	}
}

// FindSource returns the device for LABEL=, PARTLABEL=, UUID=, PARTUUID= or a path in
// /dev, and waits for it until the context ends. LABEL= is first the label of a
// partition, then that of a file system, as udev finds it.
func (f Finder) FindSource(ctx context.Context, source string) (string, error) {
	key, value, _ := strings.Cut(source, "=")
	var link string
	switch key {
	case "LABEL", "PARTLABEL":
		link = filepath.Join("disk/by-"+strings.ToLower(key), value)
	case "UUID", "PARTUUID":
		link = filepath.Join("disk/by-"+strings.ToLower(key), strings.ToLower(value))
	default:
		link = strings.TrimPrefix(source, "/dev/")
	}
	p, err := f.wait(ctx, source, func() (disk.Partition, error) {
		if key == "LABEL" || key == "PARTLABEL" {
			if p, err := f.System.Find(value); err == nil {
				return p, nil
			}
		}
		file := filepath.Join(f.System.Dev, link)
		if _, err := os.Stat(file); err != nil {
			return disk.Partition{}, disk.ErrNotFound
		}
		return disk.Partition{Path: file}, nil
	})
	return p.Path, err
}

func (f Finder) wait(ctx context.Context, what string, find func() (disk.Partition, error)) (p disk.Partition, err error) {
	waited, err := Await(ctx, f.Events, func() error {
		p, err = find()
		return err
	})
	switch {
	case errors.Is(err, disk.ErrNotFound):
		return p, exit.Hint(fmt.Errorf("waited %v: %w", waited.Round(time.Second), err),
			"%s; is the disk attached, and is its driver in the initrd? kairos.timeout=SECONDS waits longer", f.Seen())
	case errors.Is(err, errEvents):
		return p, fmt.Errorf("wait for %s: %w", what, err)
	}
	return p, err
}

// errEvents says that nothing is heard of devices.
var errEvents = errors.New("no events of devices")

// Await looks again with each event of a device, until what is looked for is
// there or the context ends: for as long as look returns disk.ErrNotFound, which
// Await then returns as well, with how long it waited.
func Await(ctx context.Context, subscribe func() (Events, error), look func() error) (waited time.Duration, err error) {
	// Subscribed first, so that nothing that comes after the first look is missed.
	events, err := subscribe()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errEvents, err)
	}
	defer events.Close()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Hour)
	}
	start := time.Now()
	for {
		if err := look(); !errors.Is(err, disk.ErrNotFound) {
			return time.Since(start), err
		} else if werr := events.Wait(deadline); errors.Is(werr, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			return time.Since(start), err
		} else if werr != nil {
			return time.Since(start), fmt.Errorf("%w: %w", errEvents, werr)
		}
	}
}

// Seen says which partitions there are, for a person who looks for one.
func (f Finder) Seen() string {
	all, err := f.System.Partitions()
	if err != nil || len(all) == 0 {
		return "there are no partitions"
	}
	var names []string
	for _, p := range all {
		names = append(names, strings.TrimSpace(p.Path+" "+p.Label))
	}
	return "there are " + strings.Join(names, ", ")
}

// netlink receives uevents: from the kernel when a device appears, and from udev once
// its links exist.
type netlink struct{ fd int }

// Multicast groups of NETLINK_KOBJECT_UEVENT.
const (
	groupKernel = 1
	groupUdev   = 2
)

// NewEvents subscribes to the uevents of the kernel and of udev.
func NewEvents() (Events, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("listen for devices: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groupKernel | groupUdev}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen for devices: %w", err)
	}
	return &netlink{fd}, nil
}

func (n *netlink) Close() error { return unix.Close(n.fd) }

// Wait returns after any event. As callers look at all devices again, neither the
// content of an event nor a lost event (ENOBUFS) matters.
func (n *netlink) Wait(deadline time.Time) error {
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		polled := []unix.PollFd{{Fd: int32(n.fd), Events: unix.POLLIN}}
		got, err := unix.Poll(polled, int(min(left/time.Millisecond+1, 1<<30)))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if got > 0 {
			return n.drain()
		}
	}
}

func (n *netlink) drain() error {
	buffer := make([]byte, 8192)
	for {
		_, _, err := unix.Recvfrom(n.fd, buffer, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS):
			return err
		}
	}
}
