package llama

import "fmt"

// Prompt is what a row of a Decoder begins with.
type Prompt struct {
	Tokens []int32
	Edit   *Edit // nil: its keys and values are its own
}

// Edit replaces keys and values of a prompt, in the layers it says and at the positions it names, by those of
// another prompt, as in the transplant. The replaced ones stay in the cache, so that every later token reads them.
type Edit struct {
	// Positions are tokens of the prompt, one for each state in the order of the states; -1 is padding among them.
	Positions []int32
	// States are the keys, before rotation, and values that a layer gets, [1, len(Positions), G, D]; nil leaves the layer
	// as it is. It is called for each layer once, from 0 up, on one goroutine, though not always on the same as for other
	// prompts. What it returns must last until it is called again or the edit is closed.
	States func(layer int) (*KV, error)
	Close  func() // nil, or called once when the prompt is through, or has failed
}

// check refuses positions that are none of the prompt's tokens, or named twice.
func (e *Edit) check(tokens int) error {
	seen := make(map[int32]bool)
	for i, p := range e.Positions {
		switch {
		case p == -1:
		case p < 0 || int(p) >= tokens:
			return fmt.Errorf("edit: state %d is for position %d of a prompt of %d tokens", i, p, tokens)
		case seen[p]:
			return fmt.Errorf("edit: position %d is named twice", p)
		}
		seen[p] = true
	}
	return nil
}

// close tells the edit that it is through.
func (e *Edit) close() {
	if e != nil && e.Close != nil {
		e.Close()
	}
}

// states are those for a layer, or nil.
func (e *Edit) states(layer int) (*KV, error) {
	if e == nil {
		return nil, nil
	}
	kv, err := e.States(layer)
	if err != nil {
		return nil, fmt.Errorf("edit, layer %d: %w", layer, err)
	}
	return kv, nil
}

// insertion is the edit as a stream takes it: in place on graphs, and on panels beside the states of a prompt of length
// tokens that they replace.
func (e *Edit) insertion(length int, inPlace bool) *Insertion {
	if e == nil {
		return nil
	}
	ins := &Insertion{Count: len(e.Positions), Position: make([]int32, len(e.Positions)), Valid: make([]bool, len(e.Positions)),
		InPlace: inPlace}
	if !inPlace {
		ins.Replaced = make([]bool, length)
	}
	for i, p := range e.Positions {
		if p < 0 {
			continue
		}
		ins.Position[i], ins.Valid[i] = p, true
		if !inPlace {
			ins.Replaced[p] = true
		}
	}
	return ins
}

// replace puts moved states, rotated already, over those of a prompt that is alone in its stream, and so lies from
// column 0 on.
func (e *Edit) replace(l *panelLayer) {
	if e == nil || l.moved == nil {
		return
	}
	for i, p := range e.Positions {
		if p >= 0 {
			l.k.Copy(int(p), l.moved.k, i)
			l.v.Copy(int(p), l.moved.v, i)
		}
	}
}
