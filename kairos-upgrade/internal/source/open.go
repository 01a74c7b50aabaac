// Package source reads container images from wherever they are: registries,
// OCI layouts and archives, docker archives, a containers-storage.
//
// containers/image does the work on the wire and honours what administrators
// know: containers-policy.json(5), containers-registries.conf(5) with its
// mirrors, containers-auth.json(5). Everything that comes from outside is
// checked here before anybody sees it: the manifest by the digest that was
// asked for, the configuration and the layers by the manifest.
package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kairos-io/toolkit/lib/buildinfo"
	digest "github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"
)

// Options say where the settings of the system are. The zero Options are
// those of the running system.
type Options struct {
	// Architecture is that of the image wanted, as GOARCH has it; "" for this
	// machine's.
	Architecture string
	// AuthFile holds credentials, as in containers-auth.json(5). "" is what
	// REGISTRY_AUTH_FILE says, or else the credential that the service manager
	// has passed (see Credential), or else the places given there.
	AuthFile string
	// PolicyFile is a containers-policy.json(5).
	PolicyFile string
	// RegistriesConf is a containers-registries.conf(5), RegistriesConfDir its
	// drop-in directory.
	RegistriesConf    string
	RegistriesConfDir string
	// Insecure accepts the registry that a reference names without TLS, or with a
	// certificate that nobody vouches for: that host alone, neither its mirrors nor
	// others that it sends to.
	Insecure bool
	// InsecureRegistry is the host, with its port, that is accepted so although
	// Insecure is not set: that of an earlier staging. Others are not.
	InsecureRegistry string
	// TempDir is a directory for large temporary files.
	TempDir string
	// Root is put before every absolute path of settings that is not given
	// above.
	Root string
	// Spool keeps what has arrived of large blobs; nil keeps nothing.
	Spool Spool
	// Log gets warnings; nil discards them.
	Log *slog.Logger
}

// Credential is the name of the systemd credential (systemd.exec(5),
// LoadCredential=) with the contents of an auth.json.
const Credential = "kairos.registry-auth"

// authFile returns the file with credentials, "" for the usual places.
func (o Options) authFile() string {
	if o.AuthFile != "" {
		return o.AuthFile
	}
	if file := os.Getenv("REGISTRY_AUTH_FILE"); file != "" {
		return file
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		file := filepath.Join(dir, Credential)
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return ""
}

// checkAuthFile refuses a file with credentials that is not there: whoever names
// one, by an option or by REGISTRY_AUTH_FILE, means it.
func (o Options) checkAuthFile() error {
	file := o.authFile()
	if file == "" {
		return nil
	}
	if _, err := os.Stat(file); err != nil {
		return usagef("read credentials: %w", err)
	}
	return nil
}

func (o Options) system() *types.SystemContext {
	sys := &types.SystemContext{
		ArchitectureChoice:           o.Architecture,
		OSChoice:                     "linux",
		AuthFilePath:                 o.authFile(),
		SignaturePolicyPath:          o.PolicyFile,
		SystemRegistriesConfPath:     o.RegistriesConf,
		SystemRegistriesConfDirPath:  o.RegistriesConfDir,
		BigFilesTemporaryDir:         o.TempDir,
		RootForImplicitAbsolutePaths: o.Root,
		DockerRegistryUserAgent:      "kairos-upgrade/" + buildinfo.Version,
	}
	return sys
}

// accepted returns the host of a reference if it is accepted without TLS, or "".
func (o Options) accepted(named reference.Named) string {
	if named == nil {
		return ""
	}
	if host := reference.Domain(named); o.Insecure || host == o.InsecureRegistry {
		return host
	}
	return ""
}

func (o Options) log() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}

func (o Options) architecture() string {
	if o.Architecture == "" {
		return runtime.GOARCH
	}
	return o.Architecture
}

// Limits in bytes and numbers on what an image says about itself.
const (
	maxManifest = 4 << 20
	maxLayers   = 1000
)

// Labels of the OCI image specification.
const labelVersion = imgspecv1.AnnotationVersion

// Image is an image that the signature policy accepts, for one architecture.
// It is safe for concurrent use.
type Image struct {
	// Reference is the image as it was asked for.
	Reference string
	// Name is where it was found: a full reference with its transport.
	Name string
	// ManifestDigest is the digest of the manifest for this architecture, not
	// of a list that it is in.
	ManifestDigest digest.Digest
	Created        time.Time // zero if the image does not say
	// Architecture as GOARCH has it.
	Architecture string
	// InsecureRegistry is the host that was accepted without TLS, "" if none was.
	InsecureRegistry string
	// Labels of the image's configuration.
	Labels map[string]string
	// Version is the label org.opencontainers.image.version, or "".
	Version string
	// Layers from the lowest to the topmost.
	Layers []Layer

	ref    types.ImageReference
	sys    *types.SystemContext
	moving sync.Mutex
	places *endpoints        // nil: there is one only
	source types.ImageSource // at the first of them
	left   []types.ImageSource

	remote   bool
	log      *slog.Logger
	fetched  atomic.Int64
	requests atomic.Int64

	spool   Spool
	probing sync.Mutex
	ranges  map[types.ImageSource]int // in one request, of those that were asked
}

