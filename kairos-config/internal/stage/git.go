package stage

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
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
		return false, fmt.Errorf("%q is no directory for a clone", g.Path)
	}
	if strings.HasPrefix(g.URL, "-") || strings.HasPrefix(g.Branch, "-") {
		return false, fmt.Errorf("%q, %q: no address and branch", g.URL, g.Branch)
	}
	if u, err := url.Parse(g.URL); err == nil && u.User != nil {
		if _, secret := u.User.Password(); secret {
			return false, fmt.Errorf("a password in the address would be in argv for everybody to read: write it to auth")
		}
	}
	env, done, err := r.gitAccess(g.Auth)
	if err != nil {
		return false, err
	}
	defer done()
	git := func(args ...string) (string, error) { return r.runGit(ctx, env, args...) }
	if !r.Root.Exists(path.Join(g.Path, ".git")) {
		args := []string{"clone", "--quiet"}
		if g.Branch != "" {
			args = append(args, "--branch", g.Branch)
		}
		if g.BranchOnly {
			args = append(args, "--single-branch")
		}
		if _, err := r.Root.Mkdir(path.Dir(g.Path), rootfs.KeepAll); err != nil {
			return false, err
		}
		_, err = git(append(args, "--", g.URL, g.Path)...)
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

// runGit runs git beneath the root. Hooks and settings of users take no part.
func (r *run) runGit(ctx context.Context, env []string, args ...string) (string, error) {
	own := append([]string{"GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C.UTF-8"}, env...)
	program := programs.Runner{Dir: "/", Root: r.Root.Path(), Env: commandEnvironment(), Extra: own, Drain: drain}
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
