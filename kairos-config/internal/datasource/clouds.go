package datasource

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// linkLocal is the address of most metadata services.
const linkLocal = "http://169.254.169.254"

// aws is Amazon EC2's instance metadata service, version 2: each request
// carries a token. Services that imitate version 1 have no tokens.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
func aws(ctx context.Context, s *session) (raw, error) {
	c := s.client.at(linkLocal)
	var header []string
	token, err := c.do(ctx, http.MethodPut, "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "300")
	var status *statusError
	switch {
	case err == nil && !validToken(token):
		return raw{}, errors.New("/latest/api/token: not a token")
	case err == nil:
		header = []string{"X-aws-ec2-metadata-token", string(token)}
	case errors.As(err, &status) && (status.code == http.StatusNotFound || status.code == http.StatusMethodNotAllowed):
	default:
		return raw{}, err
	}
	data, err := c.optional(ctx, "/latest/user-data", header...)
	if err != nil {
		return raw{}, err
	}
	got := raw{userData: data, hostname: c.text(ctx, "/latest/meta-data/local-hostname", header...)}
	for line := range strings.Lines(c.text(ctx, "/latest/meta-data/public-keys/", header...)) {
		index, _, ok := strings.Cut(strings.TrimSpace(line), "=") // 0=name
		if ok && index != "" && strings.Trim(index, "0123456789") == "" && len(got.keys) < maxKeys {
			got.keys = append(got.keys, c.text(ctx, "/latest/meta-data/public-keys/"+index+"/openssh-key", header...))
		}
	}
	return got, nil
}

// validToken matches tokens that cannot change the syntax of headers.
func validToken(token []byte) bool {
	return len(token) > 0 && len(token) < 1024 && printable(string(token))
}

// azure is Microsoft Azure's instance metadata service.
// https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service
func azure(ctx context.Context, s *session) (raw, error) {
	c := s.client.at(linkLocal)
	const version = "?api-version=2021-02-01&format=text"
	encoded, err := c.optional(ctx, "/metadata/instance/compute/userData"+version, "Metadata", "true")
	if err != nil {
		return raw{}, err
	}
	data, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(encoded)))
	if err != nil {
		return raw{}, fmt.Errorf("user data: %w", err)
	}
	return raw{
		userData: data,
		hostname: c.text(ctx, "/metadata/instance/compute/name"+version, "Metadata", "true"),
		keys:     []string{c.text(ctx, "/metadata/instance/compute/publicKeys/0/keyData"+version, "Metadata", "true")},
	}, nil
}

// gcp is Google Compute Engine's metadata server.
// https://cloud.google.com/compute/docs/metadata/overview
func gcp(ctx context.Context, s *session) (raw, error) {
	c := s.client.at(linkLocal)
	const top = "/computeMetadata/v1/"
	google := []string{"Metadata-Flavor", "Google"}
	data, err := c.optional(ctx, top+"instance/attributes/user-data", google...)
	if err != nil {
		return raw{}, err
	}
	got := raw{userData: data, hostname: c.text(ctx, top+"instance/hostname", google...)}
	for _, path := range []string{"instance/attributes/ssh-keys", "project/attributes/ssh-keys"} {
		for line := range strings.Lines(c.text(ctx, top+path, google...)) {
			_, key, ok := strings.Cut(line, ":") // user:key
			if ok {
				got.keys = append(got.keys, key)
			}
		}
	}
	return got, nil
}

// openstack is OpenStack's metadata service.
// https://docs.openstack.org/nova/latest/user/metadata.html
func openstack(ctx context.Context, s *session) (raw, error) {
	c := s.client.at(linkLocal)
	var meta openstackMeta
	if err := c.object(ctx, "/openstack/latest/meta_data.json", &meta); err != nil {
		return raw{}, err
	}
	data, err := c.optional(ctx, "/openstack/latest/user_data")
	return meta.raw(data), err
}

// openstackMeta is meta_data.json, on the network and on the config drive.
type openstackMeta struct {
	Hostname   string            `json:"hostname"`
	PublicKeys map[string]string `json:"public_keys"`
}

func (m openstackMeta) raw(data []byte) raw {
	got := raw{userData: data, hostname: m.Hostname}
	for _, key := range m.PublicKeys {
		got.keys = append(got.keys, key)
	}
	sort.Strings(got.keys)
	return got
}

