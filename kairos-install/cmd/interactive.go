package cmd

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/go-crypt/x/yescrypt"
	"github.com/kairos-io/toolkit/kairos-install/internal/answers"
	"github.com/kairos-io/toolkit/kairos-install/internal/target"
	"github.com/kairos-io/toolkit/lib/bounded"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

// interview asks for what the options and the config leave open, and gives the answers
// to the command line as if they had been options: what is done with them is the
// installation's own plan. Questions are plain lines, for a serial console as well.
func interview(c *cli.Context, m Machine) error {
	for _, option := range []string{"yes", "json", "quiet"} {
		if c.Bool(option) {
			return exit.Usagef("--interactive and --%s exclude each other", option)
		}
	}
	if !terminal.Is(os.Stdin) {
		return exit.Usagef("--interactive needs a terminal to ask on")
	}
	t := console{c}
	t.say("An empty answer takes what stands in brackets. Nothing is changed before you type \"install\" at the end.")
	for _, ask := range []func(*cli.Context, Machine) error{t.device, t.image, t.people, t.encryption} {
		if err := ask(c, m); err != nil {
			return err
		}
	}
	return nil
}

// theWord asks for more than a letter before a disk is erased.
func theWord(c *cli.Context, p *prepared) error {
	t := console{c}
	answer, err := t.ask(fmt.Sprintf("Type \"install\" to erase everything on %s (%s), anything else to stop", p.Disk.Path, describe(p.Disk)), "", nil)
	if err == nil && answer != "install" {
		err = exit.WithCode(errors.New("not confirmed: nothing was changed"), exit.Failed)
	}
	return err
}

// console asks on a terminal.
type console struct{ c *cli.Context }

func (t console) say(format string, args ...any) {
	terminal.Fprintf(t.c.App.ErrWriter, format+"\n", args...)
}

// maxAnswer is how long an answer may be, in bytes: SSH keys are long.
const maxAnswer = 16 << 10

// read reads a line byte by byte: what is typed ahead belongs to later questions, of
// other programs as well.
func (t console) read() (string, error) {
	var line []byte
	one := make([]byte, 1)
	for {
		var n int
		var err error
		arrived := make(chan struct{})
		go func() {
			n, err = os.Stdin.Read(one)
			close(arrived)
		}()
		select {
		case <-arrived:
		case <-t.c.Context.Done(): // the process ends, and what it has hidden must come back
			return "", t.c.Context.Err()
		}
		switch {
		case n == 1 && one[0] == '\n':
			return strings.TrimSpace(string(line)), nil
		case n == 1 && len(line) >= maxAnswer:
			return "", errors.New("an answer is too long")
		case n == 1:
			line = append(line, one[0])
		case err != nil || n == 0:
			return "", exit.WithCode(errors.New("the terminal was closed: nothing was changed"), exit.Failed)
		}
	}
}

// ask asks until the answer passes the check.
func (t console) ask(question, otherwise string, check func(string) error) (string, error) {
	for {
		if otherwise != "" {
			terminal.Fprintf(t.c.App.ErrWriter, "%s [%s]: ", question, otherwise)
		} else {
			terminal.Fprintf(t.c.App.ErrWriter, "%s: ", question)
		}
		answer, err := t.read()
		if err != nil {
			return "", err
		}
		answer = cmp.Or(answer, otherwise)
		if check == nil {
			return answer, nil
		}
		if err := check(answer); err == nil {
			return answer, nil
		} else {
			t.say("  %v", err)
		}
	}
}

// optional lets an answer be empty.
func optional(check func(string) error) func(string) error {
	return func(answer string) error {
		if answer == "" {
			return nil
		}
		return check(answer)
	}
}

