package chat

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"

	controls "github.com/nikolalohinski/gonja/v2/builtins/control_structures"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/parser"
	"github.com/nikolalohinski/gonja/v2/tokens"
)

// Bounds of what a template may do. Templates come with models, from strangers. One that calls itself, or keeps a value
// inside itself, would end the program with an overflow of the stack, from which Go does not recover.
const (
	mostText    = 1 << 20 // bytes of a template
	mostNested  = 200     // brackets within brackets
	mostWidth   = 1000    // what a filter indents by, or how many columns it makes
	mostSteps   = 300_000 // turns of loops and calls of macros, in one rendering
	mostFrames  = 5_000   // of Go's stack: some hundred calls of macros within each other
	mostWeight  = 1 << 24 // bytes of a value that is set
	itemWeight  = 32      // bytes
	mostDepth   = 500     // lists and dicts within each other
	weightAStep = 1000    // what is looked at of such a value in the time of a step
)

// stepsTag is put behind every for and macro by rewrite: it counts.
const stepsTag = "steps"

// countedIn is the variable under which a rendering has its counter. Templates cannot spell it.
const countedIn = " steps"

// counter is what one rendering has done.
type counter struct {
	steps int
	why   string // it was ended; "" if it was not
}

// count adds steps.
func (c *counter) count(n int) error {
	var one [1]uintptr
	switch c.steps += n; {
	case c.steps > mostSteps:
		c.why = fmt.Sprintf("it takes more than %d steps", mostSteps)
	case runtime.Callers(mostFrames, one[:]) > 0:
		c.why = "its macros, loops and conditions stand too deep within each other"
	default:
		return nil
	}
	return errors.New(c.why)
}

// counted finds a rendering's counter.
func counted(r *exec.Renderer) (*counter, error) {
	value, _ := r.Environment.Context.Get(countedIn)
	if c, ok := value.(*counter); ok {
		return c, nil
	}
	return nil, errors.New("this rendering is not counted")
}

// steps is the node of stepsTag.
type steps struct{ at *tokens.Token }

func (s *steps) Position() *tokens.Token { return s.at }
func (s *steps) String() string          { return stepsTag }

// Execute is called by gonja.
func (s *steps) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error {
	c, err := counted(r)
	if err != nil {
		return err
	}
	return c.count(1)
}

func parseSteps(p, _ *parser.Parser) (nodes.ControlStructure, error) {
	return &steps{p.Current()}, nil
}

// set is gonja's tag, after which the value that was changed is looked at.
type set struct {
	exec.ControlStructure
	name string
}

// Execute is called by gonja.
func (s *set) Execute(r *exec.Renderer, tag *nodes.ControlStructureBlock) error {
	if err := s.ControlStructure.Execute(r, tag); err != nil {
		return err
	}
	c, err := counted(r)
	if err != nil {
		return err
	}
	value, _ := r.Environment.Context.Get(s.name)
	w := weighing{}
	w.item(value, -1)
	if w.why != "" {
		c.why = s.name + " " + w.why
		return errors.New(c.why)
	}
	return c.count(w.weight / weightAStep)
}

func parseSet(p, arguments *parser.Parser) (nodes.ControlStructure, error) {
	first := arguments.Current()
	if first == nil || first.Type != tokens.Name {
		return nil, arguments.Error("set takes a name", first)
	}
	parse, _ := controls.All.Get("set")
	inner, err := parse(p, arguments)
	if err != nil {
		return nil, err
	}
	gonjas, ok := inner.(exec.ControlStructure)
	if !ok {
		return nil, fmt.Errorf("set is a %T", inner)
	}
	return &set{gonjas, first.Val}, nil
}

// weighing adds up a value.
type weighing struct {
	weight int
	why    string // what is wrong with it
	above  []uintptr
}

func (w *weighing) add(value any, depth int) {
	w.weight += itemWeight
	switch {
	case w.why != "":
		return
	case depth > mostDepth:
		w.why = "is nested too deep"
		return
	case w.weight > mostWeight:
		w.why = fmt.Sprintf("grows beyond %d bytes", mostWeight)
		return
	}
	v := reflect.ValueOf(value)
	switch v.Kind() {
	case reflect.String:
		w.weight += v.Len()
		return
	case reflect.Slice:
		for i := range v.Len() {
			w.item(v.Index(i).Interface(), depth)
		}
	case reflect.Map:
		if w.within(v.Pointer()) {
			w.why = "holds itself"
			return
		}
		w.above = append(w.above, v.Pointer())
		for _, key := range v.MapKeys() {
			w.item(v.MapIndex(key).Interface(), depth)
		}
		w.above = w.above[:len(w.above)-1]
	case reflect.Pointer:
		if d, ok := value.(*exec.Dict); ok {
			for _, p := range d.Pairs {
				w.item(p.Value, depth)
			}
		}
	}
	if w.weight > mostWeight && w.why == "" {
		w.why = fmt.Sprintf("grows beyond %d bytes", mostWeight)
	}
}

func (w *weighing) item(value any, depth int) {
	if w.why != "" {
		return
	}
	if v, ok := value.(*exec.Value); ok {
		value = v.Interface()
	}
	w.add(value, depth+1)
}

func (w *weighing) within(pointer uintptr) bool {
	for _, p := range w.above {
		if p == pointer {
			return true
		}
	}
	return false
}
