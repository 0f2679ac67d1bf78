package chat

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gotransplant/model/tokenizer"

	"github.com/nikolalohinski/gonja/v2/exec"
)

// Rendered is the text of a conversation and which of its bytes, in order, must not be taken for part of a special token
// because a message says them.
type Rendered struct {
	Text     string
	Ordinary []tokenizer.Range
}

// Converse renders a conversation so that it can be told what of the text messages said. A template may do with a text what
// it likes, so the text itself is asked: wherever a message has what an added token begins with, ends with or is, two marks
// that are no characters are put around it, and the template is rendered once more. If taking the marks out of the outcome
// gives what the template made of the messages as they are, what stands between two marks is ordinary text. A template that
// looks at these characters, so that the marks change what it does, is refused for this conversation. So is one that takes
// such a text apart and makes a special token of it: a third rendering, with letters in its place, must have the same
// special tokens. (A template that makes a token of what had nothing of one in it, by leaving letters out, say, is not
// found out.)
func (t *Template) Converse(messages []Message, prompt bool, tok *tokenizer.Tokenizer) (Rendered, error) {
	text, err := t.Render(messages, prompt)
	if err != nil {
		return Rendered{}, err
	}
	m, err := newMarker(messages, t.Text, protected(tok))
	if err != nil {
		return Rendered{}, err
	}
	change := func(change func(s string) string) (string, error) {
		values := make(list, len(messages))
		for i, message := range messages {
			value, err := message.value()
			if err != nil {
				return "", err
			}
			values[i] = changed(value, "", change)
		}
		return t.render(values, prompt)
	}
	marked, err := change(m.mark)
	if !m.found {
		return Rendered{Text: text}, nil
	}
	var r Rendered
	if err == nil {
		r = m.unmark(marked)
	}
	if r.Text != text {
		return Rendered{}, m.refusal(t.Name)
	}
	other, err := change(m.replace)
	if err != nil || !slices.Equal(m.specials(tok, r), m.specials(tok, Rendered{Text: other})) {
		return Rendered{}, m.refusal(t.Name)
	}
	return r, nil
}

// protected are the tokens that a message must not say: the special ones, and those that look so whatever the tokenizer
// declares them to be. Other added tokens are text, and mean in a message what they mean elsewhere.
func protected(tok *tokenizer.Tokenizer) []string {
	all := tok.SpecialTokens()
	for _, token := range tok.PlainAddedTokens() {
		if looksSpecial.FindString(token) == token {
			all = append(all, token)
		}
	}
	return all
}

// changed is a message's value with every text in it changed, but for roles, on which templates decide.
func changed(value any, key string, change func(s string) string) any {
	switch v := value.(type) {
	case string:
		if key != "role" || strings.ContainsAny(v, "<>|[]") {
			return change(v)
		}
	case list:
		items := make(list, len(v))
		for i, item := range v {
			items[i] = changed(item, key, change)
		}
		return items
	case *exec.Dict:
		d := exec.NewDict()
		for _, p := range v.Pairs {
			value := exec.ToValue(changed(p.Value.Interface(), p.Key.String(), change))
			d.Pairs = append(d.Pairs, &exec.Pair{Key: p.Key, Value: value})
		}
		return d
	}
	return value
}

// marker finds in texts what could become a protected token, or part of one.
type marker struct {
	open, close string
	tokens      []string
	found       bool
	first       string // what was found first
}

func newMarker(messages []Message, template string, tokens []string) (*marker, error) {
	all := template
	for _, message := range messages {
		all += message.Role + message.Content + string(message.Object)
	}
	var free []string
	for r := '\ufdd1'; r <= '\ufdef' && len(free) < 2; r++ {
		if !strings.ContainsRune(all, r) {
			free = append(free, string(r))
		}
	}
	if len(free) < 2 {
		return nil, errors.New("the conversation has all of Unicode's noncharacters in it: take some out")
	}
	return &marker{open: free[0], close: free[1], tokens: tokens}, nil
}

// spans are the places in s that could be of a protected token: it stands there whole, or s begins with the end of one, or
// ends with the beginning of one. White space alone is left out: templates trim it.
func (m *marker) spans(s string) []tokenizer.Range {
	var all []tokenizer.Range
	add := func(start, end int) {
		if strings.TrimSpace(s[start:end]) != "" {
			all = append(all, tokenizer.Range{Start: start, End: end})
		}
	}
	for _, token := range m.tokens {
		for at := 0; ; at++ {
			i := strings.Index(s[at:], token)
			if i < 0 {
				break
			}
			at += i
			add(at, at+len(token))
		}
		for n := min(len(token)-1, len(s)); n > 0; n-- {
			if strings.HasPrefix(token, s[len(s)-n:]) {
				add(len(s)-n, len(s))
				break
			}
		}
		for n := min(len(token)-1, len(s)); n > 0; n-- {
			if strings.HasSuffix(token, s[:n]) {
				add(0, n)
				break
			}
		}
	}
	slices.SortFunc(all, func(a, b tokenizer.Range) int { return a.Start - b.Start })
	var joined []tokenizer.Range
	for _, r := range all {
		if n := len(joined); n > 0 && r.Start <= joined[n-1].End {
			joined[n-1].End = max(joined[n-1].End, r.End)
			continue
		}
		joined = append(joined, r)
	}
	return joined
}

// mark puts marks around what spans finds.
func (m *marker) mark(s string) string {
	return m.rebuild(s, func(part string) string {
		if !m.found {
			m.found, m.first = true, part
		}
		return m.open + part + m.close
	})
}

// replace puts letters in its place.
func (m *marker) replace(s string) string {
	return m.rebuild(s, func(part string) string { return strings.Repeat("x", len(part)) })
}

func (m *marker) rebuild(s string, change func(part string) string) string {
	var out strings.Builder
	at := 0
	for _, r := range m.spans(s) {
		out.WriteString(s[at:r.Start] + change(s[r.Start:r.End]))
		at = r.End
	}
	return out.String() + s[at:]
}

// unmark takes the marks out. One whose partner the template dropped stands for nothing.
func (m *marker) unmark(text string) Rendered {
	var r Rendered
	var out strings.Builder
	start := -1
	for _, c := range text {
		switch string(c) {
		case m.open:
			start = out.Len()
		case m.close:
			if start >= 0 {
				r.Ordinary = append(r.Ordinary, tokenizer.Range{Start: start, End: out.Len()})
			}
			start = -1
		default:
			out.WriteRune(c)
		}
	}
	r.Text = out.String()
	return r
}

// specials are the protected tokens that a tokenizer finds.
func (m *marker) specials(tok *tokenizer.Tokenizer, r Rendered) (ids []int32) {
	for _, token := range tok.Encode(r.Text, r.Ordinary) {
		if s, ok := tok.TokenString(token.ID); ok && slices.Contains(m.tokens, s) {
			ids = append(ids, token.ID)
		}
	}
	return ids
}

func (m *marker) refusal(name string) error {
	return fmt.Errorf("chat template %s: a message says %q, which is or may become a special token, and the template does with "+
		"it what cannot be followed: it could not be told from a token of the template; change the message", name, m.first)
}
