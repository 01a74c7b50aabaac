package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/border"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

// The process that reads images is this program again, honest or not.
func TestMain(m *testing.M) {
	switch what := os.Getenv("READER"); what {
	case "":
		os.Exit(m.Run())
	case "honest":
		if err := Read(context.Background(), func(err error) error { return err }); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		takenOver(what)
	}
}

// theContent is the content that a reader that was taken over writes.
var theContent = []byte(strings.Repeat("not the image that you asked for", 100))

// takenOver is a reader that somebody has taken over, who has its files and its
// socket. It answers what is asked until it is to fetch.
func takenOver(what string) {
	if err := unix.SetNonblock(readerSocket, true); err != nil {
		os.Exit(9)
	}
	c := border.New(os.NewFile(readerSocket, "node"))
	var o opening
	send := func(m border.Message) {
		if c.Send(m) != nil {
			os.Exit(9)
		}
	}
	answer := func(call uint64, body any) {
		data, err := json.Marshal(body)
		if err != nil {
			os.Exit(9)
		}
		send(border.Message{Kind: border.Answer, Call: call, Body: data})
	}
	about := deployment.Record{Reference: "example.com/os:1", Architecture: "amd64", Layers: []string{"sha256:" + strings.Repeat("0", 64)}}
	write := func(name string, content []byte) {
		if err := os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/tmp/%s/%s", readerStore, o.Loan, name), content, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(9)
		}
	}
	loan := func() string { return fmt.Sprintf("/proc/self/fd/%d/tmp/%s/", readerStore, o.Loan) }
	d := fsverity.Bytes(theContent)
	object := func(d fsverity.Digest, size int) {
		send(border.Message{Kind: border.Objects, Call: 1, Batch: border.AppendFile(nil, border.File{Temp: 1, Digest: d, Size: int64(size)})})
	}
	contents := func(call uint64, change func(*fetchedContents)) {
		write("1", theContent)
		object(d, len(theContent))
		_, _ = c.Receive(0)
		write("2", theContent)
		send(border.Message{Kind: border.Image, Call: 2, Temp: 2, Digest: d.String()})
		_, _ = c.Receive(0)
		send(border.Message{Kind: border.Commit, Call: 3})
		_, _ = c.Receive(0)
		send(border.Message{Kind: border.Reached, Batch: border.AppendObject(nil, d, int64(len(theContent)))})
		file := deployment.File{Kind: boot.Linux, Path: boot.FilePath(boot.Linux, d.String()), Digest: d.String(), Size: int64(len(theContent))}
		have := fetchedContents{Image: d.String(), Kernel: "6", OS: "OS", Version: "1", Boot: []deployment.File{file}}
		change(&have)
		answer(call, have)
	}
	for {
		m, err := c.Receive(0)
		if err != nil {
			os.Exit(1)
		}
		switch m.Name {
		case "open":
			if json.Unmarshal(m.Body, &o) != nil {
				os.Exit(9)
			}
			switch what {
			case "record":
				about.NodeOptions = []string{"init=/bin/sh"}
			case "reference":
				about.Reference = "os:1\noptions init=/bin/sh"
			case "insecure":
				about.InsecureRegistry = "elsewhere.example.com:5000"
			case "layers":
				about.Layers[0] = "../../../etc/shadow"
			}
			answer(m.Call, about)
		case "estimate":
			if what == "need" {
				answer(m.Call, needed{Store: -1})
				continue
			}
			answer(m.Call, needed{Store: 1})
		case "toFetch":
			answer(m.Call, toFetched{Known: 1 << 40, Size: 1 << 62})
		case "fetch":
			switch what {
			case "kill":
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			case "crash":
				var nothing *opening
				fmt.Fprint(os.Stderr, "\x1b[2Jpanicking\n")
				nothing.Given = ""
			case "exit":
				os.Exit(0)
			case "silent":
				time.Sleep(time.Hour)
			case "deaf": // asks, and does not read the replies
				for {
					send(border.Message{Kind: border.Commit, Call: 1})
				}
			case "heir": // what it executes outlives it, with its stderr
				heir := exec.Command("sleep", "60")
				heir.Stderr = os.Stderr
				if heir.Start() != nil {
					os.Exit(9)
				}
				os.Exit(0)
			case "frame":
				f := os.NewFile(readerSocket, "node")
				_, _ = f.Write([]byte("\xff\xff\xff\xff{}"))
			case "cut":
				f := os.NewFile(readerSocket, "node")
				_, _ = f.Write([]byte("\x00\x00\x01\x00{"))
				os.Exit(0)
			case "nonsense":
				send(border.Message{Kind: "rm"})
			case "digest":
				write("1", theContent)
				object(fsverity.Digest{1}, len(theContent))
			case "size":
				write("1", theContent)
				object(d, 5)
			case "link":
				_ = os.Symlink("/etc/passwd", loan()+"1")
				object(d, len(theContent))
			case "directory":
				_ = os.Mkdir(loan()+"1", 0o755)
				object(d, len(theContent))
			case "pipe":
				_ = syscall.Mkfifo(loan()+"1", 0o644)
				object(d, len(theContent))
			case "second name":
				write("1", theContent)
				_ = os.Link(loan()+"1", loan()+"kept")
				object(d, len(theContent))
			case "open":
				f, err := os.Create(loan() + "1")
				if err != nil {
					os.Exit(9)
				}
				_, _ = f.Write(theContent)
				object(d, len(theContent))
				_, _ = c.Receive(0)
				_, _ = f.WriteAt([]byte("changed"), 0)
				time.Sleep(time.Hour)
			case "layer":
				write("1", theContent)
				send(border.Message{Kind: border.Layer, Call: 1, Temp: 1, Name: "sha256:" + strings.Repeat("1", 64)})
			case "layer path":
				write("1", theContent)
				send(border.Message{Kind: border.Layer, Call: 1, Temp: 1, Name: "../deployments/1-0.json"})
			case "image":
				write("1", theContent)
				send(border.Message{Kind: border.Image, Call: 1, Temp: 1, Digest: strings.Repeat("0", 64)})
			case "image path":
				send(border.Message{Kind: border.Image, Call: 1, Temp: 1, Digest: "../objects"})
			case "answer":
				answer(m.Call+1, nil)
			case "answers":
				for range 3 {
					answer(m.Call, fetchedContents{})
				}
			case "no image":
				answer(m.Call, fetchedContents{Image: d.String()})
			case "object that is not there":
				contents(m.Call, func(*fetchedContents) {
					send(border.Message{Kind: border.Reached, Batch: border.AppendObject(nil, fsverity.Digest{9}, 1)})
				})
			case "boot path":
				contents(m.Call, func(f *fetchedContents) { f.Boot[0].Path = "../EFI/BOOT/BOOTX64.EFI" })
			case "boot kind":
				contents(m.Call, func(f *fetchedContents) { f.Boot[0].Kind, f.Boot[0].Path = "../x", "kairos/../x-"+f.Boot[0].Digest })
			case "boot digest":
				contents(m.Call, func(f *fetchedContents) {
					f.Boot[0].Digest = strings.Repeat("0", 64)
					f.Boot[0].Path = boot.FilePath(boot.Linux, f.Boot[0].Digest)
				})
			case "karg":
				contents(m.Call, func(f *fetchedContents) { f.Kargs = []string{"init=/bin/sh"} })
			case "karg of two lines":
				contents(m.Call, func(f *fetchedContents) { f.Kargs = []string{"quiet\nlinux /evil"} })
			case "title of two lines":
				contents(m.Call, func(f *fetchedContents) { f.OS = "OS\noptions init=/bin/sh" })
			case "good":
				contents(m.Call, func(*fetchedContents) {})
			}
			if what != "good" { // whoever stays must be ended
				time.Sleep(time.Hour)
			}
		}
	}
}

