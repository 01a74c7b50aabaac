// Package template renders the templates of configs: Go's text/template with
// the functions of sprig that compute and nothing else. There is none that
// reads the environment, files or the network, and none that makes keys.
//
// Templates come from outside: what one may cost is bounded in output, values,
// turns of loops, calls of templates and time.
package template

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/facts"
)

// Bounds on one text, far beyond any real config.
const (
	maxText  = 1 << 20 // bytes, of the output and of each value on the way
	maxTurns = 100_000 // of loops
	maxCalls = 1000    // of named templates, which bounds the stack
	maxItems = 10_000  // of a list that a function makes
	maxTime  = 2 * time.Second
)

// Renderer renders texts with the facts of a machine.
type Renderer struct {
	read  func() facts.Facts
	facts *facts.Facts
	most  time.Duration // limits for one text
}

// New returns a renderer. It reads the facts when the first template needs them: most
// configs have no templates.
func New(read func() facts.Facts) *Renderer { return &Renderer{read: read, most: maxTime} }

// Error is an error in a template, with its position in the text.
type Error struct {
	Line, Column int // from 1; 0 when unknown
	Message      string
}

func (e *Error) Error() string { return e.Message }

// Has reports whether a text may be a template.
func Has(text string) bool { return strings.Contains(text, "{{") }

// Text renders a text. Errors are of type *Error.
func (r *Renderer) Text(text string) (string, error) { return r.text(text, false) }

// Address renders the URL of a config: each value is escaped as a part of a URL, and a
// missing one is an error.
func (r *Renderer) Address(text string) (string, error) {
	made, err := r.text(text, true)
	if err != nil {
		return "", fmt.Errorf("template in the address: %w", err)
	}
	return made, nil
}

func (r *Renderer) text(text string, address bool) (string, error) {
	if !Has(text) {
		return text, nil
	}
	if r.facts == nil {
		f := r.read()
		r.facts = &f
	}
	b := &bounds{end: time.Now().Add(r.most)}
	t, err := template.New("t").Funcs(b.functions()).Parse(text)
	if err != nil {
		return "", place(err)
	}
	b.watch(t, address)
	var out strings.Builder
	if err := t.Execute(limited{&out}, r.facts); err != nil {
		return "", place(err)
	}
	return out.String(), nil
}

// limited is a text that does not grow beyond its bound.
type limited struct{ *strings.Builder }

var errTooLong = errors.New("makes more than 1 MiB of text")

func (l limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxText {
		return 0, errTooLong
	}
	return l.Builder.Write(p)
}

// bounds counts what a template does.
type bounds struct {
	turns, calls int
	end          time.Time
}

// Names of the functions that count. Who writes them into a template only
// comes to the bounds earlier.
const (
	turnName = "_turn"
	callName = "_call"
	// escapeName is of the one that escapes.
	escapeName = "_escape"
)

// turn is called in each turn of a loop.
func (b *bounds) turn() (string, error) {
	if b.turns++; b.turns > maxTurns {
		return "", fmt.Errorf("loops more than %d times", maxTurns)
	}
	return "", b.late()
}

// call is called at the start of each named template.
func (b *bounds) call() (string, error) {
	if b.calls++; b.calls > maxCalls {
		return "", fmt.Errorf("calls templates more than %d times", maxCalls)
	}
	return "", b.late()
}

var errLate = fmt.Errorf("takes longer than %v", maxTime)

func (b *bounds) late() error {
	if time.Now().After(b.end) {
		return errLate
	}
	return nil
}

// watch puts the functions that count into the parsed template, and into that of
// an address the one that escapes.
func (b *bounds) watch(t *template.Template, address bool) {
	for _, named := range t.Templates() {
		if named.Tree == nil || named.Tree.Root == nil {
			continue
		}
		if address {
			escape(named.Tree.Root)
		}
		walk(named.Tree.Root)
		insert(named.Tree.Root, callName)
	}
}

func walk(n parse.Node) {
	branch := func(list, other *parse.ListNode) {
		walk(list)
		if other != nil {
			walk(other)
		}
	}
	switch n := n.(type) {
	case *parse.ListNode:
		for _, child := range n.Nodes {
			walk(child)
		}
	case *parse.RangeNode:
		branch(n.List, n.ElseList)
		insert(n.List, turnName)
	case *parse.IfNode:
		branch(n.List, n.ElseList)
	case *parse.WithNode:
		branch(n.List, n.ElseList)
	}
}

