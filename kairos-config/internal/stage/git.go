package stage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/lib/mask"
	programs "github.com/kairos-io/toolkit/lib/run"
)

// git clones a repository with the git of the root, or brings a clone up to
// date: what was changed there is undone.
func (r *run) git(ctx context.Context) {
	g := r.step.Spec.Git
	if g.URL == "" {
		return
	}
	changed, err := r.clone(ctx, g)
	if err != nil {
		r.fail(fmt.Errorf("git %s: %w", g.Path, err))
	}
	if changed {
		r.changed(g.Path)
	}
}

func (r *run) clone(ctx context.Context, g schema.Git) (changed bool, err error) {
	if g.Path == "" || g.Path[0] != '/' || path.Clean(g.Path) == "/" {
		return false, fmt.Errorf("%q is not a directory for a clone", g.Path)
	}
	if strings.HasPrefix(g.URL, "-") || strings.HasPrefix(g.Branch, "-") {
		return false, fmt.Errorf("%q, %q: not a URL and a branch", g.URL, g.Branch)
	}
	g, err = discreetGit(g)
	if err != nil {
		return false, err
	}
	env, done, err := r.gitAccess(g.Auth)
	if err != nil {
		return false, err
	}
	defer done()
	git := func(args ...string) (string, error) { return r.runGit(ctx, "/", env, args...) }
	if err := r.Root.MakeParents(g.Path); err != nil {
		return false, err
	}
	if owned, err := r.owned(g.Path); err != nil || owned {
		if err == nil {
			changed, err = r.cloneForUser(ctx, g, env)
		}
		return changed, err
	}
	if !r.Root.Exists(path.Join(g.Path, ".git")) {
		_, err = git(cloneArgs(g, g.Path)...)
		return err == nil, err
	}
	before, err := git("-C", g.Path, "rev-parse", "HEAD")
	if err != nil {
		return false, err
	}
	branch := g.Branch
	if branch == "" {
		branch = "HEAD"
	}
	if _, err := git("-C", g.Path, "fetch", "--quiet", "--", g.URL, branch); err != nil {
		return false, err
	}
	dirty, err := git("-C", g.Path, "status", "--porcelain", "--untracked-files=no")
	if err != nil {
		return false, err
	}
	if _, err := git("-C", g.Path, "reset", "--quiet", "--hard", "FETCH_HEAD"); err != nil {
		return false, err
	}
	after, err := git("-C", g.Path, "rev-parse", "HEAD")
	return before != after || dirty != "", err
}

func cloneArgs(g schema.Git, target string) []string {
	args := []string{"clone", "--quiet"}
	if g.Branch != "" {
		args = append(args, "--branch", g.Branch)
	}
	if g.BranchOnly {
		args = append(args, "--single-branch")
	}
	return append(args, "--", g.URL, target)
}

// owned reports whether somebody else than root may change a clone, or the way
// to it.
func (r *run) owned(name string) (bool, error) {
	owned, err := r.Root.Owned(name)
	if errors.Is(err, fs.ErrNotExist) {
		owned, err = r.Root.Owned(path.Dir(name))
	}
	return owned, err
}

// gitRecords keeps of clones in users' directories what they were made of.
const gitRecords = "/var/lib/kairos/config/git"

// cloneForUser makes a clone in a user's directory: root's git can't work there,
// since the settings, hooks and links in it are the user's to make. A new clone
// takes the place of the old one when the repository has changed, and is the
// user's. What the user changed meanwhile is gone then.
func (r *run) cloneForUser(ctx context.Context, g schema.Git, env []string) (changed bool, err error) {
	branch := g.Branch
	if branch == "" {
		branch = "HEAD"
	}
	out, err := r.runGit(ctx, "/", env, "ls-remote", "--quiet", "--", g.URL, branch)
	if err != nil {
		return false, err
	}
	commit, _, _ := strings.Cut(out, "\t")
	sum := sha256.Sum256([]byte(g.Path))
	record, now := path.Join(gitRecords, hex.EncodeToString(sum[:16])), []byte(g.URL+" "+branch+" "+commit+"\n")
	if was, err := r.Root.ReadFile(record, maxSmall); err == nil && bytes.Equal(was, now) && r.Root.Exists(path.Join(g.Path, ".git")) {
		return false, nil
	}
	err = r.Root.ReplaceDir(g.Path, func(dir string) error {
		args := cloneArgs(g, "made")
		_, err := r.runGit(ctx, dir, env, slices.Insert(args, 1, "--no-hardlinks")...)
		return err
	})
	if err != nil {
		return false, err
	}
	if err := r.Root.MakeParents(record); err != nil {
		return true, err
	}
	_, err = r.Root.WriteFile(record, now, rootfs.Attr{Mode: 0o600, UID: rootfs.Keep, GID: rootfs.Keep})
	return true, err
}

