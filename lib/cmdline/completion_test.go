package cmdline

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/lib/argv"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// These tests press TAB in real shells, with the scripts of units/completion.
// They can't prove that a menu looks right: they read words.

// program is a tool whose every command leaves a trace in the file $TRACE.
const program = "kairos-demo"

// underUmbrella is the same program as a tool that kairos knows.
const underUmbrella = "kairos-upgrade"

func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); name == program || name == underUmbrella {
		Main(demo())
	}
	os.Exit(m.Run())
}

func demo() *cli.App {
	trace := func(c *cli.Context) error {
		return os.WriteFile(os.Getenv("TRACE"), []byte(strings.Join(os.Args, " ")), 0o644)
	}
	flags := []cli.Flag{DryRunFlag(), JSONFlag(), &cli.StringFlag{Name: "store", Usage: "the store in `DIR`: [not] a 'file'"},
		&cli.StringFlag{Name: "of", Usage: "of the `ID`"}, &cli.StringFlag{Name: "origin", Hidden: true}}
	app := New(program, "a program for the test")
	app.Commands = []*cli.Command{
		{Name: "bad", Usage: "mark it bad: it does not boot again", ArgsUsage: "[REASON]", Flags: flags, Action: trace},
		{Name: "pin", Usage: "keep it", ArgsUsage: "ID", Flags: flags, Action: trace},
		{Name: "status", Usage: "show it", Flags: flags, Action: trace},
		{Name: "stage", Usage: "stage it", ArgsUsage: "SOURCE", Flags: flags, Action: trace},
		{Name: "validate", Usage: "check it", ArgsUsage: "FILE...", Action: trace},
		{Name: "hidden", Hidden: true, Action: trace},
		{Name: "quarantine", Usage: "digest", Subcommands: []*cli.Command{
			{Name: "list", Action: trace}, {Name: "add", Action: trace}}},
	}
	Completes(app, argv.Values{
		"ID": func(argv.Asked) []argv.Candidate {
			return []argv.Candidate{{Word: "12-abcdef", Usage: "booted"}, {Word: "13-fedcba", Usage: "staged \x1b]0;owned\x07\nforged"},
				{Word: "$(touch$IFS$TRACE)"}, {Word: "`touch $TRACE`"}, {Word: "a;b"}, {Word: "--force"}, {Word: "~root"}, {Word: "x\x1b[2J"}}
		},
		"SOURCE": argv.Words("quay.io/x/y:one", "quay.io/x/y:two"),
	})
	return app
}

// shell is one of the three.
type shell interface {
	// complete returns what is offered, or was completed, behind a line.
	complete(line string) string
}

