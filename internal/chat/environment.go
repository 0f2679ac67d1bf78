package chat

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/nikolalohinski/gonja/v2/builtins"
	controls "github.com/nikolalohinski/gonja/v2/builtins/control_structures"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/parser"
	"github.com/nikolalohinski/gonja/v2/tokens"
)

// environment is what a template may use: of gonja's parts those that read no file, with what differs from Jinja2 and from
// the additions of transformers put right.
func environment() *exec.Environment {
	return &exec.Environment{
		Context:           exec.NewContext(map[string]any{"none": none{}, "range": rangeOf, "namespace": namespace}),
		Filters:           filters(),
		Tests:             tests(),
		ControlStructures: statements(),
		Methods: exec.Methods{
			Bool: builtins.Methods.Bool, Int: builtins.Methods.Int, Float: builtins.Methods.Float,
			Str: stringMethods(), Dict: dictMethods(), List: exec.NewMethodSet(map[string]exec.Method[[]any]{}),
		},
	}
}

// namespace holds values that a template may change inside a loop.
func namespace(arguments *exec.VarArgs) map[string]any {
	values := make(map[string]any)
	for name, value := range arguments.KwArgs {
		values[name] = value
	}
	return values
}

// longestRange is Jinja2's bound for templates that are not trusted.
const longestRange = 100000

func rangeOf(arguments *exec.VarArgs) (list, error) {
	var n []int
	for _, a := range arguments.Args {
		if !a.IsInteger() {
			return nil, fmt.Errorf("range of %s, which is no whole number", a)
		}
		n = append(n, a.Integer())
	}
	start, step := 0, 1
	switch len(n) {
	case 1:
		n = []int{0, n[0]}
	case 3:
		step = n[2]
	}
	if len(n) < 2 || len(n) > 3 || step == 0 {
		return nil, errors.New("range takes a stop; a start and a stop; or these and a step that is not 0")
	}
	var l list
	for start = n[0]; step > 0 && start < n[1] || step < 0 && start > n[1]; start += step {
		if l = append(l, start); len(l) > longestRange {
			return nil, fmt.Errorf("range of more than %d numbers", longestRange)
		}
	}
	return l, nil
}

// statements are the tags: no include, import or extends, and generation, with which templates of transformers mark what
// the model wrote.
func statements() *exec.ControlStructureSet {
	known := make(map[string]parser.ControlStructureParser)
	for _, name := range []string{"for", "if", "macro", "raw", "with", "break", "continue", "call", "filter"} {
		known[name], _ = controls.All.Get(name)
	}
	known["generation"], known["set"], known[stepsTag] = parseGeneration, parseSet, parseSteps
	return exec.NewControlStructureSet(known)
}

// generation renders what it encloses.
type generation struct {
	at   *tokens.Token
	body *nodes.Wrapper
}

func (g *generation) Position() *tokens.Token { return g.at }
func (g *generation) String() string          { return "generation" }

// Execute is called by gonja.
func (g *generation) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error {
	return r.ExecuteWrapper(g.body)
}

func parseGeneration(p, arguments *parser.Parser) (nodes.ControlStructure, error) {
	at := p.Current()
	if !arguments.End() {
		return nil, arguments.Error("generation takes no arguments", arguments.Current())
	}
	body, _, err := p.WrapUntil("endgeneration")
	return &generation{at, body}, err
}

func filters() *exec.FilterSet {
	known := map[string]exec.FilterFunction{"tojson": toJSON, "items": items, "trim": trim}
	for _, name := range []string{"abs", "batch", "capitalize", "default", "d", "dictsort", "first", "float", "groupby", "indent",
		"int", "join", "last", "length", "count", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace",
		"reverse", "round", "safe", "select", "selectattr", "slice", "sort", "string", "sum", "title", "truncate",
		"unique", "upper", "wordcount"} {
		filter, _ := builtins.Filters.Get(name)
		known[name] = func(e *exec.Evaluator, in *exec.Value, arguments *exec.VarArgs) *exec.Value {
			for _, a := range arguments.Args {
				if a.IsInteger() && a.Integer() > mostWidth {
					return exec.AsValue(fmt.Errorf("%s by %s: more than %d", name, a, mostWidth))
				}
			}
			return listed(filter(e, in, arguments))
		}
	}
	return exec.NewFilterSet(known)
}

