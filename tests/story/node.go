package story

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/tests/registry"
	"github.com/kairos-io/toolkit/tests/vm"
)

// Node is a machine with a disk of its own, from before its installation on. Its folder keeps its
// disk, its firmware's variables and its TPM, and the log of its console.
type Node struct {
	World    *World
	Registry *registry.Door // by which this node, and no other, gets images
	Dir      string
	Machine  *vm.Machine // the running one, or the last that ran
	SSH      int         // see vm.Config
	Detach   bool        // see vm.Config
	Observe  func(vm.Event)
	Log      string // of what is written to the node's own disk: see vm.Disk

	resume  string        // saved state that the next start goes on from
	written int64         // to the system disk, by machines that have ended
	used    time.Duration // processor time, by machines that have ended
}

const systemDisk = "system.qcow2" // file name in a node's folder

// DiskSize is the size of a node's disk in bytes. Its file grows as the disk is written.
const DiskSize = 10 << 30

// NewNode makes a node with an empty disk.
func (w *World) NewNode(ctx context.Context, dir string) (*Node, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	n, err := w.Node(dir)
	if err != nil {
		return nil, err
	}
	return n, vm.CreateDisk(ctx, n.disk(), DiskSize)
}

// Node is the node that was made in a folder before.
func (w *World) Node(dir string) (*Node, error) {
	door, err := w.Registry.Open()
	return &Node{World: w, Registry: door, Dir: dir}, err
}

// Ref names a version in the registry as this node sees it.
func (n *Node) Ref(version string) string {
	return n.Registry.Host() + "/" + Repository + ":" + version
}

func (n *Node) disk() string { return filepath.Join(n.Dir, systemDisk) }

// Console is the file with all that the node's console has said.
func (n *Node) Console() string { return filepath.Join(n.Dir, "console.log") }

// Start starts the node from its own disk, with more disks beside it.
func (n *Node) Start(ctx context.Context, more ...vm.Disk) error {
	return n.start(ctx, append([]vm.Disk{n.system()}, more...)...)
}

// StartBehind is Start with disks that the kernel finds before the node's own.
func (n *Node) StartBehind(ctx context.Context, other ...vm.Disk) error {
	return n.start(ctx, append(other, n.system())...)
}

// StartPlain starts the machine from the plain disk (see World.Plain) and waits until it is up.
func (n *Node) StartPlain(ctx context.Context, plain string) error {
	disk := filepath.Join(n.Dir, "plain.qcow2")
	if err := vm.CreateOverlay(ctx, disk, plain, "raw"); err != nil {
		return err
	}
	return n.RestartPlain(ctx)
}

// RestartPlain starts the machine that StartPlain started before from the same disk.
func (n *Node) RestartPlain(ctx context.Context) error {
	disk := filepath.Join(n.Dir, "plain.qcow2")
	if err := n.start(ctx, vm.Disk{Name: "system", Path: disk, Format: "qcow2"}); err != nil {
		return err
	}
	return n.Ready(ctx)
}

func (n *Node) system() vm.Disk {
	return vm.Disk{Name: "system", Path: n.disk(), Format: "qcow2", Log: n.Log}
}

// StartLive starts the node from the live medium and waits until it is up.
func (n *Node) StartLive(ctx context.Context) error {
	medium := filepath.Join(n.Dir, "live.qcow2")
	if err := vm.CreateOverlay(ctx, medium, n.World.Live, "raw"); err != nil {
		return err
	}
	err := n.start(ctx,
		vm.Disk{Name: "live", Path: medium, Format: "qcow2"},
		n.system())
	if err != nil {
		return err
	}
	return n.Ready(ctx)
}

// StartCD starts the node with a CD in a drive, which the firmware tries before the disk.
func (n *Node) StartCD(ctx context.Context, cd string) error {
	return n.start(ctx, vm.Disk{Name: "cd", Path: cd, Format: "raw", CD: true}, n.system())
}

func (n *Node) start(ctx context.Context, disks ...vm.Disk) error {
	n.settle()
	machine, err := vm.Start(ctx, vm.Config{
		Dir: n.Dir, Disks: disks, KVM: n.World.KVM, SSH: n.SSH, Resume: n.resume, Detach: n.Detach, Observe: n.Observe,
	})
	if err != nil {
		return err
	}
	n.Machine, n.resume = machine, ""
	return nil
}

// settle counts what the machine that ran last has written.
func (n *Node) settle() {
	if n.Machine != nil {
		n.written, n.used = n.Written(), n.CPU()
		n.Machine = nil
	}
}

// Written is what was written to the system disk so far, in bytes.
func (n *Node) Written() int64 {
	if n.Machine == nil {
		return n.written
	}
	traffic, err := n.Machine.DiskIO()
	if err != nil {
		return n.written // killed: nobody can ask it any more
	}
	return n.written + traffic["system"].Written
}

// Save saves the running machine's state in the node's folder, and ends the machine.
func (n *Node) Save(ctx context.Context) error {
	return n.Machine.Save(ctx, filepath.Join(n.Dir, savedState))
}

// CPU is the processor time that the node's machines have used so far.
func (n *Node) CPU() time.Duration {
	if n.Machine == nil {
		return n.used
	}
	return n.used + n.Machine.CPU()
}