// readBy has a node's images read by such a process.
func readBy(n *Node, what string) {
	n.Apart = &Apart{Command: func() *exec.Cmd {
		return &exec.Cmd{Path: "/proc/self/exe", Args: []string{"reader"}, Env: append(os.Environ(), "READER="+what)}
	}}
}

// everything lists the files below directories with their contents.
func everything(t *testing.T, dirs ...string) string {
	t.Helper()
	var list strings.Builder
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(name)
			fmt.Fprintln(&list, name, fsverity.Bytes(data))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return list.String()
}

// A reader of images that dies, lies or goes silent is an error of that image:
// nothing is staged, and everything is as it was.
func TestReaderTakenOver(t *testing.T) {
	n, dir := node(t, map[string]string{"usr/lib/modules/6/vmlinuz": "kernel", "usr/lib/modules/6/initramfs.img": "initrd"})
	where := []string{filepath.Join(dir, "store"), filepath.Join(dir, "esp")}
	before := everything(t, where...)
	for what, says := range map[string]string{
		"kill":   "the process that reads the image died: signal: killed",
		"crash":  "the process that reads the image died: exit status 2: ",
		"exit":   "the process that reads the image ended",
		"cut":    "the process that reads the image ended",
		"silent": "the process that reads the image has not been heard of for",
		"deaf":   "it does not read replies", "heir": "the process that reads the image",
		"frame": "a message of 4294967295 bytes", "nonsense": `kind "rm"`, "record": "more about the image than a source knows",
		"insecure": "was not accepted without TLS", "reference": `text "os:1\noptions`, "layers": "digest", "need": "-1 and 0 bytes needed",
		"digest": "does not match its digest", "size": "3200 bytes, not 5", "link": "no file of its own", "directory": "no file of its own",
		"pipe": "no file of its own", "second name": "no file of its own", "open": "open for writing", "layer": "is no layer of this image",
		"layer path": `"../deployments/1-0.json" is no layer`, "image": "take over image 000", "image path": "digest",
		"answer": "an answer to 4, not 3", "answers": "not to be trusted", "no image": "image",
		"object that is not there": "object 09", "boot path": `boot file "linux" in "../EFI`, "boot kind": `boot file "../x"`,
		"boot digest": "is no object of the image", "karg": "init", "karg of two lines": `text "quiet\nlinux`,
		"title of two lines": `text "OS\noptions`,
	} {
		t.Run(what, func(t *testing.T) {
			if what == "silent" || what == "deaf" || what == "heir" { // an heir has the socket, too
				defer func(was time.Duration) { patience = was }(patience)
				patience = time.Second / 2
			}
			if what == "open" && n.Store.Verity() {
				says = "died" // the kernel refuses it
			}
			readBy(n, what)
			start := time.Now()
			_, err := n.Stage(t.Context(), Request{Source: "example.com/os:1"})
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
			if err == nil || !strings.Contains(err.Error(), says) || !errors.Is(err, ErrReader) || exit.Code(err) != exit.Failed {
				t.Errorf("want an error with %q, have %v", says, err)
			}
			if strings.Contains(fmt.Sprint(err), "\x1b") {
				t.Errorf("raw: %q", err)
			}
			if now := everything(t, where...); now != before {
				t.Errorf("it was:\n%s\nand is:\n%s", before, now)
			}
		})
	}
	// What all these change is what makes the difference.
	readBy(n, "good")
	staged, err := n.Stage(t.Context(), Request{Source: "example.com/os:1"})
	if err != nil || staged.Objects != 1 {
		t.Errorf("have %+v, %v", staged, err)
	}
}