func TestCompletionInShells(t *testing.T) {
	for name, start := range map[string]func(*testing.T, string) shell{"bash": startBash, "zsh": startZsh, "fish": startFish} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(name); err != nil {
				t.Skipf("no %s here", name)
			}
			dir, trace := install(t), filepath.Join(t.TempDir(), "trace")
			t.Setenv("TRACE", trace)
			t.Setenv("HOME", t.TempDir())
			t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
			t.Chdir(filepath.Join(dir, "files"))
			sh := start(t, dir)
			for _, test := range []struct{ line, want, not string }{
				{"kairos upgr", "upgrade", "upgr status file-one"},
				{"kairos upgrade ", "bad pin quarantine stage status validate", "hidden file-one"},
				{"kairos upgrade bad --", "--dry-run --json --store --help", "--origin bad file-one"},
				{"kairos upgrade bad because --dr", "--dry-run", "file-one"},
				{"kairos upgrade pin ", "12-abcdef 13-fedcba", "touch a;b --force ~root file-one"},
				{"kairos status --j", "--json", "--store file-one"},
				{"", "bad pin quarantine stage status validate", "hidden file-one dir-one"},
				{"s", "stage status", "bad file-one"},
				{"quarantine ", "list add", "bad file-one"},
				{"bad --", "--dry-run --json --store --help", "--origin --version bad file-one"},
				{"bad because --", "--dry-run --json --store", "--origin file-one"},
				{"bad --json --st", "--store", "--json --dry-run"},
				{"--json bad --dr", "--dry-run", ""},
				{"bad ", "", "file-one dir-one bad"},
				{"stage --json ", "quay.io/x/y:", "file-one"},
				{"stage quay.io/x/y:", "one two", "file-one"},
				{"pin ", "12-abcdef 13-fedcba", "touch a;b --force ~root file-one"},
				{"pin 12", "12-abcdef", "13-fedcba"},
				{"pin --of=1", "2-abcdef 3-fedcba", "touch file-one"},
				{"pin --of 1", "12-abcdef 13-fedcba", "touch file-one"},
				{"validate ", "file-one dir-one", "bad"},
				{"validate -- file-o", "file-one", ""},
				{"bad --store ", "dir-one", "file-one bad"},
				{"bad --store=dir", "dir-one", "file-one bad"},
				{"nonsense ", "", "bad"},
				{"bad --nonsense ", "", "file-one"},
				{"bad --generate-bash-completion ", "", "file-one"},
				{"__complete ", "", ""},
				{"bad --json --", "--dry-run", ""},
			} {
				line := program + " " + test.line
				if strings.HasPrefix(test.line, "kairos ") {
					line = test.line
				}
				got := sh.complete(line)
				for _, want := range strings.Fields(test.want) {
					if !strings.Contains(got, want) {
						t.Errorf("%q offers %q, without %q", test.line, got, want)
					}
				}
				offered := strings.Fields(got)
				for _, not := range strings.Fields(test.not) {
					if slices.Contains(offered, not) || strings.ContainsAny(not, "-") && strings.Contains(got, not) {
						t.Errorf("%q offers %q, with %q", test.line, got, not)
					}
				}
				if _, err := os.Stat(trace); !errors.Is(err, os.ErrNotExist) {
					ran, _ := os.ReadFile(trace)
					t.Fatalf("completing %q executed a command: %s", test.line, ran)
				}
			}
			if name != "bash" {
				for line, want := range map[string]string{"st": "stage it", "pin --": "print the result as one JSON object", "pin 1": "booted"} {
					if got := sh.complete(program + " " + line); !strings.Contains(got, want) {
						t.Errorf("%q offers %q, without the description %q", line, got, want)
					}
				}
			}
			if got := sh.complete(program + " pin 1"); strings.Contains(got, "\x1b]0;owned") {
				t.Errorf("a description reaches the terminal as it is: %q", got)
			}
		})
	}
}

