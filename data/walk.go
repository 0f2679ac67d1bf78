package data

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template/parse"
)

// walker checks a parsed template's fields, in branches that are never taken too, and tells each span its field's name.
type walker struct {
	tree   *parse.Tree
	fields []string
}

func (w walker) visit(node parse.Node) error {
	switch n := node.(type) {
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		return visitAll(w, n.Nodes)
	case *parse.ActionNode:
		return w.visit(n.Pipe)
	case *parse.IfNode:
		return w.branch(&n.BranchNode)
	case *parse.WithNode:
		return w.branch(&n.BranchNode)
	case *parse.RangeNode:
		return w.branch(&n.BranchNode)
	case *parse.TemplateNode:
		return w.visit(n.Pipe)
	case *parse.PipeNode:
		if n == nil {
			return nil
		}
		return visitAll(w, n.Cmds)
	case *parse.CommandNode:
		return w.command(n)
	case *parse.FieldNode:
		return w.field(n, n.Ident)
	case *parse.VariableNode:
		if n.Ident[0] == "$" && len(n.Ident) > 1 {
			return w.field(n, n.Ident[1:])
		}
	}
	return nil
}

func visitAll[N parse.Node](w walker, nodes []N) error {
	for _, n := range nodes {
		if err := w.visit(n); err != nil {
			return err
		}
	}
	return nil
}

func (w walker) branch(b *parse.BranchNode) error {
	if err := w.visit(b.Pipe); err != nil {
		return err
	}
	if err := w.visit(b.List); err != nil {
		return err
	}
	return w.visit(b.ElseList)
}

// field checks a field's name.
func (w walker) field(node parse.Node, ident []string) error {
	if len(ident) == 1 && slices.Contains(w.fields, ident[0]) {
		return nil
	}
	return w.errorf(node, ".%s is not a field of this template; there are .%s",
		strings.Join(ident, "."), strings.Join(w.fields, ", ."))
}

// command turns {{span .Argument}} into {{span "Argument" .Argument}}.
func (w walker) command(n *parse.CommandNode) error {
	if err := visitAll(w, n.Args); err != nil {
		return err
	}
	function, ok := n.Args[0].(*parse.IdentifierNode)
	if !ok || function.Ident != "span" {
		return nil
	}
	var name string
	if len(n.Args) == 2 {
		switch arg := n.Args[1].(type) {
		case *parse.FieldNode:
			name = arg.Ident[0]
		case *parse.VariableNode:
			name = arg.Ident[len(arg.Ident)-1]
		}
	}
	if !slices.Contains(w.fields, name) {
		return w.errorf(n, "span takes one field, as in {{span .%s}}", w.fields[len(w.fields)-1])
	}
	label := &parse.StringNode{NodeType: parse.NodeString, Pos: n.Pos, Quoted: strconv.Quote(name), Text: name}
	n.Args = []parse.Node{function, label, n.Args[1]}
	return nil
}

func (w walker) errorf(node parse.Node, format string, args ...any) error {
	location, _ := w.tree.ErrorContext(node)
	return fmt.Errorf("template %s: "+format, append([]any{location}, args...)...)
}
