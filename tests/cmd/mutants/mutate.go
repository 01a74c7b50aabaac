package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// mutant is one change of a file: text[from:to] becomes with.
type mutant struct {
	pkg, file string
	line      int
	function  string
	text      []byte
	from, to  int
	with      string
}

func (m mutant) String() string {
	return fmt.Sprintf("%s/%s:%d: %s becomes %s", m.pkg, filepath.Base(m.file), m.line, m.old(), m.with)
}

// key names a mutant without its line, which other changes move.
func (m mutant) key() string {
	return fmt.Sprintf("%s/%s %s: %s becomes %s", m.pkg, filepath.Base(m.file), m.function, m.old(), m.with)
}

// old is the text that is replaced, on one line.
func (m mutant) old() string {
	return strings.Join(strings.Fields(string(m.text[m.from:m.to])), " ")
}

func (m mutant) changed() []byte {
	return bytes.Join([][]byte{m.text[:m.from], []byte(m.with), m.text[m.to:]}, nil)
}

// others are what an operator becomes.
var others = map[token.Token]string{
	token.EQL: "!=", token.NEQ: "==", token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">",
	token.LAND: "||", token.LOR: "&&", token.ADD: "-", token.SUB: "+",
}

// find returns all mutants of a package.
func find(top, pkg string) ([]mutant, error) {
	names, err := filepath.Glob(filepath.Join(top, pkg, "*.go"))
	if err != nil {
		return nil, err
	}
	var all []mutant
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		found, err := mutants(pkg, name, text)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func mutants(pkg, name string, text []byte) ([]mutant, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, text, 0)
	if err != nil {
		return nil, err
	}
	var all []mutant
	for _, declaration := range file.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok || function.Body == nil {
			continue
		}
		add := func(from, to token.Pos, with string) {
			at := files.Position(from)
			all = append(all, mutant{pkg, name, at.Line, function.Name.Name, text, at.Offset, files.Position(to).Offset, with})
		}
		ast.Inspect(function.Body, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.BinaryExpr:
				if with, ok := others[node.Op]; ok && !isString(node) {
					add(node.OpPos, node.OpPos+token.Pos(len(node.Op.String())), with)
				}
			case *ast.IfStmt: // an if with an else is as well changed by its comparisons
				add(node.Cond.Pos(), node.Cond.End(), "!("+source(text, files, node.Cond)+")")
			case *ast.ReturnStmt:
				for _, result := range node.Results {
					if id, ok := result.(*ast.Ident); ok {
						switch id.Name {
						case "true":
							add(id.Pos(), id.End(), "false")
						case "false":
							add(id.Pos(), id.End(), "true")
						case "err":
							add(id.Pos(), id.End(), "error(nil)")
						}
					}
				}
			case *ast.BranchStmt:
				switch {
				case node.Label != nil:
				case node.Tok == token.CONTINUE:
					add(node.Pos(), node.End(), "break")
				}
			}
			return true
		})
	}
	return all, nil
}

func source(text []byte, files *token.FileSet, node ast.Node) string {
	return string(text[files.Position(node.Pos()).Offset:files.Position(node.End()).Offset])
}

// isString says whether a sum is one of strings, as far as its literals tell: their difference does not
// compile, which says nothing about the tests.
func isString(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return e.Kind == token.STRING
	case *ast.BinaryExpr:
		return e.Op == token.ADD && (isString(e.X) || isString(e.Y))
	}
	return false
}