// Layer describes one layer of an image.
type Layer struct {
	// Digest and Size in bytes of the blob as it is fetched; Size is -1 where
	// it isn't known.
	Digest digest.Digest
	Size   int64
	// DiffID is the digest of the uncompressed tar stream.
	DiffID    digest.Digest
	MediaType string
	// TOC is where its table of contents is, nil if it has none.
	TOC *TOC

	info types.BlobInfo
	// elsewhere: the manifest says that the blob is kept elsewhere.
	elsewhere bool
}

// Fetched returns how many bytes of blobs have been read so far.
func (img *Image) Fetched() int64 { return img.fetched.Load() }

// Requests returns how many requests for blobs of layers were made so far,
// those that containers/image makes again on its own not counted.
func (img *Image) Requests() int64 { return img.requests.Load() }

// Log is where warnings about the image go.
func (img *Image) Log() *slog.Logger { return img.log }

// Close gives back what the image holds open.
func (img *Image) Close() error {
	img.moving.Lock()
	defer img.moving.Unlock()
	err := img.source.Close()
	for _, s := range img.left {
		err = errors.Join(err, s.Close())
	}
	return err
}

// Open finds an image, checks it against the signature policy and reads its
// manifest and configuration; layers are read by OpenLayer. The caller closes
// the image.
//
// Errors that a person can act on have a hint. ErrUsage: not a reference to an
// image; ErrRefused: refused by the signature policy.
func Open(ctx context.Context, ref string, opts Options) (*Image, error) {
	src, err := Parse(ref)
	if err != nil {
		return nil, err
	}
	if src.Kind != KindImage {
		return nil, usagef("source %q is a %s, not an image", ref, src.Kind)
	}
	if err := opts.checkAuthFile(); err != nil {
		return nil, err
	}
	policy, err := newPolicy(opts)
	if err != nil {
		return nil, err
	}
	defer policy.Destroy()
	sys := opts.system()
	candidates, err := src.candidates(sys)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, candidate := range candidates {
		o := opener{opts: opts, sys: sys, policy: policy, ref: candidate, remote: src.transport == registry}
		if o.remote {
			o.insecure = opts.accepted(candidate.DockerReference())
		}
		img, err := o.open(ctx)
		if err == nil {
			img.Reference, img.InsecureRegistry = ref, o.insecure
			return img, nil
		}
		errs = append(errs, fmt.Errorf("open image %s: %w", o.name(), o.explain(explain(err, src.transport))))
		if ctx.Err() != nil || errors.Is(err, ErrRefused) {
			break
		}
	}
	if len(errs) == 1 {
		return nil, errs[0]
	}
	return nil, errors.Join(errs...)
}

// openImage reads manifest and configuration of the image in source.
func (o *opener) openImage(ctx context.Context, source types.ImageSource) (*Image, error) {
	unparsed, instance, err := o.choose(ctx, source)
	if err != nil {
		return nil, err
	}
	if err := o.policy.check(ctx, unparsed); err != nil {
		return nil, err
	}
	raw, mime, err := unparsed.Manifest(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkManifest(raw, mime); err != nil {
		return nil, err
	}
	parsed, err := image.FromUnparsedImage(ctx, o.sys, unparsed)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	config, err := parsed.OCIConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("read image configuration: %w", err)
	}
	if err := o.checkPlatform(config); err != nil {
		return nil, err
	}
	infos, err := source.LayerInfosForCopy(ctx, instance)
	if err != nil {
		return nil, fmt.Errorf("read layers: %w", err)
	}
	if infos == nil {
		infos = parsed.LayerInfos()
	}
	layers, err := describeLayers(infos, config.RootFS.DiffIDs)
	if err != nil {
		return nil, err
	}
	var created time.Time
	if config.Created != nil {
		created = config.Created.UTC()
	}
	return &Image{
		Name:           o.name(),
		ManifestDigest: digest.FromBytes(raw),
		Architecture:   config.Architecture,
		Labels:         config.Config.Labels,
		Version:        config.Config.Labels[labelVersion],
		Created:        created,
		Layers:         layers,
		source:         source,
		remote:         o.remote,
		log:            o.opts.log(),
		spool:          o.opts.Spool,
	}, nil
}

// choose returns the image for the architecture wanted: the only one, or one
// of a list.
func (o *opener) choose(ctx context.Context, source types.ImageSource) (*image.UnparsedImage, *digest.Digest, error) {
	top := image.UnparsedInstance(source, nil)
	raw, mime, err := top.Manifest(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(raw) > maxManifest {
		return nil, nil, fmt.Errorf("manifest of %d bytes, at most %d are accepted", len(raw), maxManifest)
	}
	if !manifest.MIMETypeIsMultiImage(mime) {
		return top, nil, nil
	}
	list, err := manifest.ListFromBlob(raw, mime)
	if err != nil {
		return nil, nil, fmt.Errorf("read list of images: %w", err)
	}
	instance, err := list.ChooseInstance(o.sys)
	if err != nil {
		return nil, nil, noInstance(raw, o.opts.architecture(), err)
	}
	if err := instance.Validate(); err != nil {
		return nil, nil, fmt.Errorf("read list of images: %w", err)
	}
	return image.UnparsedInstance(source, &instance), &instance, nil
}
