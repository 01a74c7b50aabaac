package bench

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/measuretest"
	"github.com/kairos-io/toolkit/tests/registry"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// pipeline fetches the layers of an image, decompresses them, hashes
// both forms, and unpacks them with tar, as streams: the least that a staging
// has to do too.
func pipeline(t *testing.T, r *registry.Registry, repository, tag string) measuretest.Usage {
	t.Helper()
	dir := folder(t)
	manifest, _ := manifestOf(t, r, repository, tag)
	script := []string{"cd " + dir, "mkdir root"}
	for _, layer := range manifest.Layers {
		decompress := "zstd -dc"
		if strings.HasSuffix(layer.MediaType, "gzip") {
			decompress = "gzip -dc"
		}
		script = append(script, fmt.Sprintf(`curl -sf http://%s/v2/%s/blobs/%s | tee >(sha256sum >blob) | %s |
  tee >(sha256sum >raw) | tar -x -C root --exclude='.wh.*'`, r.LocalHost(), repository, layer.Digest, decompress))
	}
	script = append(script, "wait", "sync -f .")
	return measure(t, workspace.Tool(t.Context(), "bash", "-euo", "pipefail", "-c", strings.Join(script, "\n")), 0)
}

// folder returns a folder that the programs of the tools root see as well.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "kairos-bench-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestBenchPeers makes the upgrade from the release with what others have for
// it: the same trees, each fetched from a server of this process.
func TestBenchPeers(t *testing.T) {
	d := theDebian(t)
	for _, to := range []string{single, rebuilt, updated} {
		if d.contents[to].since(t, d.contents[release]).raw == 0 {
			t.Logf("%s is skipped: Debian has no updates for it today", to)
			continue
		}
		t.Run(to, func(t *testing.T) {
			store, esp := folder(t), folder(t)
			first := stage(t, d.registry, store, esp, repository(chunked)+":"+release, 0)
			bless(t, esp)
			ours := stage(t, d.registry, store, esp, repository(chunked)+":"+to, 0)
			for _, peer := range []struct {
				name    string
				upgrade func(*testing.T, string) (first, next cost)
			}{
				{"skopeo copy to containers-storage, partial pulls", d.storage},
				{"ostree pull, checkout", d.ostree},
				{"casync extract, seeded", d.casync},
			} {
				theirFirst, theirs := peer.upgrade(t, to)
				if to == single { // the first is the same for all
					report(Figure{What: "the release into an empty store: time", Value: first.Seconds, Unit: "s", Peer: theirFirst.seconds, By: peer.name})
					report(Figure{What: "the release into an empty store: fetched", Value: first.fetched(), Unit: "B", Peer: theirFirst.bytes, By: peer.name})
				}
				report(Figure{What: "then " + to + ": time", Value: ours.Seconds, Unit: "s", Peer: theirs.seconds, By: peer.name})
				report(Figure{What: "then " + to + ": fetched", Value: ours.fetched(), Unit: "B", Peer: theirs.bytes, By: peer.name})
			}
		})
	}
}

// cost is what a peer needed: seconds, and bytes over the network.
type cost struct{ seconds, bytes float64 }

const storageConf = `[storage]
driver = "overlay"
graphroot = "%[1]s/storage"
runroot = "%[1]s/run"
[storage.options]
pull_options = {enable_partial_images = "true", use_hard_links = "false", ostree_repos=""}
`

// storage copies both images into a containers-storage, as podman pull does.
func (d *debian) storage(t *testing.T, to string) (first, next cost) {
	dir := folder(t)
	conf := filepath.Join(dir, "storage.conf")
	must(t, os.WriteFile(conf, fmt.Appendf(nil, storageConf, dir), 0o644))
	defer workspace.RunTool(t.Context(), "umount", dir+"/storage/overlay")
	pull := func(tag string) cost {
		mark := d.registry.Mark()
		u := measure(t, workspace.Tool(t.Context(), "env", "CONTAINERS_STORAGE_CONF="+conf,
			"skopeo", "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false",
			"docker://"+d.registry.LocalHost()+"/"+repository(chunked)+":"+tag, "containers-storage:bench:"+tag), 0)
		return cost{u.Seconds, float64(registry.Fetched(d.registry.Since(mark)))}
	}
	return pull(release), pull(to)
}

// serve offers a directory over HTTP and counts what is fetched.
func serve(t *testing.T, dir string) (url string, log *registry.Log) {
	log = new(registry.Log)
	server := httptest.NewServer(log.Watch(http.FileServer(http.Dir(dir))))
	t.Cleanup(server.Close)
	return server.URL, log
}

// script runs lines of shell among the programs of the tools root.
func script(t *testing.T, lines string, args ...any) float64 {
	t.Helper()
	return measure(t, workspace.Tool(t.Context(), "bash", "-euo", "pipefail", "-c", fmt.Sprintf(lines, args...)), 0).Seconds
}

// ostree commits both trees to a repository, and pulls and checks them out as
// a node does.
func (d *debian) ostree(t *testing.T, to string) (first, next cost) {
	dir := folder(t)
	url, log := serve(t, dir)
	script(t, `cd %s
ostree init --repo=server --mode=archive
ostree init --repo=node --mode=bare
ostree --repo=node remote add --no-gpg-verify site %s/server`, dir, url)
	pull := func(tag string) cost {
		script(t, `cd %s
ostree --repo=server commit --branch=os --tree=dir=%s >/dev/null
ostree --repo=server summary --update`, dir, d.roots[tag])
		mark := log.Mark()
		seconds := script(t, `cd %s
ostree --repo=node pull site os >/dev/null
ostree --repo=node checkout --require-hardlinks site:os %s`, dir, tag)
		return cost{seconds, float64(registry.Fetched(log.Since(mark)))}
	}
	return pull(release), pull(to)
}

// casync makes chunks of both trees, and extracts them with what is there as
// the seed.
func (d *debian) casync(t *testing.T, to string) (first, next cost) {
	dir := folder(t)
	url, log := serve(t, dir)
	extract := func(tag, seed string) cost {
		script(t, `cd %s
casync make --store=default.castr %s.caidx %s >/dev/null`, dir, tag, d.roots[tag])
		mark := log.Mark()
		seconds := script(t, `cd %s
casync extract --store=%s/default.castr %s %s/%s.caidx root-%s
sync -f .`, dir, url, seed, url, tag, tag)
		return cost{seconds, float64(registry.Fetched(log.Since(mark)))}
	}
	return extract(release, ""), extract(to, "--seed=root-"+release)
}
