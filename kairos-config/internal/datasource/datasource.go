// Package datasource gets the machine's user data from its environment: attached media,
// the firmware, and metadata services of clouds. Every answer is untrusted: sizes,
// times and redirects are bounded, and data that is no text is refused.
package datasource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
)

// Options are the settings of Fetch.
type Options struct {
	Root *rootfs.Root // root directory of the machine: /dev, /proc, /run, /sys are read beneath it
	Path string       // of the provider "file": the file with the user data
	// AnyPlatform also asks metadata services of platforms that the firmware does not
	// name.
	AnyPlatform bool
	Log         *slog.Logger // nil: nothing is logged

	// Timeout is how long one provider may take, 30 s when 0.
	Timeout time.Duration
	// Base replaces the fixed addresses of metadata services, by provider; for
	// tests.
	Base map[string]string
	// Mount mounts the file system on a device, read-only; nil: the kernel's.
	Mount func(device string) (dir string, unmount func(), err error)
	// Backoff is the time before the first retry of a failed request; it doubles with
	// each. 500 ms when 0.
	Backoff time.Duration
}

// DefaultTimeout is how long one provider may take.
const DefaultTimeout = 30 * time.Second

// Result is the data of one provider.
type Result struct {
	Provider string
	UserData UserData
	Hostname string   // "" when not known
	SSHKeys  []string // lines of authorized_keys
}

// ErrNothing says that no provider has any data.
var ErrNothing = errors.New("no datasource has user data")

// provider gets the data of one source. It returns errAbsent where the machine doesn't
// have the source.
type provider func(ctx context.Context, s *session) (raw, error)

// raw is a provider's unparsed result.
type raw struct {
	userData []byte
	hostname string
	keys     []string
}

var errAbsent = errors.New("not here")

// session is a running provider.
type session struct {
	Options
	name   string
	client *client
}

// openError is the failure of a source that has user data for this machine, or should
// have: it may be asked again.
type openError struct{ error }

func (e openError) Unwrap() error { return e.error }

// Again reports whether Fetch may succeed later: existing user data can't be used, or a
// service of the machine's platform does not answer.
func Again(err error) bool {
	var open openError
	return errors.As(err, &open)
}

// providers are all providers, by Kairos' names and some of our own.
var providers = map[string]provider{
	"aws": aws, "azure": azure, "digitalocean": digitalOcean, "gcp": gcp, "hetzner": hetzner, "maas": maas,
	"metaldata": metaldata, "openstack": openstack, "packet": packet, "scaleway": scaleway, "vultr": vultr,
	"vmware": vmware,
	"cdrom":  cdrom, "config-drive": configDrive, "nocloud": noCloud,
	"file": fromFile, "cmdline": commandLine, "smbios": smbios, "credential": credential,
}

// media are the providers that need no network: they are asked first, one by one, as in
// Kairos.
var media = []string{"cdrom", "config-drive", "nocloud", "file", "credential", "smbios", "vmware"}

// Names returns the names of all providers, sorted.
func Names() []string {
	var names []string
	for name := range providers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Fetch asks providers for user data: media first, one by one, then all others in
// parallel, of which the first in the list with user data is used. Where none has user
// data, but one knows a host name or keys, that is the result. ErrNothing, with the
// error of each provider, says that none has any data.
func Fetch(ctx context.Context, names []string, opts Options) (Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var local, remote []string
	for _, name := range names {
		switch {
		case providers[name] == nil:
			return Result{}, fmt.Errorf("unknown datasource %q: the known ones are %s", name, strings.Join(Names(), ", "))
		case slices.Contains(media, name):
			local = append(local, name)
		default:
			remote = append(remote, name)
		}
	}
	var partial *Result
	var failed []error
	take := func(r Result, err error) bool {
		switch {
		case err != nil:
			failed = append(failed, err)
		case r.UserData.Kind != None:
			return true
		case partial == nil && (r.Hostname != "" || len(r.SSHKeys) > 0):
			partial = &r
		}
		return false
	}
	for _, name := range local {
		if r, err := ask(ctx, name, opts); take(r, err) {
			return r, nil
		}
	}
	type answer struct {
		Result
		error
	}
	answers := make([]chan answer, len(remote))
	for i, name := range remote {
		answers[i] = make(chan answer, 1)
		go func() {
			r, err := ask(ctx, name, opts)
			answers[i] <- answer{r, err}
		}()
	}
	var found *Result
	for _, a := range answers { // all are waited for: cancel ends them soon
		got := <-a
		if found == nil && take(got.Result, got.error) {
			found = &got.Result
			cancel()
		}
	}
	switch {
	case found != nil:
		return *found, nil
	case partial != nil:
		return *partial, nil
	case ctx.Err() != nil:
		return Result{}, ctx.Err()
	}
	return Result{}, errors.Join(append([]error{ErrNothing}, failed...)...)
}

func ask(ctx context.Context, name string, opts Options) (Result, error) {
	if opts.Timeout == 0 {
		opts.Timeout = DefaultTimeout
	}
	if opts.Backoff == 0 {
		opts.Backoff = 500 * time.Millisecond
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithTimeout(ctx, opts.Timeout)
	defer cancel()
	s := &session{Options: opts, name: name}
	s.client = newClient(s)
	defer s.client.http.CloseIdleConnections()
	vouched, err := s.vouched()
	if err != nil {
		return Result{}, fmt.Errorf("datasource %s: %w", name, err)
	}
	got, err := providers[name](ctx, s)
	if err != nil && vouched && !errors.Is(err, errAbsent) {
		err = openError{err}
	}
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %v: %w", opts.Timeout, err)
		}
		return Result{}, fmt.Errorf("datasource %s: %w", name, err)
	}
	data, err := ReadUserData(got.userData)
	if err != nil {
		return Result{}, fmt.Errorf("datasource %s: %w", name, openError{err})
	}
	r := Result{Provider: name, UserData: data, Hostname: cleanHostname(got.hostname), SSHKeys: cleanKeys(got.keys)}
	opts.Log.Debug(fmt.Sprintf("datasource %s: user data: %s", name, data.Kind))
	return r, nil
}

// cleanHostname returns the first word of what a service calls the host name.
func cleanHostname(name string) string {
	fields := strings.Fields(name)
	if len(fields) == 0 || len(fields[0]) > 64 {
		return ""
	}
	return fields[0]
}

// maxKeys is how many keys of a service are used.
const maxKeys = 100

func cleanKeys(keys []string) []string {
	var lines []string
	for _, text := range keys {
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if line != "" && line[0] != '#' && len(lines) < maxKeys && len(line) < 16384 && printable(line) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0xfffd || r == 0x7f })
}
