package datasource

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/kernelargs"
)

// maas is Canonical MAAS. The kernel command line has the address of the preseed, which
// has the address of the metadata and the login: OAuth 1.0 with plain signatures (RFC
// 5849, 3.4.4).
func maas(ctx context.Context, s *session) (raw, error) {
	line, err := s.Root.ReadFile("/proc/cmdline", source.MaxSize)
	if err != nil {
		return raw{}, err
	}
	preseed := ""
	for word := range kernelargs.Words(string(line)) {
		if address, ok := strings.CutPrefix(word, "cloud-config-url="); ok {
			preseed = address
		}
	}
	if preseed == "" {
		return raw{}, errAbsent
	}
	c := s.client // the address is in the path, and then in the preseed
	text, err := c.get(ctx, preseed)
	if err != nil {
		return raw{}, err
	}
	login, err := readPreseed(text)
	if err != nil {
		return raw{}, err
	}
	c.base = strings.TrimSuffix(login["metadata_url"], "/") + "/2012-03-01"
	signed := func() []string { return []string{"Authorization", login.header()} }
	name, err := c.get(ctx, "/meta-data/local-hostname", signed()...)
	if err != nil {
		return raw{}, err
	}
	data, err := c.optional(ctx, "/user-data", signed()...)
	return raw{userData: data, hostname: string(name), keys: []string{c.text(ctx, "/meta-data/public-keys", signed()...)}}, err
}

// maasLogin is datasource.MAAS of a preseed.
type maasLogin map[string]string

func readPreseed(text []byte) (maasLogin, error) {
	root, problems := tree.Parse("the preseed", text)
	if root == nil || problems.Failed() {
		return nil, errors.New("the preseed is not valid YAML")
	}
	block := root.Find(tree.Path{"datasource", "MAAS"})
	login := maasLogin{}
	for _, key := range []string{"metadata_url", "consumer_key", "consumer_secret", "token_key", "token_secret"} {
		if n := block.Field(key); n != nil && n.Scalar() {
			login[key] = n.Text
		}
	}
	u, err := url.Parse(login["metadata_url"])
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || login["token_key"] == "" {
		return nil, errors.New("the preseed has no datasource.MAAS with metadata_url and token_key")
	}
	return login, nil
}

func (l maasLogin) header() string {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	quote := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
	return fmt.Sprintf(`OAuth oauth_consumer_key="%s", oauth_token="%s", oauth_signature_method="PLAINTEXT", `+
		`oauth_signature="%s%%26%s", oauth_nonce="%s", oauth_timestamp="%s", oauth_version="1.0"`,
		quote(l["consumer_key"]), quote(l["token_key"]), quote(l["consumer_secret"]), quote(l["token_secret"]),
		hex.EncodeToString(nonce[:]), strconv.FormatInt(time.Now().Unix(), 10))
}
