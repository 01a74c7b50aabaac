package stage

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cloud is a node that asks a cloud and a medium for user data, and what they
// answer.
type cloud struct {
	*node
	answer string // of the service, "" for 500
	asked  int
	boot   int
}

func newCloud(t *testing.T, keys string) *cloud {
	t.Helper()
	c := &cloud{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.asked++
		switch {
		case r.URL.Path != "/metadata/v1/user-data":
			http.NotFound(w, r)
		case c.answer == "":
			w.WriteHeader(http.StatusForbidden)
		default:
			_, _ = w.Write([]byte(c.answer))
		}
	}))
	t.Cleanup(server.Close)
	c.node = newNode(t, map[string]string{"1.yaml": "stages: {network: [{name: s, datasource: {providers: [nocloud, digitalocean]" + keys + "}}]}"})
	c.Node = true
	c.MetadataServers = map[string]string{"digitalocean": server.URL}
	for _, dir := range []string{"proc/sys/kernel/random", "sys/class/dmi/id", "run/cos", "var/lib/cloud/seed/nocloud"} {
		if err := os.MkdirAll(filepath.Join(c.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.reboot()
	return c
}

// digitalOcean makes the firmware say that the machine is there.
func (c *cloud) digitalOcean() { c.write("sys/class/dmi/id/sys_vendor", "DigitalOcean\n") }

func (c *cloud) reboot() {
	c.boot++
	c.write("proc/sys/kernel/random/boot_id", strings.Repeat("x", c.boot)+"\n")
}

func (c *cloud) seed(text string) { c.write("var/lib/cloud/seed/nocloud/user-data", text) }

const (
	owners = "#cloud-config\nhostname: mine\n"
	others = "#cloud-config\nhostname: foreign\n"
	kept   = "oem/95_userdata.yaml"
)

// TestDoorCloses: an installed node takes user data at its first boot, and
// nobody's later.
func TestDoorCloses(t *testing.T) {
	c := newCloud(t, "")
	c.digitalOcean()
	c.answer = owners
	c.run("network")
	if c.read(kept) != owners {
		t.Fatalf("the first boot took %q\n%s", c.read(kept), c.log)
	}
	if info, err := os.Stat(filepath.Join(c.dir, "oem/.datasource.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the record: %v, %v", info, err)
	}
	c.reboot()
	c.answer, c.asked = others, 0
	c.seed(others)
	if r := c.run("network"); r.Outcome != Done || c.read(kept) != owners || c.asked > 0 {
		t.Errorf("the second boot took %q, asked %d: %+v", c.read(kept), c.asked, r.Steps)
	}
	if !strings.Contains(c.log.String(), "user data was taken from digitalocean") {
		t.Errorf("not said: %s", c.log)
	}
}

// TestDoorClosesWithoutUserData: who attaches a medium later is too late.
func TestDoorClosesWithoutUserData(t *testing.T) {
	c := newCloud(t, "")
	c.answer = others
	if r := c.run("network"); r.Outcome != Failed || c.asked > 0 {
		t.Errorf("a service that the firmware doesn't know was asked: %+v", r.Steps)
	}
	c.reboot()
	c.seed(others)
	if r := c.run("network"); r.Outcome != Done || !strings.HasPrefix(c.read(kept), "(") {
		t.Errorf("the second boot took %q: %+v", c.read(kept), r.Steps)
	}
}

// TestSameBootMayGoOn: a stage that runs again, or a later one, is the same boot.
func TestSameBootMayGoOn(t *testing.T) {
	c := newCloud(t, "")
	c.run("network")
	c.seed(owners)
	if c.run("network"); c.read(kept) != owners {
		t.Errorf("took %q\n%s", c.read(kept), c.log)
	}
}

// TestBrokenUserDataIsNotDone: it is said, and asked for again.
func TestBrokenUserDataIsNotDone(t *testing.T) {
	for _, broken := range []string{
		"#cloud-config\nhostname: [\n", "no config", "\x00\x01", "#cloud-config\na: 1\na: {b\n",
		"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/cloud-config\n\n#cloud-config\na: [\n\n--b--\n",
	} {
		c := newCloud(t, "")
		c.seed(broken)
		r := c.run("network")
		if r.Outcome != Failed || !strings.Contains(strings.Join(r.Steps[0].Errors, " "), "user data") || !strings.HasPrefix(c.read(kept), "(") {
			t.Errorf("%q: %+v, kept %q", broken, r.Steps, c.read(kept))
		}
		c.reboot()
		c.seed(owners)
		if c.run("network"); c.read(kept) != owners {
			t.Errorf("%q: mended, it was not taken: %q", broken, c.read(kept))
		}
	}
}

// TestServiceIsWaitedFor: where the firmware says that the node is at a cloud, a
// first boot without its service is not the last to ask.
func TestServiceIsWaitedFor(t *testing.T) {
	c := newCloud(t, "")
	c.digitalOcean()
	c.run("network")
	c.reboot()
	c.answer = owners
	if c.run("network"); c.read(kept) != owners {
		t.Errorf("took %q\n%s", c.read(kept), c.log)
	}
}

// TestSwitches: what a config asks for, and what a live system does.
func TestSwitches(t *testing.T) {
	c := newCloud(t, ", when: boot, any_platform: true")
	c.answer = others
	c.run("network")
	c.reboot()
	c.answer = owners
	if c.run("network"); c.read(kept) != owners {
		t.Errorf("when: boot took %q\n%s", c.read(kept), c.log)
	}
	c = newCloud(t, "")
	c.write("run/cos/live_mode", "")
	c.answer = owners
	if c.run("network"); c.read(kept) != owners {
		t.Errorf("the live system took %q\n%s", c.read(kept), c.log)
	}
}

// TestUserDataOfEarlierVersions closes the door too, and so does a record that
// can't be read.
func TestUserDataOfEarlierVersions(t *testing.T) {
	for _, file := range []string{kept, "oem/.datasource.json"} {
		c := newCloud(t, "")
		c.write(file, owners)
		c.seed(others)
		if c.run("network"); strings.Contains(c.read(kept), "foreign") {
			t.Errorf("%s: took %q", file, c.read(kept))
		}
	}
}