// discreetGit moves a login in the address to auth: everybody can read argv, and
// the settings of the clone.
func discreetGit(g schema.Git) (schema.Git, error) {
	u, err := url.Parse(g.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		if mask.URL(g.URL) != g.URL {
			return g, errors.New("everybody could read a password in the URL while git runs: write it to auth")
		}
		return g, nil
	}
	if u.RawQuery != "" {
		return g, errors.New("everybody could read the query of the URL while git runs: write secrets to auth")
	}
	if u.User != nil {
		password, _ := u.User.Password()
		if g.Auth.Username == "" && g.Auth.Password == "" {
			g.Auth.Username, g.Auth.Password = u.User.Username(), schema.Secret(password)
		}
		u.User = nil
		g.URL = u.String()
	}
	return g, nil
}

// runGit runs git beneath the root, in a directory. Hooks and settings of users
// take no part.
func (r *run) runGit(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	own := append([]string{"GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C.UTF-8"}, env...)
	program := programs.Runner{Dir: dir, Root: r.Root.Path(), Env: commandEnvironment(), Extra: own, Drain: drain}
	out, err := program.Output(ctx, append([]string{"git"}, args...)...)
	return strings.TrimSpace(string(out)), err
}

// gitAccess puts what git needs to log in into files for root's eyes in /run,
// and returns the environment that leads to them. done removes them.
func (r *run) gitAccess(auth schema.GitAuth) (env []string, done func(), err error) {
	done = func() {}
	if auth.Username == "" && auth.Password == "" && auth.PrivateKey == "" && !auth.Insecure {
		return nil, done, nil
	}
	if auth.Insecure {
		env = append(env, "GIT_SSL_NO_VERIFY=1")
	}
	const dir = "/run/kairos/config-git"
	if _, err := r.Root.Mkdir(dir, rootfs.Attr{Mode: 0o700, UID: rootfs.Keep, GID: rootfs.Keep}); err != nil {
		return nil, done, err
	}
	host, err := os.OpenRoot(r.Root.Path())
	if err != nil {
		return nil, done, err
	}
	done = func() { _ = host.RemoveAll(strings.TrimPrefix(dir, "/")); host.Close() }
	put := func(name, content string, mode int) string {
		file := path.Join(dir, name)
		if _, e := r.Root.WriteFile(file, []byte(content), rootfs.Attr{Mode: mode, UID: rootfs.Keep, GID: rootfs.Keep}); e != nil && err == nil {
			err = e
		}
		return file
	}
	if auth.Username != "" || auth.Password != "" {
		user, password := put("username", auth.Username, 0o600), put("password", string(auth.Password), 0o600)
		env = append(env, "GIT_ASKPASS="+put("askpass", fmt.Sprintf("#!/bin/sh\ncase $1 in Username*) cat %s ;; *) cat %s ;; esac\n", user, password), 0o700))
	}
	if auth.PrivateKey != "" {
		ssh := "ssh -o BatchMode=yes -o IdentitiesOnly=yes -i " + put("key", strings.TrimRight(string(auth.PrivateKey), "\n")+"\n", 0o600)
		switch {
		case auth.PublicKey != "": // of the server
			ssh += " -o StrictHostKeyChecking=yes -o UserKnownHostsFile=" + put("known_hosts", strings.TrimRight(auth.PublicKey, "\n")+"\n", 0o600)
		case auth.Insecure:
			ssh += " -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
		}
		env = append(env, "GIT_SSH_COMMAND="+ssh)
	}
	if err != nil {
		done()
		return nil, func() {}, err
	}
	return env, done, nil
}
