package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/docker/distribution/registry/api/errcode"
	v2 "github.com/docker/distribution/registry/api/v2"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/kind"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/docker/config"
)

// Errors that a caller may want to tell apart. The text of such an error says
// more, and need not hold that of its kind.
var (
	ErrUsage            = errors.New("not a source of images")
	ErrRefused          = errors.New("refused by policy") // of signatures, or in registries.conf
	ErrNoSuchImage      = errors.New("no such image")
	ErrNoCredentials    = errors.New("no credentials")
	ErrWrongCredentials = errors.New("wrong credentials")
	ErrNoTLS            = errors.New("a registry without TLS")
)

func usagef(format string, args ...any) error { return kind.Errorf(ErrUsage, format, args...) }

// explain adds what a person can do about an error of containers/image.
func explain(err error, transport string) error {
	var (
		dns       *net.DNSError
		unknownCA x509.UnknownAuthorityError
		record    tls.RecordHeaderError
	)
	if exit.HintOf(err) != "" {
		return err
	}
	switch {
	case isUnauthorized(err):
		return exit.Hint(err, "the registry wants credentials, or the image does not exist: "+
			"put them into auth.json (containers-auth.json(5); skopeo login --authfile FILE REGISTRY writes one)")
	case isRegistry(err, v2.ErrorCodeManifestUnknown), isRegistry(err, v2.ErrorCodeNameUnknown):
		return exit.Hint(kind.Of(ErrNoSuchImage, err), "the registry answers, but has no such image: check repository and tag")
	case errors.Is(err, docker.ErrTooManyRequests):
		return exit.Hint(err, "the registry limits requests: wait, log in, or set up a mirror in registries.conf")
	case errors.As(err, &dns):
		return exit.Hint(err, "check the registry's name and this machine's DNS (resolvectl query %s)", dns.Name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return exit.Hint(err, "no server listens there: check host and port, and whether the registry runs")
	case errors.As(err, &unknownCA):
		return exit.Hint(err, "put the registry's CA certificate into /etc/containers/certs.d/HOST:PORT/ca.crt")
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return kind.Of(ErrNoTLS, err)
	case errors.Is(err, errTruncated), errors.Is(err, io.ErrUnexpectedEOF) && transport == dockerArchive:
		return exit.Hint(err, "the archive is truncated: copy or download it again")
	case transport == containersStorage && errors.Is(err, fs.ErrPermission):
		return exit.Hint(err, "run as root, or within podman unshare")
	}
	return err
}

// isUnauthorized reports whether a registry wants other credentials.
func isUnauthorized(err error) bool {
	var unauthorized docker.ErrUnauthorizedForCredentials
	return errors.As(err, &unauthorized) || isRegistry(err, errcode.ErrorCodeUnauthorized) || isRegistry(err, errcode.ErrorCodeDenied)
}

// explain says whether the credentials that a registry refuses are wrong, or
// whether there were none.
func (o *opener) explain(err error) error {
	named := o.ref.DockerReference()
	if !o.remote || named == nil || !isUnauthorized(err) {
		return err
	}
	host := reference.Domain(named)
	from := o.sys.AuthFilePath
	if from == "" {
		from = "the files of containers-auth.json(5)"
	}
	given, errRead := config.GetCredentialsForRef(o.sys, named)
	switch {
	case errRead != nil:
		return fmt.Errorf("read credentials for %s from %s: %w", host, from, errRead)
	case given.Username == "" && given.IdentityToken == "":
		return exit.Hint(kind.Errorf(ErrNoCredentials, "no credentials for %s in %s: %w", host, from, err),
			"the registry wants credentials, or the image does not exist: "+
				"put them into auth.json (containers-auth.json(5); skopeo login --authfile FILE %s writes one)", host)
	}
	return exit.Hint(kind.Errorf(ErrWrongCredentials, "the registry refuses the credentials for %s from %s: %w", host, from, err),
		"skopeo login --authfile FILE %s checks and writes new ones", host)
}

func isRegistry(err error, code errcode.ErrorCode) bool {
	var one errcode.Error
	if errors.As(err, &one) && one.Code == code {
		return true
	}
	var several errcode.Errors
	if errors.As(err, &several) {
		for _, e := range several {
			if isRegistry(e, code) {
				return true
			}
		}
	}
	var bare errcode.ErrorCode
	return errors.As(err, &bare) && bare == code
}

// Transient reports whether an error may be gone when the same is tried again:
// a broken connection, a timeout, a server in trouble.
func Transient(err error) bool {
	var (
		timeout net.Error
		dns     *net.DNSError
		status  docker.UnexpectedHTTPStatusError
	)
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.Is(err, errPartial), errors.Is(err, errMirror), errors.Is(err, errStalled), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, net.ErrClosed):
		return true
	case errors.As(err, &dns):
		return dns.IsTemporary || dns.IsTimeout
	case errors.As(err, &status):
		return status.StatusCode >= 500
	case isRegistry(err, errcode.ErrorCodeUnavailable), isRegistry(err, errcode.ErrorCodeUnknown):
		return true
	}
	return errors.As(err, &timeout) && timeout.Timeout()
}

// Attempts is how often something that fails for a transient reason is tried.
const Attempts = 3

// firstPause is the pause after the first attempt; each further one is twice
// as long. It is a variable for tests.
var firstPause = time.Second

// Retry runs try again while it fails for a transient reason, if the image
// comes over a network: Attempts times altogether, with growing pauses.
func (img *Image) Retry(ctx context.Context, try func() error) error {
	return retry(ctx, img.remote, img.log, try)
}

func retry(ctx context.Context, remote bool, log *slog.Logger, try func() error) error {
	var p patience
	for {
		err := try()
		if errors.Is(err, errMirror) { // as often as there are mirrors
			continue
		}
		if err == nil || !remote || !p.allows(err) {
			return err
		}
		if e := p.pause(ctx, log, err); e != nil {
			return e
		}
	}
}

// patience with what fails for transient reasons.
type patience struct{ failures int }

// allows reports whether to try again after an error.
func (p *patience) allows(err error) bool { return p.failures+1 < Attempts && Transient(err) }

// pause waits before the next attempt.
func (p *patience) pause(ctx context.Context, log *slog.Logger, after error) error {
	pause := firstPause << p.failures
	p.failures++
	log.Warn("trying again", "in", pause.String(), "after", after.Error())
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w (%w)", ctx.Err(), after)
	case <-time.After(pause):
		return nil
	}
}

// progress makes patience begin anew: a connection that breaks often, but
// brings something each time, is good enough.
func (p *patience) progress() { p.failures = 0 }