// install puts the program and its completion scripts where shells find them.
func install(t *testing.T) string {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"bin", "completion", "files/dir-one"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	umbrella := exec.Command("go", "build", "-o", filepath.Join(dir, "bin/kairos"), ".") // the real one
	umbrella.Dir, umbrella.Env = "../../kairos", append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false -trimpath -tags=urfave_cli_no_docs")
	if out, failed := umbrella.CombinedOutput(); failed != nil {
		t.Fatalf("build kairos: %v: %s", failed, out)
	}
	err = errors.Join(err, os.Symlink(self, filepath.Join(dir, "bin", underUmbrella)))
	err = errors.Join(err, os.Symlink(self, filepath.Join(dir, "bin", program)), os.WriteFile(filepath.Join(dir, "files/file-one"), nil, 0o644))
	for name, as := range map[string]string{"bash": "%s", "zsh": "_%s", "fish": "%s.fish"} {
		script, readErr := os.ReadFile(filepath.Join("../../units/completion", name))
		for _, of := range []string{program, "kairos"} {
			text := strings.ReplaceAll(string(script), "@TOOL@", of)
			err = errors.Join(err, readErr, os.WriteFile(filepath.Join(dir, "completion", fmt.Sprintf(as, of)), []byte(text), 0o644))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// fish asks its own engine.
type fish struct {
	t   *testing.T
	dir string
}

func startFish(t *testing.T, dir string) shell { return fish{t, dir} }

func (f fish) complete(line string) string {
	out, err := exec.Command("fish", "--no-config", "-c",
		"set fish_complete_path $argv[1] $fish_complete_path; complete -C $argv[2]", filepath.Join(f.dir, "completion"), line).CombinedOutput()
	if err != nil {
		f.t.Fatalf("fish: %v: %s", err, out)
	}
	return string(out)
}

// typed is a shell that sits at a terminal.
type typed struct {
	t    *testing.T
	keys *os.File
	asks int
}

func startBash(t *testing.T, dir string) shell {
	s := open(t, "bash", "--norc", "--noprofile", "-i")
	s.run(`bind 'set completion-query-items -1'; bind 'set page-completions off'; bind 'set show-all-if-ambiguous on'; bind 'set enable-bracketed-paste off'`)
	s.run("source " + filepath.Join(dir, "completion", program) + "; source " + filepath.Join(dir, "completion/kairos"))
	return s
}

func startZsh(t *testing.T, dir string) shell {
	s := open(t, "zsh", "-f", "-i")
	s.run("PS2= PROMPT_EOL_MARK= LISTMAX=0; zle_bracketed_paste=()")
	s.run("fpath=(" + filepath.Join(dir, "completion") + " $fpath); autoload -Uz compinit && compinit -u -D")
	s.run("setopt auto_list no_list_ambiguous no_list_beep no_always_last_prompt; zstyle ':completion:*' list-prompt ''")
	return s
}

// open starts a shell at a wide and dumb terminal of its own.
func open(t *testing.T, argv ...string) *typed {
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0)
	}
	screen, openErr := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil || openErr != nil {
		t.Skipf("no pseudo-terminals: %v, %v", err, openErr)
	}
	defer screen.Close()
	_ = unix.IoctlSetWinsize(int(keys.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 200, Col: 240})
	// The descriptor was made blocking by Fd; reads must end when the test does.
	_ = unix.SetNonblock(int(keys.Fd()), true)
	keys = os.NewFile(keys.Fd(), "terminal")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = screen, screen, screen
	cmd.Env = append(os.Environ(), "TERM=dumb", "LC_ALL=C.UTF-8", "HISTFILE=")
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		keys.Close()
	})
	return &typed{t: t, keys: keys}
}

// run types a command and waits until the shell has done it.
func (s *typed) run(command string) { s.until(command + "\r") }

// complete types a line, asks what may come next and, since a shell answers keys
// in their order, reads until it did what was typed after that.
func (s *typed) complete(line string) string {
	out := s.until(line + "\t\x15")
	_, after, _ := strings.Cut(out, line)
	// What is unique is written behind the word that was begun.
	return line[strings.LastIndexByte(line, ' ')+1:] + strings.ReplaceAll(after, line, " ")
}

// until types keys and then a command that changes the prompt, and returns what
// the shell wrote before. The new prompt says that the shell reads keys again.
func (s *typed) until(keys string) string {
	s.asks++
	if _, err := fmt.Fprintf(s.keys, "%s PS1='<<''%d>>'\r", keys, s.asks); err != nil {
		s.t.Fatal(err)
	}
	prompt := fmt.Sprintf("<<%d>>", s.asks)
	var out []byte
	for !bytes.Contains(out, []byte(prompt)) {
		// Nobody waits for a shell that has hung up.
		_ = s.keys.SetReadDeadline(time.Now().Add(time.Minute))
		var some [4096]byte
		n, err := s.keys.Read(some[:])
		out = append(out, some[:n]...)
		if err != nil {
			s.t.Fatalf("the shell says nothing more (%v): %q", err, out)
		}
	}
	text, _, _ := strings.Cut(string(out), " PS1='<<''")
	return text
}
