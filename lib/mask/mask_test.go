package mask

import (
	"strings"
	"testing"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"K3S_TOKEN=abc":                                                  "K3S_TOKEN=(secret)",
		"HTTP_PROXY=http://u:pw@proxy:80/x":                              "HTTP_PROXY=http://(secret)@proxy:80/x",
		"k3s agent --token abc --server https://x":                       "k3s agent --token (secret) --server https://x",
		"https://abc@github.com/o/r":                                     "https://(secret)@github.com/o/r",
		"ssh://git@github.com/o/r":                                       "ssh://git@github.com/o/r",
		"ssh://git:pw@github.com/o/r":                                    "ssh://(secret)@github.com/o/r",
		"get https://h/?k=abc&x=1: status 403":                           "get https://h/?k=(secret)&x=(secret) status 403",
		"https://h/c#sha256=00ff":                                        "https://h/c#sha256=00ff",
		"fatal: unable to access 'https://abc@h/': 403":                  "fatal: unable to access 'https://(secret)@h/': 403",
		"curl -u admin:abc https://x":                                    "curl -u admin:(secret) https://x",
		"journalctl -u k3s":                                              "journalctl -u k3s",
		"curl -H 'Authorization: Bearer abc' https://x":                  "curl -H 'Authorization: (secret)' https://x",
		"curl -H \"X-Vault-Token: abc\" https://x":                       "curl -H \"X-Vault-Token: (secret)\" https://x",
		"echo abc | passwd --stdin root":                                 "echo (secret) | passwd --stdin root",
		"echo root:abc | chpasswd":                                       "echo (secret) | chpasswd",
		"echo abc | docker login --password-stdin":                       "echo (secret) | docker login --password-stdin",
		"sshpass -p abc ssh x":                                           "sshpass -p (secret) ssh x",
		"mysql -pabc db":                                                 "mysql -p(secret) db",
		"mount -o username=a,password=abc //h/x /mnt":                    "mount -o username=a,password=(secret) //h/x /mnt",
		"K10abc::server:def":                                             "(secret)",
		"machine x login y password abc":                                 "machine x login y password (secret)",
		"network={\n  ssid=\"x\"\n  psk=\"abc\"\n}\n":                    "network={\n  ssid=\"x\"\n  psk=(secret)\n}\n",
		"root:$6$salt$hash:19000":                                        "root:(secret):19000",
		"AWS_KEY: abc":                                                   "AWS_KEY: (secret)",
		"server: x\n  token: abc\nPASSWORD='a b c'\n":                    "server: x\n  token: (secret)\nPASSWORD=(secret)\n",
		"ssh-rsa AAAA== me@host":                                         "ssh-rsa AAAA== me@host",
		"oci:me:pw@quay.io/x/y:1":                                        "(secret)@quay.io/x/y:1",
		"pull \"me:pw@h:5000/x\": unknown":                               "pull \"(secret)@h:5000/x\": unknown",
		"docker://me:pw@h/x":                                             "docker://(secret)@h/x",
		"docker://h:5000/x:1@sha256:00":                                  "docker://h:5000/x:1@sha256:00",
		"Get \"https://s3.example/b?X-Amz-Signature=ab&Expires=1\": EOF": "Get \"https://s3.example/b?X-Amz-Signature=(secret)&Expires=(secret)\": EOF",
		"--passphrase-file: add --enroll passphrase":                     "--passphrase-file: add --enroll passphrase",
		"--pin-file=/run/pin --token-file /run/token":                    "--pin-file=/run/pin --token-file /run/token",
		"--pin=1234":                             "--pin=(secret)",
		"quay.io/x/y:1@sha256:00":                "quay.io/x/y:1@sha256:00",
		"token: ${credential:k3s}":               "token: ${credential:k3s}",
		"stage boot: step 2 of 3: Keys of alice": "stage boot: step 2 of 3: Keys of alice",
		"open /etc/keys/a: no such file":         "open /etc/keys/a: no such file",
		"a\n-----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY-----\nb": "a\n(secret)\nb",
	} {
		if got := Text(in); got != want {
			t.Errorf("%q:\ngot  %q\nwant %q", in, got, want)
		}
		if again := Text(Text(in)); again != Text(in) {
			t.Errorf("%q: a second time it becomes %q", in, again)
		}
	}
}

// TestMessage: what a message is about is no name of a secret, and the addresses
// in it are those of a text.
func TestMessage(t *testing.T) {
	for in, want := range map[string]string{
		"io.kairos.crypt1.add-secret: only root may": "io.kairos.crypt1.add-secret: only root may",
		"token: get https://h/?t=abc: EOF":           "token: get https://h/?t=(secret) EOF",
		"stage docker://me:pw@h/x: --token abc":      "stage docker://(secret)@h/x: --token (secret)",
		"add --save-recovery-key FILE":               "add --save-recovery-key FILE",
		"exit status 1: K3S_TOKEN=abc":               "exit status 1: K3S_TOKEN=(secret)",
	} {
		if got := Message(in); got != want {
			t.Errorf("%q:\ngot  %q\nwant %q", in, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"passwd", "K3S_TOKEN", "SIGNING_KEY", "CLIENT_AUTH", "PASS", "DB_DSN", "private-key", "pin"} {
		if !Value(name) {
			t.Errorf("%s is no secret", name)
		}
	}
	for _, name := range []string{"lock_passwd", "ssh_authorized_keys", "keymap", "public_key", "passthrough", "hostname", "monkey", "author"} {
		if Value(name) {
			t.Errorf("%s is a secret", name)
		}
	}
}

// FuzzText: what stands where a secret stands is never in what comes out, and no
// text makes it panic.
func FuzzText(f *testing.F) {
	f.Add("curl ", " https://x")
	f.Add("a: |\n ", "\nb")
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.Contains(before+after, "hunter2") || strings.ContainsAny(before, "'\"") {
			return
		}
		for _, secret := range []string{"https://hunter2@h/", "https://u:hunter2@h/x", "\nK3S_TOKEN=hunter2\n"} {
			if got := Text(before + " " + secret + " " + after); strings.Contains(got, "hunter2") {
				t.Errorf("%q", got)
			}
		}
	})
}
