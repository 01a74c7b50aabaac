package datasource

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/lib/kernelargs"
	"github.com/kairos-io/toolkit/lib/run"
)

// CredentialName is the name of the systemd credential with user data:
// systemd.system-credentials(7).
const CredentialName = "kairos.userdata"

// fromFile reads user data from a file of this machine.
func fromFile(_ context.Context, s *session) (raw, error) {
	if s.Path == "" {
		return raw{}, errors.New("it needs path, the file with the user data")
	}
	data, err := s.Root.ReadFile(s.Path, source.MaxSize)
	return raw{userData: data}, err
}

// credential reads user data from a credential that the service manager got from the
// firmware, the hypervisor or the boot loader. systemd-creds(1) decrypts an encrypted
// one.
func credential(ctx context.Context, s *session) (raw, error) {
	dirs := []string{"/run/credentials/@system"}
	if own := os.Getenv("CREDENTIALS_DIRECTORY"); own != "" && s.Root.Path() == "/" {
		dirs = append([]string{own}, dirs...)
	}
	for _, dir := range dirs {
		data, err := s.Root.ReadFile(path.Join(dir, CredentialName), source.MaxSize)
		if !errors.Is(err, fs.ErrNotExist) {
			return raw{userData: data}, err
		}
	}
	const encrypted = "/run/credentials/@encrypted/" + CredentialName
	if !s.Root.Exists(encrypted) {
		return raw{}, errAbsent
	}
	data, err := output(ctx, "systemd-creds", "decrypt", "--name="+CredentialName, path.Join(s.Root.Path(), encrypted), "-")
	return raw{userData: data}, err
}

// output runs a program and returns its stdout, at most maxBody bytes.
func output(ctx context.Context, argv ...string) ([]byte, error) {
	return run.Runner{Most: maxBody}.Output(ctx, argv...)
}

// words of an OEM string, as systemd has them for credentials.
const (
	oemText   = "io.systemd.credential:" + CredentialName + "="
	oemBinary = "io.systemd.credential.binary:" + CredentialName + "="
)

// smbios reads user data from an OEM string of the firmware (type 11), which
// hypervisors pass: systemd-stub(7). noCloud handles the serial number.
func smbios(_ context.Context, s *session) (raw, error) {
	const dir = "/sys/firmware/dmi/entries"
	entries, err := s.Root.ReadDir(dir)
	if err != nil {
		return raw{}, errAbsent
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "11-") {
			continue
		}
		table, err := s.Root.ReadFile(path.Join(dir, e.Name(), "raw"), 2*source.MaxSize)
		if err != nil {
			return raw{}, err
		}
		for _, text := range oemStrings(table) {
			if value, ok := strings.CutPrefix(text, oemText); ok {
				return raw{userData: []byte(value)}, nil
			}
			if value, ok := strings.CutPrefix(text, oemBinary); ok {
				data, err := base64.StdEncoding.DecodeString(value)
				return raw{userData: data}, err
			}
		}
	}
	return raw{}, errAbsent
}

// oemStrings returns the strings after the formatted part of an SMBIOS structure, whose
// length is its second byte: DMTF DSP0134, 6.1.3.
func oemStrings(table []byte) []string {
	if len(table) < 5 || table[0] != 11 || int(table[1]) > len(table) {
		return nil
	}
	var list []string
	for text := range bytes.SplitSeq(table[table[1]:], []byte{0}) {
		if len(text) == 0 {
			break
		}
		list = append(list, string(text))
	}
	return list
}

// commandLine uses the address on the kernel command line for NoCloud or for MAAS'
// ephemeral systems.
func commandLine(ctx context.Context, s *session) (raw, error) {
	line, err := s.Root.ReadFile("/proc/cmdline", source.MaxSize)
	if err != nil {
		return raw{}, err
	}
	for word := range kernelargs.Words(string(line)) {
		if address, ok := strings.CutPrefix(word, "cloud-config-url="); ok {
			data, err := s.client.get(ctx, address)
			return raw{userData: data}, err
		}
		if address, name := noCloudAddress(word); address != "" {
			got, err := s.client.seed(ctx, address)
			if name != "" {
				got.hostname = name
			}
			return got, err
		}
	}
	return raw{}, errAbsent
}

// seedAddress returns the address of a seed, and a host name, from the kernel command
// line or the serial number.
func (s *session) seedAddress() (address, hostname string) {
	line, _ := s.Root.ReadFile("/proc/cmdline", source.MaxSize)
	for word := range kernelargs.Words(string(line)) {
		if address, hostname = noCloudAddress(word); address != "" {
			return address, hostname
		}
	}
	serial, _ := s.Root.ReadFile("/sys/class/dmi/id/product_serial", 4096)
	return noCloudAddress(strings.TrimSpace(string(serial)))
}

// noCloudAddress reads ds=nocloud;s=URL;h=NAME.
func noCloudAddress(word string) (address, hostname string) {
	rest, ok := strings.CutPrefix(word, "ds=nocloud")
	if !ok {
		return "", ""
	}
	rest = strings.TrimPrefix(rest, "-net")
	if !strings.HasPrefix(rest, ";") {
		return "", ""
	}
	for part := range strings.SplitSeq(rest[1:], ";") {
		switch key, value, _ := strings.Cut(part, "="); key {
		case "s", "seedfrom":
			address = value
		case "h", "local-hostname":
			hostname = value
		}
	}
	return address, hostname
}

// vmware gets user data from the hypervisor by the guest's tools.
// https://cloudinit.readthedocs.io/en/latest/reference/datasources/vmware.html
func vmware(ctx context.Context, _ *session) (raw, error) {
	const tool = "vmware-rpctool"
	if _, err := exec.LookPath(tool); err != nil {
		return raw{}, errAbsent
	}
	data, err := guestInfo(ctx, tool, "userdata")
	if err != nil {
		return raw{}, err
	}
	got := raw{userData: data}
	if meta, err := guestInfo(ctx, tool, "metadata"); err == nil {
		got.hostname, got.keys = metaData(meta)
	}
	return got, nil
}

// guestInfo returns the value of a variable, decoded.
func guestInfo(ctx context.Context, tool, name string) ([]byte, error) {
	value, err := output(ctx, tool, "info-get guestinfo."+name)
	if err != nil {
		if strings.Contains(err.Error(), "No value found") {
			return nil, nil
		}
		return nil, err
	}
	encoding, err := output(ctx, tool, "info-get guestinfo."+name+".encoding")
	if err != nil && !strings.Contains(err.Error(), "No value found") {
		return nil, err
	}
	switch word := strings.TrimSpace(string(encoding)); word {
	case "":
		return value, nil
	case "base64", "b64", "gzip+base64", "gz+b64": // gzip is undone by ReadUserData
		data, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(value)))
		if err != nil {
			return nil, fmt.Errorf("guestinfo.%s: %w", name, err)
		}
		return data, nil
	default:
		return nil, fmt.Errorf("guestinfo.%s: unknown encoding %q", name, word)
	}
}