// items are the keys and values of a dict.
func items(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
	if in.IsError() {
		return in
	}
	pairs := list{}
	for _, p := range pairsOf(in) {
		pairs = append(pairs, list{p.Key.Interface(), p.Value.Interface()})
	}
	return exec.AsValue(pairs)
}

// trim takes white space off the text that a value is.
func trim(_ *exec.Evaluator, in *exec.Value, arguments *exec.VarArgs) *exec.Value {
	switch {
	case in.IsError():
		return in
	case len(arguments.Args)+len(arguments.KwArgs) > 0:
		return exec.AsValue(errors.New("trim with characters is not supported: strip takes them"))
	}
	return exec.AsValue(strings.TrimSpace(in.String()))
}

// toJSON is transformers' filter: json.dumps without ASCII escapes.
func toJSON(_ *exec.Evaluator, in *exec.Value, arguments *exec.VarArgs) *exec.Value {
	if in.IsError() {
		return in
	}
	indent := -1
	for name, value := range arguments.KwArgs {
		switch {
		case name == "indent" && value.IsInteger() && value.Integer() <= mostWidth:
			indent = value.Integer()
		case name == "indent" && isNone(value):
		case name == "ensure_ascii" && !value.IsTrue():
		default:
			return exec.AsValue(fmt.Errorf("tojson: %s=%s is not supported", name, value))
		}
	}
	out, err := appendJSON(nil, in, indent, 0)
	if err != nil {
		return exec.AsValue(err)
	}
	return exec.AsSafeValue(string(out))
}

func tests() *exec.TestSet {
	known := make(map[string]exec.TestFunction)
	for _, name := range []string{"callable", "divisibleby", "eq", "equalto", "==", "even", "ge", ">=", "gt", "greaterthan", ">", "in",
		"float", "integer", "le", "<=", "lower", "lt", "lessthan", "<", "mapping", "ne", "!=", "number", "odd", "sameas", "string",
		"upper", "boolean"} {
		known[name], _ = builtins.Tests.Get(name)
	}
	own := func(name string, is func(v *exec.Value) bool) {
		known[name] = func(_ *exec.Context, v *exec.Value, _ *exec.VarArgs) (bool, error) { return is(v), nil }
	}
	own("defined", func(v *exec.Value) bool { return !v.IsNil() && !v.IsError() })
	own("undefined", func(v *exec.Value) bool { return v.IsNil() || v.IsError() })
	own("none", isNone)
	own("true", func(v *exec.Value) bool { return v.IsBool() && v.Bool() })
	own("false", func(v *exec.Value) bool { return v.IsBool() && !v.Bool() })
	own("iterable", func(v *exec.Value) bool { return v.IsIterable() && !isNone(v) })
	own("sequence", func(v *exec.Value) bool { return v.IsIterable() && !isNone(v) })
	return exec.NewTestSet(known)
}

// dictMethods are those of Python's dict that change nothing, in the order of the keys.
func dictMethods() *exec.MethodSet[map[string]any] {
	type method = exec.Method[map[string]any]
	each := func(of func(p *exec.Pair) any) method {
		return func(_ map[string]any, self *exec.Value, _ *exec.VarArgs) (any, error) {
			items := list{}
			for _, p := range pairsOf(self) {
				items = append(items, of(p))
			}
			return items, nil
		}
	}
	return exec.NewMethodSet(map[string]method{
		"keys":   each(func(p *exec.Pair) any { return p.Key.Interface() }),
		"values": each(func(p *exec.Pair) any { return p.Value.Interface() }),
		"items":  each(func(p *exec.Pair) any { return list{p.Key.Interface(), p.Value.Interface()} }),
		"get": func(_ map[string]any, self *exec.Value, arguments *exec.VarArgs) (any, error) {
			if len(arguments.Args) == 0 || len(arguments.Args) > 2 {
				return nil, errors.New("get takes a key and, if need be, a default")
			}
			if value, ok := self.GetItem(arguments.Args[0].String()); ok {
				return value.Interface(), nil
			}
			if len(arguments.Args) == 2 {
				return arguments.Args[1].Interface(), nil
			}
			return none{}, nil
		},
	})
}