// choose asks for one of several, by its number from 1; it returns its index.
func (t console) choose(question string, options []string, otherwise int) (int, error) {
	for i, o := range options {
		t.say("  %d  %s", i+1, o)
	}
	first := ""
	if otherwise >= 0 {
		first = strconv.Itoa(otherwise + 1)
	}
	answer, err := t.ask(question, first, func(answer string) error {
		if n, err := strconv.Atoi(answer); err != nil || n < 1 || n > len(options) {
			return fmt.Errorf("want a number from 1 to %d", len(options))
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(answer)
	return n - 1, err
}

// secret asks twice without an echo.
func (t console) secret(question string, check func(string) error) (string, error) {
	restore, err := hideEcho(os.Stdin)
	if err != nil {
		return "", fmt.Errorf("hide what is typed: %w", err)
	}
	defer restore()
	for {
		first, err := t.ask(question, "", check)
		t.say("")
		if err != nil || first == "" {
			return first, err
		}
		second, err := t.ask("  the same again", "", nil)
		t.say("")
		if err != nil {
			return "", err
		}
		if first == second {
			return first, nil
		}
		t.say("  the two differ")
	}
}

func (t console) device(c *cli.Context, m Machine) error {
	if c.IsSet("device") {
		return nil
	}
	all, err := m.Target.Judge(0)
	if err != nil {
		return err
	}
	var may []target.Judgement
	var options []string
	otherwise := -1
	for _, j := range all {
		text := fmt.Sprintf("%s (%s)", j.Disk.Path, describe(j.Disk))
		if j.Refusal != "" {
			t.say("  -  %s: %s", text, j.Refusal)
			continue
		}
		if j.Automatic != "" {
			text += ": " + j.Automatic
		} else if otherwise < 0 {
			otherwise = len(may)
		}
		may, options = append(may, j), append(options, text)
	}
	if len(may) == 0 {
		return errors.New("there is no disk to install on")
	}
	n, err := t.choose("Disk", options, otherwise)
	if err != nil {
		return err
	}
	return c.Set("device", may[n].Disk.Path)
}

func (t console) image(c *cli.Context, m Machine) error {
	if c.IsSet("image") {
		return nil
	}
	booted, err := deployment.ReadBooted(m.Booted)
	if err != nil && !errors.Is(err, deployment.ErrNotBooted) {
		return err
	}
	live, otherwise := err == nil && booted.Mode == deployment.Live, ""
	if live {
		otherwise = "this live system"
	}
	image, err := t.ask("Image, for example registry.example.com/acme/os:1", otherwise, func(answer string) error {
		if answer == "" || strings.ContainsAny(answer, " \t") && answer != otherwise {
			return errors.New("want the reference of an image")
		}
		return nil
	})
	if err != nil || image == otherwise {
		return err
	}
	return c.Set("image", image)
}

// people asks for who may log in, and the network, and makes a config of it.
func (t console) people(c *cli.Context, m Machine) (err error) {
	var a answers.Answers
	if a.Hostname, err = t.ask("Name of the node, empty for that of the image", "", optional(answers.CheckHostname)); err != nil {
		return err
	}
	a.User, err = t.ask("User who may log in and become root, - for none beside those of the config", "kairos", func(name string) error {
		if name == "-" {
			return nil
		}
		return answers.CheckUser(name)
	})
	if err != nil {
		return err
	}
	if a.User == "-" {
		a.User = ""
	}
	for a.User != "" && a.Key == "" && a.Password == "" {
		if a.Key, err = t.ask("SSH public key, or github:NAME, empty for none", "", optional(answers.CheckKey)); err != nil {
			return err
		}
		password, err := t.secret("Password, empty for none (then root needs none either)", nil)
		if err != nil {
			return err
		}
		if password != "" {
			if a.Password, err = hashPassword(password); err != nil {
				return err
			}
		}
		if a.Key == "" && password == "" {
			t.say("  one of the two is needed to log in")
		}
	}
	groups, err := bounded.File(filepath.Join(m.Root, "etc/group"), 1<<20)
	if err == nil {
		a.Admins = answers.Admins(string(groups))
	}
	if a.Network, err = t.network(m); err != nil || a.Empty() {
		return err
	}
	data, err := a.Config()
	if err != nil {
		return err
	}
	file := filepath.Join(m.Work, "answers.yaml")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return fmt.Errorf("write the answers: %w", err)
	}
	return c.Set("config", file)
}

func (t console) network(m Machine) (*answers.Static, error) {
	n, err := t.choose("Network of the node", []string{"as the image has it: DHCP, usually", "a fixed address, for systemd-networkd"}, 0)
	if err != nil || n == 0 {
		return nil, err
	}
	found, _ := filepath.Glob(filepath.Join(m.Target.Disk.Sys, "class/net/*"))
	var names []string
	for _, f := range found {
		if name := filepath.Base(f); name != "lo" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		t.say("  there is no network interface")
		return nil, nil
	}
	var s answers.Static
	if n, err = t.choose("Interface", names, 0); err != nil {
		return nil, err
	}
	s.Interface = names[n]
	if _, err = t.ask("Address with prefix, for example 192.0.2.7/24", "", func(answer string) (err error) {
		if s.Address, err = netip.ParsePrefix(answer); err != nil {
			return errors.New("want an address and the length of its prefix: 192.0.2.7/24")
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if _, err = t.ask("Gateway, empty for none", "", optional(func(answer string) (err error) {
		if s.Gateway, err = netip.ParseAddr(answer); err != nil {
			return errors.New("want an address: 192.0.2.1")
		}
		return nil
	})); err != nil {
		return nil, err
	}
	_, err = t.ask("DNS servers, empty for none", "", func(answer string) (err error) {
		if s.DNS, err = answers.ParseDNS(answer); err != nil {
			return errors.New("want addresses with spaces between them: 192.0.2.2 2001:db8::2")
		}
		return nil
	})
	return &s, err
}

func (t console) encryption(c *cli.Context, m Machine) error {
	if c.IsSet("encrypt") || c.IsSet("enroll") {
		return nil
	}
	chip := "the TPM opens them"
	if _, err := os.Stat(filepath.Join(m.Target.Disk.Sys, "class/tpm/tpm0")); err != nil {
		chip += ", which this machine does not seem to have"
	}
	n, err := t.choose("Encrypt config and data", []string{"no, or as the config says", chip, "a passphrase opens them, at each boot"}, 0)
	if err != nil || n == 0 {
		return err
	}
	err = errors.Join(c.Set("encrypt", disk.LabelOEM), c.Set("encrypt", disk.LabelPersistent))
	if n == 1 || err != nil {
		return err
	}
	passphrase, err := t.secret("Passphrase", func(answer string) error {
		if len(answer) < 8 {
			return errors.New("want 8 characters or more")
		}
		return nil
	})
	if err != nil {
		return err
	}
	file := filepath.Join(m.Work, "passphrase")
	if err := os.WriteFile(file, []byte(passphrase), 0o600); err != nil {
		return fmt.Errorf("keep the passphrase: %w", err)
	}
	return errors.Join(c.Set("enroll", "passphrase"), c.Set("passphrase-file", file))
}

// hashPassword returns the yescrypt hash of a password, with the cost that Debian and
// Fedora choose: crypt(5).
func hashPassword(password string) (string, error) {
	const alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var salt [22]byte // 132 bits
	_, _ = rand.Read(salt[:])
	for i, b := range salt {
		salt[i] = alphabet[b&63]
	}
	salt[21] = alphabet[salt[21]&3] // holds 2 bits of 128: the format has no others
	hash, err := yescrypt.Hash([]byte(password), []byte("$y$j9T$"+string(salt[:])))
	if err != nil {
		return "", fmt.Errorf("hash the password: %w", err)
	}
	return string(hash), nil
}