// escape puts a last command behind each value that is printed.
func escape(n parse.Node) {
	branch := func(lists ...*parse.ListNode) {
		for _, list := range lists {
			if list != nil {
				escape(list)
			}
		}
	}
	switch n := n.(type) {
	case *parse.ListNode:
		for _, child := range n.Nodes {
			escape(child)
		}
	case *parse.RangeNode:
		branch(n.List, n.ElseList)
	case *parse.IfNode:
		branch(n.List, n.ElseList)
	case *parse.WithNode:
		branch(n.List, n.ElseList)
	case *parse.ActionNode:
		last := n.Pipe.Cmds[len(n.Pipe.Cmds)-1].Args[0]
		if len(n.Pipe.Decl) > 0 || last.String() == "urlquery" {
			return // it prints nothing, or has been escaped
		}
		word := parse.NewIdentifier(escapeName).SetPos(n.Pos)
		n.Pipe.Cmds = append(n.Pipe.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos, Args: []parse.Node{word}})
	}
}

// escaped is a value as a part of a URL.
func escaped(v any) (string, error) {
	if v == nil {
		return "", errors.New("this machine does not have one of its facts")
	}
	return strings.ReplaceAll(url.QueryEscape(fmt.Sprint(v)), "+", "%20"), nil
}

// insert puts {{name}} before what a list holds.
func insert(list *parse.ListNode, name string) {
	word := parse.NewIdentifier(name).SetPos(list.Pos)
	action := &parse.ActionNode{
		NodeType: parse.NodeAction, Pos: list.Pos,
		Pipe: &parse.PipeNode{NodeType: parse.NodePipe, Pos: list.Pos, Cmds: []*parse.CommandNode{
			{NodeType: parse.NodeCommand, Pos: list.Pos, Args: []parse.Node{word}},
		}},
	}
	list.Nodes = append([]parse.Node{action}, list.Nodes...)
}

var (
	where   = regexp.MustCompile(`^template: t:(\d+)(?::(\d+))?: `)
	field   = regexp.MustCompile(`can't evaluate field (\w+) in type \*facts\.Facts`)
	unknown = regexp.MustCompile(`function "(\w+)" not defined$`)
	context = regexp.MustCompile(`^executing "[^"]*" at (<.*?>): `)
)

// leftOut are the functions of sprig that are not here, and why.
var leftOut = map[string]string{
	"env": noSurroundings, "expandenv": noSurroundings, "getHostByName": noSurroundings,
	"genPrivateKey": noKeys, "buildCustomCert": noKeys, "genCA": noKeys, "genCAWithKey": noKeys,
	"genSelfSignedCert": noKeys, "genSelfSignedCertWithKey": noKeys, "genSignedCert": noKeys, "genSignedCertWithKey": noKeys,
	"derivePassword": "the main password would stand in the config: name the password as ${credential:NAME}",
}

const (
	noSurroundings = "a template reads neither the environment nor the network"
	noKeys         = "templates are rendered at each boot, and private keys do not belong in a config: make the key elsewhere, and name it as ${credential:NAME}"
)

// place takes the place out of an error of text/template, whose errors have a
// text only: "template: NAME:LINE:COLUMN: …".
func place(err error) error {
	text := field.ReplaceAllString(err.Error(), "there is no fact $1")
	e := &Error{Message: strings.TrimPrefix(text, "template: ")}
	if m := where.FindStringSubmatch(text); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		if column, err := strconv.Atoi(m[2]); err == nil {
			e.Column = column + 1 // text/template counts bytes before it
		}
		e.Message = text[len(m[0]):]
	}
	e.Message = strings.TrimPrefix(e.Message, `executing "t" at <`+escapeName+`>: error calling `+escapeName+`: `)
	if m := unknown.FindStringSubmatch(e.Message); m != nil && leftOut[m[1]] != "" {
		e.Message += ": it is left out, because " + leftOut[m[1]]
	}
	if m := context.FindStringSubmatch(e.Message); m != nil {
		e.Message = m[1] + ": " + e.Message[len(m[0]):]
	}
	return e
}