// stringMethods are those of Python's str that templates use.
func stringMethods() *exec.MethodSet[string] {
	type method = exec.Method[string]
	known := make(map[string]method)
	for _, name := range []string{"capitalize", "count", "endswith", "find", "isdigit", "join", "lower", "removeprefix", "removesuffix",
		"startswith", "title", "upper"} {
		known[name], _ = builtins.Methods.Str.Get(name)
	}
	// trimmed takes characters off that are in its argument, or white space.
	trimmed := func(trim func(s string, in func(r rune) bool) string) method {
		return func(s string, _ *exec.Value, arguments *exec.VarArgs) (any, error) {
			in := unicode.IsSpace
			if len(arguments.Args) > 0 && !isNone(arguments.Args[0]) {
				set := arguments.Args[0].String()
				in = func(r rune) bool { return strings.ContainsRune(set, r) }
			}
			return trim(s, in), nil
		}
	}
	known["strip"], known["lstrip"], known["rstrip"] = trimmed(strings.TrimFunc), trimmed(strings.TrimLeftFunc), trimmed(strings.TrimRightFunc)
	known["split"], known["rsplit"] = split(false), split(true)
	known["splitlines"] = func(s string, _ *exec.Value, _ *exec.VarArgs) (any, error) {
		if s == "" {
			return list{}, nil
		}
		s = strings.TrimSuffix(strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n"), "\n")
		return stringList(strings.Split(s, "\n")), nil
	}
	known["replace"] = func(s string, _ *exec.Value, arguments *exec.VarArgs) (any, error) {
		n := -1
		switch {
		case len(arguments.Args) == 3 && arguments.Args[2].IsInteger():
			n = arguments.Args[2].Integer()
		case len(arguments.Args) != 2:
			return nil, errors.New("replace takes what to replace, by what, and, if need be, how often")
		}
		return strings.Replace(s, arguments.Args[0].String(), arguments.Args[1].String(), n), nil
	}
	return exec.NewMethodSet(known)
}

// split is Python's str.split, or rsplit.
func split(fromRight bool) exec.Method[string] {
	return func(s string, _ *exec.Value, arguments *exec.VarArgs) (any, error) {
		most := -1
		if m, ok := arguments.KwArgs["maxsplit"]; ok {
			most = m.Integer()
		}
		if len(arguments.Args) > 1 {
			most = arguments.Args[1].Integer()
		}
		if len(arguments.Args) == 0 || isNone(arguments.Args[0]) {
			if most >= 0 {
				return nil, errors.New("split by white space with maxsplit is not supported: name what to split by")
			}
			return stringList(strings.Fields(s)), nil
		}
		by := arguments.Args[0].String()
		if by == "" {
			return nil, errors.New("split by an empty string")
		}
		if !fromRight || most < 0 {
			if most >= 0 {
				most++
			}
			return stringList(strings.SplitN(s, by, most)), nil
		}
		var items []string
		for ; most > 0; most-- {
			i := strings.LastIndex(s, by)
			if i < 0 {
				break
			}
			items, s = append(items, s[i+len(by):]), s[:i]
		}
		items = append(items, s)
		slices.Reverse(items)
		return stringList(items), nil
	}
}

// strftime writes a time by the letters of C's strftime that templates use.
func strftime(format string, now time.Time) (string, error) {
	layouts := map[byte]string{'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM",
		'B': "January", 'b': "Jan", 'A': "Monday", 'a': "Mon", 'Z': "MST", 'z': "-0700", 'j': "002"}
	var out strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			out.WriteByte(format[i])
			continue
		}
		i++
		bare := format[i] == '-' && i+1 < len(format) // without a leading zero
		if bare {
			i++
		}
		layout, ok := layouts[format[i]]
		switch text := now.Format(layout); {
		case format[i] == '%':
			out.WriteByte('%')
		case !ok:
			return "", fmt.Errorf("strftime_now: %%%c is not supported", format[i])
		case bare:
			out.WriteString(strings.TrimLeft(text[:len(text)-1], "0") + text[len(text)-1:])
		default:
			out.WriteString(text)
		}
	}
	return out.String(), nil
}
