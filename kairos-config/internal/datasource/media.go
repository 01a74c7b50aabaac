package datasource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/mount"
	"golang.org/x/sys/unix"
)

// noCloud searches for cloud-init's NoCloud: a file system with the label cidata, files
// in the image, or an address in the kernel command line or the serial number of the
// machine.
// https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html
func noCloud(ctx context.Context, s *session) (raw, error) {
	for _, device := range s.labelled("cidata", "CIDATA") {
		got, err := s.onDevice(device, readSeed)
		if !errors.Is(err, errAbsent) {
			return got, err
		}
	}
	for _, dir := range []string{"/var/lib/cloud/seed/nocloud", "/var/lib/cloud/seed/nocloud-net"} {
		if got, err := readSeed(s.Root, dir); !errors.Is(err, errAbsent) {
			return got, err
		}
	}
	if address, name := s.seedAddress(); address != "" {
		got, err := s.client.seed(ctx, address)
		if name != "" {
			got.hostname = name
		}
		return got, err
	}
	return raw{}, errAbsent
}

// cdrom searches media with the label cidata and all CD-ROMs, as Kairos does.
func cdrom(_ context.Context, s *session) (raw, error) {
	devices := s.labelled("cidata", "CIDATA")
	entries, err := s.Root.ReadDir("/dev")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return raw{}, err
	}
	for _, e := range entries {
		if number, ok := strings.CutPrefix(e.Name(), "sr"); ok && number != "" && strings.Trim(number, "0123456789") == "" {
			devices = append(devices, "/dev/"+e.Name())
		}
	}
	failed := errAbsent
	for _, device := range devices {
		got, err := s.onDevice(device, readSeed)
		if err == nil {
			return got, nil
		}
		if !errors.Is(err, errAbsent) {
			failed = err
		}
	}
	return raw{}, failed
}

// configDrive searches for OpenStack's config drive.
// https://docs.openstack.org/nova/latest/admin/config-drive.html
func configDrive(_ context.Context, s *session) (raw, error) {
	for _, device := range s.labelled("config-2", "CONFIG-2") {
		got, err := s.onDevice(device, readConfigDrive)
		if !errors.Is(err, errAbsent) {
			return got, err
		}
	}
	return raw{}, errAbsent
}

// labelled returns the devices whose file system has one of the labels, by the
// links of udev.
func (s *session) labelled(labels ...string) []string {
	var devices []string
	for _, label := range labels {
		if device := "/dev/disk/by-label/" + label; s.Root.Exists(device) {
			devices = append(devices, device)
		}
	}
	return devices
}

// onDevice reads user data from a device.
func (s *session) onDevice(device string, read func(root *rootfs.Root, dir string) (raw, error)) (raw, error) {
	mount := s.Mount
	if mount == nil {
		mount = mountDevice
	}
	dir, unmount, err := mount(path.Join(s.Root.Path(), device))
	if err != nil {
		return raw{}, fmt.Errorf("mount %s: %w", device, err)
	}
	defer unmount()
	medium, err := rootfs.Open(dir) // links on a medium lead nowhere else
	if err != nil {
		return raw{}, err
	}
	defer medium.Close()
	return read(medium, "/")
}

// fileSystems are the types of file systems on media.
var fileSystems = []string{"iso9660", "vfat", "ext4"}

// mountDevice mounts a medium for this process alone.
func mountDevice(device string) (dir string, unmount func(), err error) {
	for _, kind := range fileSystems {
		var tree *mount.Tree
		tree, err = mount.FileSystem{
			Type: kind, Options: []mount.Option{{Key: "source", Value: device}, {Key: "ro"}},
			Attr: mount.ReadOnly | mount.NoSuid | mount.NoDev | mount.NoExec,
		}.Create()
		if err == nil {
			return tree.Path(), func() { tree.Close() }, nil
		}
		if errors.Is(err, unix.ENOMEDIUM) {
			return "", nil, errAbsent
		}
	}
	return "", nil, err
}

// readSeed reads NoCloud's files in a directory. Kairos knows the name config
// as well.
func readSeed(root *rootfs.Root, dir string) (raw, error) {
	var got raw
	found := false
	for _, name := range []string{"user-data", "config"} {
		data, err := root.ReadFile(path.Join(dir, name), source.MaxSize)
		if err == nil {
			got.userData, found = data, true
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return raw{}, err
		}
	}
	if meta, err := root.ReadFile(path.Join(dir, "meta-data"), source.MaxSize); err == nil {
		got.hostname, got.keys = metaData(meta)
		found = true
	}
	if !found {
		return raw{}, errAbsent
	}
	return got, nil
}

// metaData reads NoCloud's meta-data, a YAML map.
func metaData(data []byte) (hostname string, keys []string) {
	root, problems := tree.Parse("meta-data", data)
	if root == nil || problems.Failed() {
		return "", nil
	}
	for _, key := range []string{"local-hostname", "hostname"} {
		if n := root.Field(key); n != nil && n.Scalar() {
			hostname = n.Text
			break
		}
	}
	if list := root.Field("public-keys"); list != nil {
		for _, item := range list.Items {
			if item.Scalar() {
				keys = append(keys, item.Text)
			}
		}
	}
	return hostname, keys
}

func readConfigDrive(root *rootfs.Root, _ string) (raw, error) {
	const dir = "/openstack/latest"
	data, err := root.ReadFile(path.Join(dir, "user_data"), source.MaxSize)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return raw{}, err
	}
	var meta openstackMeta
	text, metaErr := root.ReadFile(path.Join(dir, "meta_data.json"), source.MaxSize)
	if metaErr == nil {
		metaErr = json.Unmarshal(text, &meta)
	}
	if err != nil && metaErr != nil {
		return raw{}, errAbsent
	}
	return meta.raw(data), nil
}
