package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/distribution/registry/api/errcode"
	v2 "github.com/docker/distribution/registry/api/v2"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"
)

// A mirror may lack a part of what it has: the image of a list, a
// configuration, a layer, a signature; or have it damaged, keep it to itself, or
// be in trouble. containers/image chooses a mirror by the manifest that was
// asked for and stays with it. Everything below that manifest is named by a
// digest, so it may come from anywhere: the next mirror is asked, and the
// registry itself at last. What each has is held against the signature policy.

// endpoints are the places that registries.conf names for one reference: its
// mirrors, and at the end the registry itself.
type endpoints struct {
	registry *sysregistriesv2.Registry
	sources  []sysregistriesv2.PullSource
	skipped  int  // of the first ones, which have failed
	changed  bool // the registry's own settings are not those of registries.conf
	log      *slog.Logger
}

// endpoints returns nil where there is no mirror.
func (o *opener) endpoints() (*endpoints, error) {
	named := o.ref.DockerReference()
	if !o.remote || named == nil {
		return nil, nil
	}
	found, err := sysregistriesv2.FindRegistry(o.sys, named.Name())
	if err != nil {
		return nil, fmt.Errorf("read registries.conf: %w", err)
	}
	if found == nil {
		return nil, nil
	}
	if found.Blocked {
		return nil, errBlocked(found)
	}
	sources, err := found.PullSourcesFromReference(named)
	if err != nil || len(sources) < 2 {
		return nil, err
	}
	e := &endpoints{registry: found, sources: sources, log: o.opts.log()}
	if o.insecure != "" && !found.Insecure {
		own := *found
		own.Insecure = true
		e.registry, e.changed = &own, true
	}
	return e, nil
}

// next gives up the first mirror that is left, after an error of it. It reports
// whether another place is left.
func (e *endpoints) next(ctx context.Context, err error) bool {
	if e == nil || ctx.Err() != nil || e.skipped >= len(e.sources)-1 {
		return false
	}
	e.log.Warn("a mirror has failed, the next one is asked", "mirror", e.sources[e.skipped].Reference.Name(), "error", err)
	e.skipped++
	return true
}

// explain adds to an error which mirrors were given up.
func (e *endpoints) explain(err error) error {
	if err == nil || e == nil || e.skipped == 0 {
		return err
	}
	var names []string
	for _, s := range e.sources[:e.skipped] {
		names = append(names, s.Reference.Name())
	}
	return fmt.Errorf("%w (mirrors that failed before: %s)", err, strings.Join(names, ", "))
}

// source opens a reference at the places that are left. They are handed over to
// containers/image in the form that it reads, as a registries.conf.
func (e *endpoints) source(ctx context.Context, ref types.ImageReference, sys *types.SystemContext) (types.ImageSource, error) {
	source, err := e.open(ctx, ref, sys)
	if err == nil {
		keepToken(source)
	}
	return source, err
}

func (e *endpoints) open(ctx context.Context, ref types.ImageReference, sys *types.SystemContext) (types.ImageSource, error) {
	if e == nil || e.skipped == 0 && !e.changed {
		return ref.NewImageSource(ctx, sys)
	}
	dir, err := os.MkdirTemp(sys.BigFilesTemporaryDir, "registries")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // it is read once
	left := *sys
	left.SystemRegistriesConfPath = filepath.Join(dir, "registries.conf")
	left.SystemRegistriesConfDirPath = filepath.Join(dir, "none")
	if err := os.WriteFile(left.SystemRegistriesConfPath, e.conf(), 0o600); err != nil {
		return nil, err
	}
	return ref.NewImageSource(ctx, &left)
}

func (e *endpoints) conf() (conf []byte) {
	endpoint := func(p sysregistriesv2.Endpoint) {
		if p.Location != "" {
			conf = fmt.Appendf(conf, "location = %s\n", strconv.Quote(p.Location))
		}
		if p.NamespaceProxy != "" {
			conf = fmt.Appendf(conf, "namespace-proxy = %s\n", strconv.Quote(p.NamespaceProxy))
		}
		conf = fmt.Appendf(conf, "insecure = %t\n", p.Insecure)
	}
	conf = fmt.Appendf(conf, "[[registry]]\nprefix = %s\n", strconv.Quote(e.registry.Prefix))
	endpoint(e.registry.Endpoint)
	for _, s := range e.sources[e.skipped : len(e.sources)-1] {
		conf = fmt.Appendf(conf, "[[registry.mirror]]\n")
		endpoint(s.Endpoint)
	}
	return conf
}

// here returns the source that blobs are read from now.
func (img *Image) here() types.ImageSource {
	img.moving.Lock()
	defer img.moving.Unlock()
	return img.source
}

// elsewhere goes on to the next place after an error of a source, and reports
// whether there is one.
func (img *Image) elsewhere(ctx context.Context, from types.ImageSource, err error) bool {
	img.moving.Lock()
	defer img.moving.Unlock()
	for {
		if img.source != from { // somebody else met the same
			return true
		}
		if !img.places.next(ctx, err) {
			return false
		}
		source, errOpen := img.places.source(ctx, img.ref, img.sys)
		if errOpen == nil {
			keepInsecure(source, img.InsecureRegistry)
			img.left = append(img.left, img.source)
			img.source = source
			return true
		}
		err = errOpen
	}
}

// isMissing reports whether an error says that a registry lacks something.
func isMissing(err error) bool {
	if err == nil {
		return false
	}
	var status docker.UnexpectedHTTPStatusError
	for _, code := range []errcode.ErrorCode{v2.ErrorCodeManifestUnknown, v2.ErrorCodeNameUnknown, v2.ErrorCodeBlobUnknown} {
		if isRegistry(err, code) {
			return true
		}
	}
	return errors.As(err, &status) && status.StatusCode == http.StatusNotFound ||
		strings.Contains(err.Error(), "StatusCode: 404") // a page instead of the registry's own words: that error has no type
}
