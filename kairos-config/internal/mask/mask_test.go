package mask

import (
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

func TestTree(t *testing.T) {
	for _, c := range []struct{ yaml, want string }{
		{"users: [{name: a, passwd: $6$x, lock_passwd: true}]", `{"users":[{"name":"a","passwd":"(secret)","lock_passwd":true}]}`},
		{"p2p: {network_token: abc}", `{"p2p":{"network_token":"(secret)"}}`},
		{"token: ''", `{"token":""}`},
		{"pin_token: 1234", `{"pin_token":"(secret)"}`},
		{"tokens: [a, {b: c}]", `{"tokens":["(secret)",{"b":"(secret)"}]}`},
		{"k3s: {args: [--token=abc, --token abc, --node-ip=1.2.3.4]}", `{"k3s":{"args":["--token=(secret)","--token (secret)","--node-ip=1.2.3.4"]}}`},
		{"env: [K3S_TOKEN=abc, HTTP_PROXY=http://u:pw@proxy:80/x]", `{"env":["K3S_TOKEN=(secret)","HTTP_PROXY=http://(secret)@proxy:80/x"]}`},
		{"commands: ['k3s agent --token abc --server https://x', 'PASSWORD=x run']", `{"commands":["k3s agent --token (secret) --server https://x","PASSWORD=(secret)"]}`},
		{"ssh_authorized_keys: [ssh-rsa AAAA== me@host]", `{"ssh_authorized_keys":["ssh-rsa AAAA== me@host"]}`},
		{"content: \"server: x\\n  token: abc\\nPrivateKey = abc\\nPASSWORD='a b c'\\n\"", `{"content":"server: x\n  token: (secret)\nPrivateKey = (secret)\nPASSWORD=(secret)\n"}`},
		{"content: \"a\\n-----BEGIN EC PRIVATE KEY-----\\nabc\\n-----END EC PRIVATE KEY-----\\nb\"", `{"content":"a\n(secret)\nb"}`},
		{"image: quay.io/x/y:1@sha256:00", `{"image":"quay.io/x/y:1@sha256:00"}`},
	} {
		n, problems := tree.Parse("f", []byte(c.yaml))
		if n == nil {
			t.Fatal(problems)
		}
		before, _ := n.MarshalJSON()
		got, _ := Tree(n).MarshalJSON()
		if string(got) != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
		if after, _ := n.MarshalJSON(); string(after) != string(before) {
			t.Errorf("the config itself changed: %s", after)
		}
	}
}
