package source

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/exit"
	digest "github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker"
	dockerarchive "go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/pkg/shortnames"
	"go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/transports"
	"go.podman.io/image/v5/types"
)

// checkReference checks the form of a registry reference.
func checkReference(ref string) error {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return err
	}
	if d, ok := named.(reference.Digested); ok {
		return d.Digest().Validate()
	}
	return nil
}

// candidates returns the references to try in turn. There is more than one
// only for a short name, by the rules of containers-registries.conf(5).
func (src Source) candidates(sys *types.SystemContext) ([]types.ImageReference, error) {
	parse := map[string]func(string) (types.ImageReference, error){
		ociLayout:         newLayoutReference,
		ociArchive:        newArchiveReference,
		dockerArchive:     dockerarchive.ParseReference,
		containersStorage: storage.Transport.ParseReference,
		dirLayout:         directory.NewReference,
	}[src.transport]
	if parse != nil {
		ref, err := parse(src.rest)
		if err != nil {
			return nil, fmt.Errorf("open image %s: %w", src.Given, err)
		}
		return []types.ImageReference{ref}, nil
	}
	// Asking which of several registries is meant is for pull on a terminal,
	// not for a node.
	mode := types.ShortNameModeDisabled
	quiet := *sys
	quiet.ShortNameMode = &mode
	resolved, err := shortnames.Resolve(&quiet, src.rest)
	if err != nil {
		return nil, exit.Hint(usagef("open image %s: %w", src.Given, err),
			"write the registry's name before it, as in docker.io/library/%s", src.rest)
	}
	var refs []types.ImageReference
	for _, candidate := range resolved.PullCandidates {
		named := candidate.Value
		if d, ok := named.(reference.Digested); ok { // a digest beside a tag decides
			if named, err = reference.WithDigest(reference.TrimNamed(named), d.Digest()); err != nil {
				return nil, usagef("open image %s: %w", src.Given, err)
			}
		}
		ref, err := docker.NewReference(named)
		if err != nil {
			return nil, usagef("open image %s: %w", src.Given, err)
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// opener opens one reference.
type opener struct {
	opts   Options
	sys    *types.SystemContext
	policy *policy
	ref    types.ImageReference
	remote bool
	// insecure is the host that is accepted without TLS, "" if none is.
	insecure string
}

func (o *opener) name() string {
	if o.remote {
		return strings.TrimPrefix(o.ref.StringWithinTransport(), "//")
	}
	return strings.TrimSuffix(transports.ImageName(o.ref), ":")
}

func (o *opener) open(ctx context.Context) (*Image, error) {
	places, err := o.endpoints()
	if err != nil {
		return nil, err
	}
	if o.insecure != "" && places == nil { // else it stands in what containers/image reads
		sys := *o.sys
		sys.DockerInsecureSkipTLSVerify, o.sys = types.OptionalBoolTrue, &sys
	}
	var refused error
	for {
		img, err := o.openAt(ctx, places)
		if err == nil {
			return img, nil
		}
		if refused == nil && errors.Is(err, ErrRefused) {
			refused = err // says more than that nobody else answers
		}
		if !places.next(ctx, err) {
			return nil, places.explain(cmp.Or(refused, err))
		}
	}
}

func (o *opener) openAt(ctx context.Context, places *endpoints) (img *Image, err error) {
	err = retry(ctx, o.remote, o.opts.log(), func() error {
		source, err := places.source(ctx, o.ref, o.sys)
		if err != nil {
			return err
		}
		keepInsecure(source, o.insecure)
		if img, err = o.openImage(ctx, source); err != nil {
			source.Close()
			return err
		}
		img.ref, img.sys, img.places = o.ref, o.sys, places
		return nil
	})
	return img, err
}

// checkManifest refuses what is no image, or none that can be verified.
func checkManifest(raw []byte, mime string) error {
	switch mime {
	case imgspecv1.MediaTypeImageManifest, manifest.DockerV2Schema2MediaType:
	case manifest.DockerV2Schema1MediaType, manifest.DockerV2Schema1SignedMediaType:
		return exit.Hint(fmt.Errorf("the manifest has Docker's old schema 1"), "build and push the image again with a current tool")
	case imgspecv1.MediaTypeImageIndex, manifest.DockerV2ListMediaType:
		return fmt.Errorf("a list of images within a list of images")
	default:
		return fmt.Errorf("manifest of unknown type %q", mime)
	}
	if len(raw) > maxManifest {
		return fmt.Errorf("manifest of %d bytes, at most %d are accepted", len(raw), maxManifest)
	}
	return nil
}

// checkPlatform refuses an image that this machine can't run.
func (o *opener) checkPlatform(config *imgspecv1.Image) error {
	want := o.opts.architecture()
	switch {
	case config.OS != "" && config.OS != "linux", config.Architecture != "" && config.Architecture != want:
		return exit.Hint(fmt.Errorf("the image is for %s, not for linux/%s", platform(config.Platform), want),
			"push the image for linux/%s, best as one reference for several architectures", want)
	case config.Architecture == "":
		return exit.Hint(fmt.Errorf("the image does not name its architecture; linux/%s is needed", want),
			"build it with a tool that writes architecture and os into its configuration")
	}
	return nil
}

// platform names what an image is for, as podman build --platform takes it.
func platform(p imgspecv1.Platform) string {
	return strings.TrimSuffix(cmp.Or(p.OS, "linux")+"/"+cmp.Or(p.Architecture, "unknown")+"/"+p.Variant, "/")
}

// noInstance says which platforms a list of images has.
func noInstance(raw []byte, want string, cause error) error {
	var list struct {
		Manifests []struct {
			Platform imgspecv1.Platform `json:"platform"`
		} `json:"manifests"`
	}
	if json.Unmarshal(raw, &list) != nil {
		return cause
	}
	var have []string
	for _, m := range list.Manifests {
		p := platform(m.Platform)
		if m.Platform.Architecture != "" && m.Platform.Architecture != "unknown" && !slices.Contains(have, p) { // attestations are unknown
			have = append(have, p)
		}
	}
	only := "the list names no platform"
	if len(have) > 0 {
		only = "only for " + strings.Join(have, ", ")
	}
	return exit.Hint(fmt.Errorf("no image for linux/%s, %s", want, only), "push the image for linux/%s, too", want)
}

// describeLayers pairs blobs with the digests of what they hold.
func describeLayers(infos []types.BlobInfo, diffIDs []digest.Digest) ([]Layer, error) {
	if len(infos) != len(diffIDs) {
		return nil, fmt.Errorf("the manifest has %d layers, the configuration %d", len(infos), len(diffIDs))
	}
	if len(infos) > maxLayers {
		return nil, fmt.Errorf("%d layers, at most %d are accepted", len(infos), maxLayers)
	}
	layers := make([]Layer, len(infos))
	for i, info := range infos {
		if err := checkLayer(info, diffIDs[i]); err != nil {
			return nil, fmt.Errorf("layer %d of %d: %w", i+1, len(infos), err)
		}
		layers[i] = Layer{Digest: info.Digest, Size: info.Size, DiffID: diffIDs[i], MediaType: info.MediaType, TOC: tocOf(info), info: info}
		// A blob of others may be here all the same; nobody else is asked for it.
		layers[i].info.URLs = nil
		layers[i].elsewhere = strings.Contains(info.MediaType, "nondistributable") || strings.Contains(info.MediaType, ".foreign.") || len(info.URLs) > 0
	}
	return layers, nil
}

func checkLayer(info types.BlobInfo, diffID digest.Digest) error {
	if err := info.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", info.Digest, err)
	}
	if err := diffID.Validate(); err != nil {
		return fmt.Errorf("diff ID %q: %w", diffID, err)
	}
	switch {
	case info.Size < -1:
		return fmt.Errorf("size %d", info.Size)
	case strings.HasSuffix(info.MediaType, "+encrypted"):
		return fmt.Errorf("it is encrypted (%s)", info.MediaType)
	}
	return nil
}
