package stage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"golang.org/x/sys/unix"
)

const (
	maxDownload = 16 << 30 // bytes
	maxKeys     = 1 << 20  // bytes of keys from one address

	// keyCache keeps the keys that were fetched last, for boots without a
	// network. It is persistent, as Kairos' list has /var/lib/kairos.
	keyCache = "/var/lib/kairos/config/keys"

	// downloadTime is how long a download without a timeout of its own may take.
	downloadTime = 10 * time.Minute
)

// Getter gets the content of a URL.
type Getter interface {
	Get(ctx context.Context, address string, w io.Writer, limit int64) error
}

// KeyServers are the servers for keys github:NAME and gitlab:NAME.
var KeyServers = map[string]string{"github": "https://github.com", "gitlab": "https://gitlab.com"}

// downloads fetches files. One that has the same content already stays.
func (r *run) downloads(ctx context.Context) {
	for _, d := range r.step.Spec.Downloads {
		changed, err := r.download(ctx, d)
		if err != nil {
			r.fail(fmt.Errorf("download %s: %w", d.Path, err))
		}
		if changed {
			r.changed(d.Path)
		}
	}
}

func (r *run) download(ctx context.Context, d schema.Download) (changed bool, err error) {
	attr, err := r.attr(d.Permissions, d.Owner, d.Group, d.OwnerString)
	if err != nil {
		return false, err
	}
	target := d.Path
	if st, err := r.Root.Stat(target); strings.HasSuffix(target, "/") || err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		u, err := url.Parse(d.URL)
		if err != nil || path.Base(u.Path) == "/" || path.Base(u.Path) == "." {
			return false, errors.New("the path is a directory, and the URL has no file name")
		}
		target = path.Join(target, path.Base(u.Path))
	}
	if d.SHA256 != "" {
		if has, changed, err := r.Root.HasDigest(target, d.SHA256, attr); has {
			return changed, err
		}
	}
	limit := downloadTime
	if d.Timeout > 0 {
		limit = time.Duration(d.Timeout) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := r.Root.MakeParents(target); err != nil {
		return false, err
	}
	return r.Root.WriteFrom(target, attr, func(w io.Writer) error {
		sum := sha256.New()
		if err := r.Get.Get(ctx, d.URL, io.MultiWriter(w, sum), maxDownload); err != nil {
			return err
		}
		if got := hex.EncodeToString(sum.Sum(nil)); d.SHA256 != "" && !strings.EqualFold(got, d.SHA256) {
			return fmt.Errorf("the digest of the file is %s, not %s", got, strings.ToLower(d.SHA256))
		}
		return nil
	})
}

// reference reports whether a key has to be fetched.
func reference(key string) bool {
	for _, scheme := range []string{"github:", "gitlab:", "http://", "https://"} {
		if strings.HasPrefix(key, scheme) {
			return true
		}
	}
	return false
}

// keyAddress returns where the keys of a reference are.
func (r *run) keyAddress(key string) (string, error) {
	host, name, _ := strings.Cut(key, ":")
	if host == "http" || host == "https" {
		return key, nil
	}
	name = strings.TrimPrefix(name, "//")
	if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
		return "", fmt.Errorf("%q is not a name at %s", name, host)
	}
	server := KeyServers[host]
	if other := r.KeyServers[host]; other != "" {
		server = other
	}
	return server + "/" + name + ".keys", nil
}

// localKeys returns the keys of an account, those of references from where
// they are: from the network in its stage, with the last good copy where that
// fails; before, only from the copy, so that who could log in at the last boot
// can before the network is up.
func (r *run) localKeys(ctx context.Context, e schema.Entry[[]string]) []string {
	var keys []string
	for _, key := range e.Value {
		if !reference(key) {
			keys = append(keys, key)
			continue
		}
		fetched, err := r.fetchKeys(ctx, key)
		if err != nil {
			r.fail(fmt.Errorf("keys of %s: %s: %w", e.Key, key, err))
			continue
		}
		keys = append(keys, fetched...)
	}
	return keys
}

