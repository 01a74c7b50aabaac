package datasource

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
)

func zip(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestNames: the schema knows the providers that there are.
func TestNames(t *testing.T) {
	if !slices.Equal(Names(), schema.Providers) {
		t.Errorf("got %v\nthe schema has %v", Names(), schema.Providers)
	}
}

func TestLocal(t *testing.T) {
	oem := func(texts ...string) string {
		table := "\x0b\x05\x00\x11\x02"
		for _, s := range texts {
			table += s + "\x00"
		}
		return table + "\x00"
	}
	medium := t.TempDir()
	for name, content := range map[string]string{
		"user-data": config, "meta-data": "local-hostname: from-medium\n",
		"openstack/latest/user_data": config, "openstack/latest/meta_data.json": `{"hostname": "from-drive"}`,
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(medium, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(medium, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	mount := func(device string) (string, func(), error) {
		switch filepath.Base(device) {
		case "cidata", "config-2", "sr1":
			return medium, func() {}, nil
		}
		return "", nil, errAbsent
	}
	for name, c := range map[string]struct {
		provider, path, host string
		files                map[string]string
	}{
		"file":           {"file", "/root/ud", "", map[string]string{"root/ud": config}},
		"credential":     {"credential", "", "", map[string]string{"run/credentials/@system/kairos.userdata": config}},
		"smbios":         {"smbios", "", "", map[string]string{"sys/firmware/dmi/entries/11-0/raw": oem("other", oemText+config)}},
		"smbios binary":  {"smbios", "", "", map[string]string{"sys/firmware/dmi/entries/11-0/raw": oem("x"), "sys/firmware/dmi/entries/11-1/raw": oem(oemBinary + base64.StdEncoding.EncodeToString(zip(t, []byte(config))))}},
		"nocloud disk":   {"nocloud", "", "from-medium", map[string]string{"dev/disk/by-label/cidata": ""}},
		"nocloud seed":   {"nocloud", "", "", map[string]string{"var/lib/cloud/seed/nocloud/user-data": config}},
		"cdrom by label": {"cdrom", "", "from-medium", map[string]string{"dev/disk/by-label/cidata": ""}},
		"second cdrom":   {"cdrom", "", "from-medium", map[string]string{"dev/sr0": "", "dev/sr1": "", "dev/srx": ""}},
		"config drive":   {"config-drive", "", "from-drive", map[string]string{"dev/disk/by-label/config-2": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Fetch(t.Context(), []string{c.provider}, Options{Root: machine(t, c.files), Path: c.path, Mount: mount})
			if err != nil || string(got.UserData.Text) != config || got.Hostname != c.host || got.Provider != c.provider {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	for _, name := range []string{"credential", "smbios", "nocloud", "cdrom", "config-drive", "vmware"} {
		_, err := Fetch(t.Context(), []string{name}, Options{Root: machine(t, nil), Mount: mount})
		if !errors.Is(err, ErrNothing) || !strings.Contains(err.Error(), "datasource "+name+": not here") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestVMware runs a stand-in for the hypervisor's tool, with its answers.
func TestVMware(t *testing.T) {
	bin := t.TempDir()
	script := "#!/bin/sh\ncase $1 in\n'info-get guestinfo.userdata') echo " + base64.StdEncoding.EncodeToString(zip(t, []byte(config))) +
		";;\n'info-get guestinfo.userdata.encoding') echo gzip+base64;;\n'info-get guestinfo.metadata') echo 'local-hostname: from-vm';;\n*) echo No value found >&2; exit 1;;\nesac\n"
	if err := os.WriteFile(filepath.Join(bin, "vmware-rpctool"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	got, err := Fetch(t.Context(), []string{"vmware"}, Options{Root: machine(t, nil)})
	if err != nil || string(got.UserData.Text) != config || got.Hostname != "from-vm" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestOrder: media before the network, and in the network the first of the
// list, whoever answers first.
func TestOrder(t *testing.T) {
	first := httptest.NewServer(service{"/metadata/v1/user-data": config})
	defer first.Close()
	second := httptest.NewServer(service{"/hetzner/v1/userdata": config})
	defer second.Close()
	base := map[string]string{"digitalocean": first.URL, "hetzner": second.URL}
	for _, c := range []struct{ names, files, want string }{
		{"digitalocean hetzner", "", "digitalocean"},
		{"hetzner digitalocean", "", "hetzner"},
		{"hetzner file", config, "file"},
		{"file hetzner", "#!ipxe\n", "hetzner"},
	} {
		got, err := Fetch(t.Context(), strings.Fields(c.names), Options{Root: machine(t, map[string]string{"f": c.files}), Path: "/f", AnyPlatform: true, Base: base})
		if err != nil || got.Provider != c.want {
			t.Errorf("%s: got %+v, %v", c.names, got, err)
		}
	}
	got, err := Fetch(t.Context(), []string{"vultr"}, Options{Root: machine(t, nil), AnyPlatform: true, Base: map[string]string{"vultr": httptest.NewServer(service{"/v1/": "", "/v1/hostname": "only-a-name"}).URL}})
	if err != nil || got.Hostname != "only-a-name" || got.UserData.Kind != None {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := Fetch(t.Context(), []string{"awz"}, Options{}); err == nil || !strings.Contains(err.Error(), `unknown datasource "awz"`) {
		t.Errorf("got %v", err)
	}
}

// TestAbsent: nobody listens there.
func TestAbsent(t *testing.T) {
	server := httptest.NewServer(service{})
	server.Close()
	_, err := Fetch(t.Context(), []string{"aws", "openstack"}, Options{Root: machine(t, nil), AnyPlatform: true, Base: map[string]string{"aws": server.URL, "openstack": server.URL}, Backoff: time.Millisecond})
	if !errors.Is(err, ErrNothing) || strings.Count(err.Error(), "connection refused") != 2 {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Fetch(ctx, []string{"aws"}, Options{Root: machine(t, nil)}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestUserData(t *testing.T) {
	multipart := func(parts ...string) string {
		text := "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"BB\"\n\n"
		for _, p := range parts {
			text += "--BB\n" + p + "\n"
		}
		return text + "--BB--\n"
	}
	for _, c := range []struct{ name, data, kind, text string }{
		{"config", config, "config", config},
		{"byte order mark", "\ufeff" + config, "config", config},
		{"stages without header", "stages: {boot: []}", "config", "stages: {boot: []}"},
		{"gzip", string(zip(t, []byte(config))), "config", config},
		{"script", "#!/bin/sh\necho\n", "script", "#!/bin/sh\necho\n"},
		{"ipxe", "#!ipxe\nboot\n", "none", ""},
		{"empty", " \n", "none", ""},
		{"multipart", multipart("Content-Type: text/x-shellscript\n\n#!/bin/sh", "Content-Type: text/cloud-config\n\n#cloud-config\na: 1"), "config", "#cloud-config\na: 1"},
		{"multipart base64", multipart("Content-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString([]byte(config))), "config", config},
		{"multipart script", multipart("Content-Type: text/plain\n\nhello", "\n#!/bin/sh"), "script", "#!/bin/sh"},
		{"two configs", multipart("Content-Type: text/cloud-config\n\n#cloud-config\na: 1\nl: [x]", "Content-Type: text/cloud-config\n\n#cloud-config\na: 2\nl: [y]"), "config", "#cloud-config\n{\"a\":2,\"l\":[\"x\",\"y\"]}"},
		{"no header", multipart("Content-Type: text/cloud-config; charset=utf-8\n\na: 1"), "config", "#cloud-config\na: 1"},
		{"archive", "#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    a: 1\n- '#!/bin/sh'\n- {type: text/plain, content: x}\n", "config", "#cloud-config\na: 1\n"},
		{"archive of texts", "#cloud-config-archive\n---\n- |\n  #cloud-config\n  a: 1\n", "config", "#cloud-config\na: 1\n"},
		{"archive of scripts", "#cloud-config-archive\n- '#!/bin/a'\n- content: '#!/bin/b'\n", "script", "#!/bin/a"},
		{"multipart with an archive", multipart("Content-Type: text/cloud-config-archive\n\n#cloud-config-archive\n- {type: text/cloud-config, content: 'a: 1'}"), "config", "#cloud-config\na: 1"},
		{"multipart of others", multipart("Content-Type: text/plain\n\nhello"), "none", ""},
	} {
		got, err := ReadUserData([]byte(c.data))
		if err != nil || string(got.Kind) != c.kind || string(got.Text) != c.text {
			t.Errorf("%s: got %q, %v", c.name, got, err)
		}
	}
	for _, c := range []struct{ name, data, want string }{
		{"include", "#include\nhttp://x\n", `"#include" is not supported`},
		{"jinja", "## template: jinja\n#x\n", "is not supported"},
		{"text", "hello", "not a config or a script"},
		{"archive without a list", "#cloud-config-archive\na: 1\n", "is no list"},
		{"broken archive", "#cloud-config-archive\n- [\n", "not valid YAML"},
		{"broken item", "#cloud-config-archive\n- '#cloud-config\n\n  a: ['\n", "the config is not valid YAML"},
		{"item without content", "#cloud-config-archive\n- {type: text/plain}\n", "line 2: an item is a text"},
		{"broken part", multipart("\n#cloud-config\na: 1", "\n#cloud-config\nb: ["), "the config is not valid YAML"},
		{"binary", "\x00\x01", "not UTF-8 text, and not gzip"},
		{"no boundary", "Content-Type: multipart/mixed\n\nx", "without a boundary"},
		{"cut", "Content-Type: multipart/mixed; boundary=B\n\n--B\n\nx", "read multipart text"},
		{"many", multipart(slices.Repeat([]string{"\nx"}, 60)...), "more than 50 parts"},
	} {
		if got, err := ReadUserData([]byte(c.data)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %q, %v", c.name, got, err)
		}
	}
}

// TestBombInParts: compressed parts that hold compressed parts cost no more than
// the bound, however small they are.
func TestBombInParts(t *testing.T) {
	inner := []byte("x" + strings.Repeat(" ", 1<<19))
	for range 3 {
		part := "Content-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(zip(t, inner)) + "\n"
		inner = []byte("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n"+part, 40) + "--b--\n")
	}
	if got, err := ReadUserData(inner); !errors.Is(err, errBomb) {
		t.Errorf("got %v, %v of %d bytes", got, err, len(inner))
	}
}

// FuzzUserData: whatever it is, it is a text within the bounds or an error.
func FuzzUserData(f *testing.F) {
	for _, s := range []string{config, "#!/bin/sh\n", "Content-Type: multipart/mixed; boundary=B\n\n--B\n\n#cloud-config\n--B--", "mime-version: 1.0\ncontent-type: multipart/x; boundary=\"\"\n\n"} {
		f.Add([]byte(s))
		f.Add(zip(f, []byte(s)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ReadUserData(data)
		if err == nil && len(got.Text) > 1<<20 || err != nil && got.Kind != "" {
			t.Errorf("got %s, %d bytes, %v", got.Kind, len(got.Text), err)
		}
	})
}

// FuzzOEMStrings: no table of the firmware makes the reader fall over.
func FuzzOEMStrings(f *testing.F) {
	f.Add([]byte("\x0b\x05\x00\x11\x02one\x00two\x00\x00"))
	f.Add([]byte("\x0b\xff\x00\x11\x02"))
	f.Fuzz(func(t *testing.T, table []byte) {
		for _, s := range oemStrings(table) {
			if len(s) > len(table) {
				t.Error(s)
			}
		}
	})
}