// Close ends the machine, if it runs, and closes its way to the registry.
func (n *Node) Close() {
	if n.Machine != nil {
		n.Machine.Kill()
	}
	n.Registry.Close()
}

// Ready waits until the node has booted and all its units have come up.
func (n *Node) Ready(ctx context.Context) error {
	return n.ReadyAt(ctx, n.Machine.Boots())
}

// ReadyAt is Ready of the boot of that number since the machine's start, or a later one.
func (n *Node) ReadyAt(ctx context.Context, boot int) error {
	if err := n.Machine.WaitBoot(ctx, boot); err != nil {
		return err
	}
	result, err := n.Machine.Run(ctx, "systemctl is-system-running --wait")
	if err != nil {
		return err
	}
	if state := strings.TrimSpace(result.Stdout); state != "running" {
		failed, err := n.Machine.Run(ctx, "systemctl --failed --no-legend --plain; journalctl -b --no-pager -p err -o cat | tail -30")
		return fmt.Errorf("the node is %s, not running (%v):\n%s", state, err, failed.Output())
	}
	return nil
}

// Reboot reboots the node and waits until it is ready again.
func (n *Node) Reboot(ctx context.Context) error {
	next := n.Machine.Boots() + 1
	if err := n.Machine.Reboot(ctx); err != nil {
		return err
	}
	return n.ReadyAt(ctx, next)
}

// Login returns the command that logs in to the node as its operator.
func (n *Node) Login(ctx context.Context) ([]string, error) {
	key, _, err := Key(ctx)
	return []string{
		"ssh", "-i", key, "-p", strconv.Itoa(n.SSH), "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no",
		"-o", "LogLevel=ERROR", "kairos@127.0.0.1",
	}, err
}

// Install installs the running live system on the node's disk with the story's config. What the
// installer says goes to live as well, unless that is nil.
func (n *Node) Install(ctx context.Context, live io.Writer, option ...string) (vm.Result, error) {
	config, err := CloudConfig(ctx)
	if err != nil {
		return vm.Result{}, err
	}
	if err := n.WriteFile(ctx, "/run/node.yaml", config); err != nil {
		return vm.Result{}, err
	}
	command := "kairos-install --device auto --config /run/node.yaml --yes " + strings.Join(option, " ")
	result, err := n.Machine.Stream(ctx, command, live)
	if err == nil && result.Status != 0 {
		err = &vm.StatusError{Script: command, Result: result}
	}
	return result, err
}

// WriteFile writes a file in the guest.
func (n *Node) WriteFile(ctx context.Context, path, content string) error {
	_, err := n.Machine.Output(ctx, fmt.Sprintf("cat > %s <<'END-OF-FILE'\n%s\nEND-OF-FILE\n", path, strings.TrimRight(content, "\n")))
	return err
}

// Replace puts a file of this host over one of the running image, until the next boot.
func (n *Node) Replace(ctx context.Context, file, path string) (vm.Result, error) {
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(file))))
	defer server.Close()
	url := strings.Replace(server.URL, "127.0.0.1", "10.0.2.2", 1) + "/" + filepath.Base(file)
	return n.Machine.Run(ctx, fmt.Sprintf(`set -e
new=/run/replaced/$(basename %[2]s); mkdir -p /run/replaced; umount %[2]s 2>/dev/null || true
curl -fsS -o $new %[1]s; chmod 755 $new; mount --bind $new %[2]s`, url, path))
}

// Booted returns what runs.
func (n *Node) Booted(ctx context.Context) (deployment.Booted, error) {
	var booted deployment.Booted
	return booted, n.decode(ctx, "cat "+deployment.BootedPath, &booted)
}

// Version returns the version of the image that runs, as the image itself says it.
func (n *Node) Version(ctx context.Context) (string, error) {
	out, err := n.Machine.Output(ctx, ". /etc/kairos-release && echo $KAIROS_VERSION")
	return strings.TrimSpace(out), err
}

// Deployment is the part of a deployment in `kairos-upgrade status --json` that stories look at.
type Deployment struct {
	ID             string                 `json:"id"`
	Reference      string                 `json:"reference"`
	Version        string                 `json:"version"`
	ImageDigest    string                 `json:"image_digest"`
	ManifestDigest string                 `json:"manifest_digest"`
	State          string                 `json:"state"`
	Quarantined    *deployment.Quarantine `json:"quarantined"`
}

// Status is the same of the whole.
type Status struct {
	Booted      string                  `json:"booted"`
	Staged      string                  `json:"staged"`
	Previous    string                  `json:"previous"`
	Mode        deployment.Mode         `json:"mode"`
	Deployments []Deployment            `json:"deployments"`
	Quarantined []deployment.Quarantine `json:"quarantined"`
}

// Find returns the deployment with this id, nil if there is none.
func (s Status) Find(id string) *Deployment {
	for i := range s.Deployments {
		if s.Deployments[i].ID == id {
			return &s.Deployments[i]
		}
	}
	return nil
}

// Status asks kairos-upgrade.
func (n *Node) Status(ctx context.Context) (Status, error) {
	var status Status
	return status, n.decode(ctx, "kairos-upgrade status --json", &status)
}

// decode runs a command that prints one JSON object.
func (n *Node) decode(ctx context.Context, command string, into any) error {
	out, err := n.Machine.Output(ctx, command)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("decode the output of %q: %w\n%s", command, err, out)
	}
	return nil
}
