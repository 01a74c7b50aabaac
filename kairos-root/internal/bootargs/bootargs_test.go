package bootargs

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/lib/deployment"
)

var digest = strings.Repeat("0123456789abcdef", 4)

func TestParse(t *testing.T) {
	base := Args{
		Image: digest, Verity: true, Store: "COS_STATE", Timeout: time.Minute, RebootDelay: 30 * time.Second,
		Fsck: FsckAuto, Repair: RepairPreen,
	}
	with := func(change func(*Args)) Args { a := base; change(&a); return a }
	for name, tc := range map[string]struct {
		line string
		want Args
	}{
		"plain":                  {"quiet kairos.image=sha256:" + digest, base},
		"newline":                {"kairos.image=sha256:" + digest + "\n", base},
		"quoted":                 {`x="a b" "kairos.image=sha256:` + digest + `"`, base},
		"same twice":             {"kairos.image=sha256:" + digest + " kairos.image=sha256:" + digest, base},
		"unverified":             {"kairos.image=?sha256:" + digest, with(func(a *Args) { a.Verity = false })},
		"recovery":               {"kairos.store=COS_RECOVERY kairos.image=sha256:" + digest, with(func(a *Args) { a.Store = "COS_RECOVERY" })},
		"a medium has more time": {"kairos.store=COS_LIVE kairos.image=sha256:" + digest, with(func(a *Args) { a.Store, a.Timeout = "COS_LIVE", 3*time.Minute })},
		"a medium is given less": {"kairos.timeout=9 kairos.store=COS_LIVE kairos.image=sha256:" + digest, with(func(a *Args) { a.Store, a.Timeout = "COS_LIVE", 9*time.Second })},
		"times":                  {"kairos.timeout=5 kairos.reboot-delay=2m kairos.image=sha256:" + digest, with(func(a *Args) { a.Timeout, a.RebootDelay = 5*time.Second, 2*time.Minute })},
		"no delay":               {"kairos.reboot_delay=0 kairos.image=sha256:" + digest, with(func(a *Args) { a.RebootDelay = 0 })},
		"shell":                  {"rd.kairos.shell kairos.image=sha256:" + digest, with(func(a *Args) { a.Shell = true })},
		"no shell":               {"rd.kairos.shell rd.kairos.shell=0 kairos.image=sha256:" + digest, base},
		"fsck":                   {"fsck.mode=force fsck.repair=yes kairos.image=sha256:" + digest, with(func(a *Args) { a.Fsck, a.Repair = FsckForce, RepairYes })},
		"volumes":                {"kairos.crypt=COS_OEM:" + uuid + " kairos.image=sha256:" + digest, with(func(a *Args) { a.Volumes = deployment.Volumes{"COS_OEM": uuid} })},
		"no volumes":             {"kairos.crypt= kairos.image=sha256:" + digest, with(func(a *Args) { a.Volumes = deployment.Volumes{} })},
		"other's words":          {"kairos.imagex=1 xkairos.image=2 kairos.image=sha256:" + digest, base},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(tc.line)
			if err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tc.want)
			}
		})
	}
}

const uuid = "01234567-89ab-cdef-0123-456789abcdef"

func TestParseErrors(t *testing.T) {
	for line, want := range map[string]string{
		"": "kernel argument kairos.image is missing",
		"kairos.image=sha256:" + digest + " kairos.image=sha256:" + strings.Repeat("0", 64): "given twice",
		"kairos.image=" + digest:                                                             "not of the form sha256:HEX",
		"kairos.image=sha256:" + strings.ToUpper(digest):                                     "not of the form sha256:HEX",
		"kairos.image=??sha256:" + digest:                                                    "not of the form sha256:HEX",
		"kairos.image=sha256:" + digest + " kairos.store=/dev/sda1":                          "no store has this label",
		"kairos.image=sha256:" + digest + " kairos.timeout=99999999999999999999":             "want a number of seconds",
		"kairos.image=sha256:" + digest + " kairos.timeout=-1":                               "want a number of seconds",
		"kairos.image=sha256:" + digest + " fsck.mode=maybe":                                 "want one of auto, force, skip",
		"kairos.image=sha256:" + digest + " kairos.crypt=COS_OEM":                            "want LABEL:UUID",
		"kairos.image=sha256:" + digest + " kairos.crypt=COS_OEM:" + uuid + " kairos.crypt=": "given twice",
		"kairos.image=sha256:" + digest + " rd.kairos.shell=perhaps":                         "want yes or no",
	} {
		a, err := Parse(line)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want %q", line, err, want)
		}
		if a.RebootDelay != DefaultRebootDelay {
			t.Errorf("%q: reboot delay %v beside the error", line, a.RebootDelay)
		}
	}
}

func TestFailureSettingsSurviveErrors(t *testing.T) {
	a, err := Parse("kairos.image=nonsense rd.kairos.shell kairos.reboot_delay=7")
	if err == nil || !a.Shell || a.RebootDelay != 7*time.Second {
		t.Errorf("got %+v, %v: want the shell and the delay beside an error", a, err)
	}
}

func TestMode(t *testing.T) {
	for store, want := range map[string]deployment.Mode{
		"COS_STATE": deployment.Active, "COS_RECOVERY": deployment.Recovery, "COS_LIVE": deployment.Live,
	} {
		if got, err := (Args{Store: store}).Mode(); got != want || err != nil {
			t.Errorf("%s: got %q, %v", store, got, err)
		}
	}
}

// Of two stores that are named, none is guessed.
func TestStoreTwice(t *testing.T) {
	_, err := Parse("kairos.image=sha256:" + digest + " kairos.store=COS_STATE quiet kairos.store=COS_RECOVERY")
	if err == nil || !strings.Contains(err.Error(), "given twice") {
		t.Errorf("error %v", err)
	}
	if _, err := Parse("kairos.image=sha256:" + digest + " kairos.store=COS_STATE kairos.store=COS_STATE"); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("quiet kairos.image=sha256:" + digest)
	f.Add("kairos.image=?sha256:" + digest + " kairos.store=COS_LIVE kairos.timeout=1h")
	f.Add(`"kairos.image=`)
	f.Fuzz(func(t *testing.T, line string) {
		a, err := Parse(line)
		if err == nil {
			if _, derr := deployment.ParseDigest("sha256:" + a.Image); derr != nil {
				t.Errorf("accepted image %q", a.Image)
			}
			if _, merr := a.Mode(); merr != nil {
				t.Errorf("accepted store %q", a.Store)
			}
		}
		if a.Timeout < 0 || a.RebootDelay < 0 || a.RebootDelay > 24*time.Hour {
			t.Errorf("times %v, %v", a.Timeout, a.RebootDelay)
		}
	})
}
