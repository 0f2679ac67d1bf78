package transplant

import "gotransplant/llama"

// layout is a micro-batch made ready for the two streams. There are two, with equal results: packed, which computes as
// few tokens as possible, and in place, which asks of attention no more than a causal mask.
type layout struct {
	attention       llama.Attention
	arguer, chooser batch
	export          llama.Export     // of the arguer's states; both are empty when nothing is moved
	insertion       *llama.Insertion // into the chooser
	tokens          []int            // really computed, per case
}

// layout lays a group out: in place for fused attention, else packed.
func (m *Method) layout(g group, train bool) layout {
	attention := m.attention(g, train)
	l := layout{attention: attention, tokens: make([]int, len(g.cases))}
	if attention == llama.FusedAttention {
		m.layInPlace(g, &l)
	} else {
		m.layPacked(g, &l)
	}
	return l
}

// filled calls pack for each row of a group; any row will do to fill up.
func filled(g group, pack func(i int) []row) []row {
	var rows []row
	for i := range g.rows {
		if i >= len(g.cases) {
			i = 0
		}
		rows = append(rows, pack(i)...)
	}
	return rows
}

// layPacked leaves dead positions out of the chooser's rows and gives both arguments of the arguer one trunk.
func (m *Method) layPacked(g group, l *layout) {
	lastMoved, all := m.span()
	choosers := filled(g, func(i int) []row { return []row{packChooser(g.cases[i], all).behind(len(m.Prefix.Chooser))} })
	for i := range l.tokens {
		l.tokens[i] = len(choosers[i].token)
	}
	l.chooser = pad(choosers, g.shape.Chooser)
	if lastMoved < 0 {
		return
	}
	arguers := filled(g, func(i int) []row { return []row{packArguer(g.cases[i]).behind(len(m.Prefix.Arguer))} })
	for i := range l.tokens {
		l.tokens[i] += len(arguers[i].token)
	}
	l.arguer = pad(arguers, g.shape.Arguer)
	export, insertion := moves(arguers, l.arguer.Length, g.shape.Moved)
	if !all {
		insertion.Replaced = padReplaced(choosers, l.chooser.Length)
	}
	l.export, l.insertion = export, &insertion
}

// layInPlace gives each of the arguer's prompts a row of its own, 2i and 2i+1 for row i of the chooser, whose row keeps
// all its tokens.
func (m *Method) layInPlace(g group, l *layout) {
	lastMoved, all := m.span()
	length := g.shape.Chooser + len(m.Prefix.Chooser)
	if all {
		length += g.shape.Moved // what the packed row leaves out
	}
	choosers := filled(g, func(i int) []row { return []row{packChooser(g.cases[i], false)} })
	for i := range l.tokens {
		l.tokens[i] = len(choosers[i].token)
	}
	l.chooser = pad(choosers, length)
	if lastMoved < 0 {
		return
	}
	arguers := filled(g, func(i int) []row { return []row{packAlone(g.cases[i], 0), packAlone(g.cases[i], 1)} })
	longest := g.shape.Alone
	for _, r := range arguers { // buckets may have been chosen for others
		longest = max(longest, upTo(aloneStep, len(r.token)))
	}
	for i := range l.tokens {
		l.tokens[i] += len(arguers[2*i].token) + len(arguers[2*i+1].token)
	}
	l.arguer = pad(arguers, longest)
	pairs := make([]row, g.rows) // as moves reads them: the two rows as one of twice the length
	for i := range pairs {
		first, second := arguers[2*i], arguers[2*i+1]
		pairs[i].source = append(pairs[i].source, first.source...)
		for _, p := range second.source {
			pairs[i].source = append(pairs[i].source, int32(longest)+p)
		}
		pairs[i].target = append(append(pairs[i].target, first.target...), second.target...)
	}
	export, insertion := moves(pairs, 2*longest, g.shape.Moved)
	export.Rows, insertion.InPlace = g.rows, true
	l.export, l.insertion = export, &insertion
}

// packAlone lays out the arguer's prompt for candidate i as far as its last moved position.
func packAlone(c Case, i int) row {
	var r row
	from, to := moved(c.Argue[i].Span), moved(c.Spans[i])
	for p, id := range c.Argue[i].IDs[:from.End] {
		r.add(id, int32(p), 0)
	}
	for p := from.Start; p < from.End; p++ {
		r.source = append(r.source, int32(p))
		r.target = append(r.target, int32(to.Start+p-from.Start))
	}
	return r
}