func (r *run) fetchKeys(ctx context.Context, key string) ([]string, error) {
	address, err := r.keyAddress(key)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(address))
	cache := keyCache + "/" + hex.EncodeToString(sum[:16])
	kept, errKept := r.Root.ReadFile(cache, maxKeys)
	if strings.HasPrefix(address, "http://") {
		r.Log.Warn(fmt.Sprintf("%s: %s: keys fetched without encryption, an attacker on the network can add theirs: use https", r.step.Name, key))
	}
	if !r.networked() {
		if errKept != nil {
			r.Log.Info(fmt.Sprintf("%s: %s: fetched in the stage network", r.step.Name, key))
		}
		return publicKeys(kept), nil
	}
	var b bytes.Buffer
	if err = r.Get.Get(ctx, address, &b, maxKeys); err == nil && len(publicKeys(b.Bytes())) == 0 {
		err = errors.New("there is no ssh key")
	}
	if err != nil {
		if errKept != nil {
			return nil, err
		}
		r.Log.Warn(fmt.Sprintf("%s: %s: %v; the last good copy is used", r.step.Name, key, err))
		return publicKeys(kept), nil
	}
	if _, err := r.Root.Mkdir(keyCache, rootfs.KeepAll); err == nil {
		_, err = r.Root.WriteFile(cache, b.Bytes(), rootfs.KeepAll)
		if err != nil {
			r.Log.Warn(fmt.Sprintf("%s: %s: no copy could be saved: %v", r.step.Name, key, err))
		}
	}
	return publicKeys(b.Bytes()), nil
}

// networked reports whether the step runs when the network is up.
func (r *run) networked() bool {
	stage, _, _ := strings.Cut(r.step.Part, ".")
	return stage == "network" || stage == "reconcile"
}

// publicKeys returns the lines that are ssh keys: an error page of a server
// must not become a line of authorized_keys, and options before a key (a
// command to run, say) are not for a server to give.
func publicKeys(data []byte) []string {
	var keys []string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		kind, _, ok := strings.Cut(line, " ")
		if ok && (strings.HasPrefix(kind, "ssh-") || strings.HasPrefix(kind, "ecdsa-sha2-") || strings.HasPrefix(kind, "sk-")) {
			keys = append(keys, line)
		}
	}
	return keys
}

// keySteps returns what the stage network has to do for keys in the steps of
// the stages before it: it fetches those that were not there yet.
func keySteps(steps []Step) []Step {
	var list []Step
	for _, s := range steps {
		entries := s.Spec.AuthorizedKeys
		for _, u := range s.Spec.Users {
			if len(u.SSHAuthorizedKeys) > 0 {
				entries = append(entries, schema.Entry[[]string]{Key: u.Name, Pos: u.Pos, Value: u.SSHAuthorizedKeys})
			}
		}
		var wanted schema.Entries[[]string]
		for _, e := range entries {
			var keys []string
			for _, key := range e.Value {
				if reference(key) {
					keys = append(keys, key)
				}
			}
			if len(keys) > 0 {
				wanted = append(wanted, schema.Entry[[]string]{Key: e.Key, Pos: e.Pos, Value: keys})
			}
		}
		if len(wanted) == 0 || s.Spec.Unclear {
			continue
		}
		s.Name, s.Part, s.Problems = "ssh keys of "+s.Name, "network", nil
		s.Spec = schema.Step{Pos: s.Spec.Pos, AuthorizedKeys: wanted, If: s.Spec.If, IfFiles: s.Spec.IfFiles, OnlyOS: s.Spec.OnlyOS, OnlyOSVersion: s.Spec.OnlyOSVersion, OnlyArch: s.Spec.OnlyArch, OnlyServiceManager: s.Spec.OnlyServiceManager, Node: s.Spec.Node}
		s.KeysOnly = true
		list = append(list, s)
	}
	return list
}