// Read in another process, an image comes to the same as in this one.
func TestReaderReadsTheSame(t *testing.T) {
	files := map[string]string{"usr/lib/modules/6/vmlinuz": strings.Repeat("kernel", 1000), "usr/lib/modules/6/initramfs.img": "initrd",
		"usr/lib/os-release": "NAME=x\nPRETTY_NAME=X\nVERSION_ID=7\n", "usr/lib/bootc/kargs.d/1.toml": `kargs = ["quiet"]`,
		"usr/bin/large": strings.Repeat("large", 1<<18)}
	n, dir := node(t, files)
	here, err := n.Stage(t.Context(), Request{Source: "dir:" + filepath.Join(dir, "root"), Force: true})
	if err != nil {
		t.Fatal(err)
	}
	other, _ := node(t, map[string]string{"usr/lib/modules/6/vmlinuz": "kernel", "usr/lib/modules/6/initramfs.img": "initrd"})
	readBy(other, "honest")
	there, err := other.Stage(t.Context(), Request{Source: "dir:" + filepath.Join(dir, "root")})
	if err != nil {
		t.Fatal(err)
	}
	if here.ImageDigest != there.ImageDigest || here.Record.Options != there.Record.Options || here.Record.Bytes == 0 || there.Record.Bytes != here.Record.Bytes ||
		there.OS != "X" || there.Version != "7" || there.ObjectsAdded == 0 || !bytes.Equal(jsonOf(t, here.Boot), jsonOf(t, there.Boot)) {
		t.Errorf("here %+v\nthere %+v", here.Record, there.Record)
	}
	if v, err := other.Verify(t.Context(), ""); err != nil || len(v.Damaged) > 0 {
		t.Errorf("%+v, %v", v, err)
	}
}

func jsonOf(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestStoreIsReadHere sees that no other process is asked to copy a store, and that
// one is asked for a tree.
func TestStoreIsReadHere(t *testing.T) {
	n, _ := node(t, map[string]string{"usr/lib/modules/6/vmlinuz": "kernel", "usr/lib/modules/6/initramfs.img": "initrd"})
	asked := 0
	n.Apart = &Apart{Command: func() *exec.Cmd {
		asked++
		return exec.Command("/nonexistent")
	}}
	for i, given := range []string{"store:" + t.TempDir(), "dir:" + t.TempDir()} {
		if _, err := n.openOrigin(t.Context(), given, source.Options{}); err == nil {
			t.Errorf("%s was opened", given)
		}
		if asked != i {
			t.Errorf("after %s: %d processes were started, want %d", given, asked, i)
		}
	}
}
