package transplant

import (
	"fmt"
	"slices"

	"gotransplant/llama"
)

// Capture reads states of a case's chooser while the arguer's keys and values are moved in; o.Source are positions of the
// chooser's prompt. As in the plain method all of them are computed, also those for whose keys and values the arguer's
// stand: there k and v are the chooser's own, which nobody sees in a transplanted layer.
func (m *Method) Capture(c Case, o *llama.Capture) error {
	if err := c.Check(); err != nil {
		return err
	}
	lastMoved, _ := m.span()
	p := &pair{Method: m, lastMoved: lastMoved}
	defer p.close()
	if err := p.beginCapture(c, o); err != nil {
		return err
	}
	if err := p.forward(o.Depth(m.layers())); err != nil {
		return err
	}
	if !slices.Contains(o.Sites, llama.SiteLogits) {
		return nil
	}
	return p.chooser.CaptureLogits()
}

// arguerOf lays out one case's arguer, with the states that leave it and the places they go to in the chooser.
func arguerOf(c Case) (batch, llama.Export, llama.Insertion) {
	arguer := packArguer(c)
	length := roundUp(len(arguer.token))
	export, insertion := moves([]row{arguer}, length, roundUp(len(arguer.source)))
	return pad([]row{arguer}, length), export, insertion
}

// beginCapture embeds both streams.
func (p *pair) beginCapture(c Case, o *llama.Capture) (err error) {
	chooser := packChooser(c, false)
	options := llama.StreamOptions{Name: ChooserName, Overlay: p.Chooser.Overlay(), Attention: p.Attention, Capture: o}
	length := roundUp(len(chooser.token))
	if p.lastMoved >= 0 {
		arguer, export, insertion := arguerOf(c)
		insertion.Replaced = padReplaced([]row{chooser}, length)
		options.Insertion = &insertion
		p.arguer, err = p.Engine.NewStream(arguer.Sequences,
			llama.StreamOptions{Name: ArguerName, Overlay: p.Arguer.Overlay(), Attention: p.Attention, Export: &export})
		if err != nil {
			return fmt.Errorf("arguer: %w", err)
		}
	}
	if p.chooser, err = p.Engine.NewStream(pad([]row{chooser}, length).Sequences, options); err != nil {
		return fmt.Errorf("chooser: %w", err)
	}
	return nil
}
