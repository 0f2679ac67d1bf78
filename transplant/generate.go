package transplant

import (
	"fmt"

	"gotransplant/llama"
)

// NewDecoder continues the chooser's prompts token by token, with the chooser's adapter. Its prompts are Method.Prompt's.
func (m *Method) NewDecoder() (*llama.Decoder, error) {
	return m.Engine.NewDecoder(m.Chooser.Overlay())
}

// Prompt is a case's chooser prompt for a decoder, with the arguer's keys and values in the places of the arguments. The
// arguer runs when the decoder computes the prompt, one block ahead of the chooser; what was moved stays in the cache.
func (m *Method) Prompt(c Case) (llama.Prompt, error) {
	p := llama.Prompt{Tokens: c.Choose}
	lastMoved, _ := m.span()
	if lastMoved < 0 {
		return p, nil
	}
	if err := c.Check(); err != nil {
		return p, err
	}
	arguer, export, insertion := arguerOf(c)
	run := &pair{Method: m, lastMoved: lastMoved}
	p.Edit = &llama.Edit{
		Positions: insertion.Position,
		Close:     run.close,
		States: func(layer int) (*llama.KV, error) {
			if run.arguer == nil && layer <= lastMoved {
				var err error
				run.arguer, err = m.Engine.NewStream(arguer.Sequences,
					llama.StreamOptions{Name: ArguerName, Overlay: m.Arguer.Overlay(), Export: &export})
				if err != nil {
					return nil, fmt.Errorf("arguer: %w", err)
				}
			}
			states, err := run.argue(layer)
			if err != nil {
				return nil, fmt.Errorf("arguer: %w", err)
			}
			return states, nil
		},
	}
	for i, valid := range insertion.Valid {
		if !valid {
			p.Edit.Positions[i] = -1
		}
	}
	return p, nil
}