// hetzner is Hetzner Cloud's metadata service.
// https://docs.hetzner.cloud/reference/cloud#server-metadata
func hetzner(ctx context.Context, s *session) (raw, error) {
	c := s.client.at(linkLocal)
	data, err := c.optional(ctx, "/hetzner/v1/userdata")
	if err != nil {
		return raw{}, err
	}
	got := raw{userData: data, hostname: c.text(ctx, "/hetzner/v1/metadata/hostname")}
	if c.text(ctx, "/hetzner/v1/metadata/public-keys") != "" {
		if err := c.object(ctx, "/hetzner/v1/metadata/public-keys", &got.keys); err != nil {
			s.Log.Warn(fmt.Sprintf("datasource hetzner: %v", err))
		}
	}
	return got, nil
}

// vultr is Vultr's metadata service.
// https://www.vultr.com/metadata/
func vultr(ctx context.Context, s *session) (raw, error) {
	c := s.client.at(linkLocal)
	if _, err := c.get(ctx, "/v1/"); err != nil {
		return raw{}, err
	}
	data, err := c.optional(ctx, "/user-data/user-data")
	return raw{userData: data, hostname: c.text(ctx, "/v1/hostname"), keys: []string{c.text(ctx, "/v1/public-keys")}}, err
}

// digitalOcean is DigitalOcean's metadata service.
// https://docs.digitalocean.com/reference/api/metadata/
func digitalOcean(ctx context.Context, s *session) (raw, error) {
	c := s.client.at(linkLocal)
	data, err := c.optional(ctx, "/metadata/v1/user-data")
	if err != nil {
		return raw{}, err
	}
	return raw{
		userData: data, hostname: c.text(ctx, "/metadata/v1/hostname"), keys: []string{c.text(ctx, "/metadata/v1/public-keys")},
	}, nil
}

// packet is Equinix Metal's metadata service.
// https://deploy.equinix.com/developers/docs/metal/server-metadata/metadata/
func packet(ctx context.Context, s *session) (raw, error) {
	c := s.client.at("https://metadata.platformequinix.com")
	var meta struct {
		Hostname string   `json:"hostname"`
		SSHKeys  []string `json:"ssh_keys"`
	}
	if err := c.object(ctx, "/metadata", &meta); err != nil {
		return raw{}, err
	}
	data, err := c.optional(ctx, "/userdata")
	return raw{userData: data, hostname: meta.Hostname, keys: meta.SSHKeys}, err
}

// scaleway is Scaleway's metadata service. It gives user data only to clients with a
// privileged port, which on a node only root can use.
// https://www.scaleway.com/en/developers/api/instances/#path-user-data
func scaleway(ctx context.Context, s *session) (raw, error) {
	c := s.client.at("http://169.254.42.42")
	var meta struct {
		Hostname string `json:"hostname"`
		Keys     []struct {
			Key string `json:"key"`
		} `json:"ssh_public_keys"`
	}
	if err := c.object(ctx, "/conf?format=json", &meta); err != nil {
		return raw{}, err
	}
	got := raw{hostname: meta.Hostname}
	for _, k := range meta.Keys {
		got.keys = append(got.keys, k.Key)
	}
	c.http.Transport.(*http.Transport).DialContext = privileged
	c.http.CloseIdleConnections()
	var err error
	got.userData, err = c.optional(ctx, "/user_data/cloud-init")
	return got, err
}

// privileged connects from a port below 1024. It tries several, since some may be in
// use.
func privileged(ctx context.Context, network, address string) (conn net.Conn, err error) {
	for port := 1023; port > 1000; port-- {
		d := net.Dialer{Timeout: dialTimeout, LocalAddr: &net.TCPAddr{Port: port}}
		if conn, err = d.DialContext(ctx, network, address); err == nil || ctx.Err() != nil {
			return conn, err
		}
		if !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return nil, err
		}
	}
	return nil, err
}

// metaldata is the metadata server of metaldata.
func metaldata(ctx context.Context, s *session) (raw, error) {
	c := s.client.at("http://metaldata")
	name, err := c.get(ctx, "/get/meta/hostname")
	if err != nil {
		return raw{}, err
	}
	data, err := c.optional(ctx, "/get/user")
	return raw{userData: data, hostname: string(name), keys: []string{c.text(ctx, "/get/meta/authorized-keys")}}, err
}
