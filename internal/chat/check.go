package chat

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"gotransplant/model/tokenizer"
)

// Options of a check.
type Options struct {
	Stop       []int32 // ids at which generation stops
	AllowPlain bool    // markers may be ordinary text
}

// looksSpecial is how special tokens are spelled. [INST] is none: LLaMA-2 has it as ordinary text.
var looksSpecial = regexp.MustCompile(`<\|[^<>|\s]{1,80}\|>|<｜[^<>｜\s]{1,80}｜>|</?s>`)

// Check finds out, before anything is computed, whether what the template marks is what the model knows:
//   - everything in its text that looks like a special token, or is declared to be one, is one token of the vocabulary,
//   - a prompt begins with BOS once, if the model has one and does not say that it wants none,
//   - the token that ends a turn is among those at which generation stops.
//
// The error lists all that is wrong, with ids. Text of the messages themselves is never looked at.
func (m *Model) Check(t *Template, tok *tokenizer.Tokenizer, o Options) error {
	prompt, whole, answer, err := t.samples()
	if err != nil {
		return err
	}
	var problems []string
	if !o.AllowPlain {
		problems = m.plainMarkers(prompt+whole, tok)
	}
	problems = append(problems, m.wrongBOS(prompt, tok)...)
	problems = append(problems, m.wrongEnd(whole[strings.LastIndex(whole, answer)+len(answer):], tok, o.Stop)...)
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("chat template %s does not go with this model:\n  %s", t.Name, strings.Join(problems, "\n  "))
}

// samples render two conversations: up to an answer that is to come, and with it. Templates that refuse a system message
// get none.
func (t *Template) samples() (prompt, whole, answer string, err error) {
	answer = "Paris it is"
	system := Message{Role: "system", Content: "Answer briefly"}
	turns := []Message{{Role: "user", Content: "What is the capital of France"}, {Role: "assistant", Content: answer}}
	for _, talk := range [][]Message{append([]Message{system}, turns...), turns} {
		prompt, err = t.Render(talk[:len(talk)-1], true)
		if err == nil {
			whole, err = t.Render(talk, false)
		}
		if err == nil {
			break
		}
	}
	if err == nil && !strings.Contains(whole, answer) {
		err = fmt.Errorf("chat template %s: it leaves out what the assistant says", t.Name)
	}
	return prompt, whole, answer, err
}

// plainMarkers are the markers of a text that are not single tokens.
func (m *Model) plainMarkers(text string, tok *tokenizer.Tokenizer) (problems []string) {
	at := looksSpecial.FindAllStringIndex(text, -1)
	for _, declared := range m.Declared {
		for from := 0; ; from += len(declared) {
			i := strings.Index(text[from:], declared)
			if i < 0 {
				break
			}
			from += i
			at = append(at, []int{from, from + len(declared)})
		}
	}
	slices.SortFunc(at, func(a, b []int) int { return a[0] - b[0] })
	tokens := tok.Encode(text, nil)
	seen := make(map[string]bool)
	for _, span := range at {
		marker := text[span[0]:span[1]]
		if seen[marker] {
			continue
		}
		seen[marker] = true
		if ids := covering(tokens, span[0], span[1]); len(ids) != 1 || !isToken(tok, ids[0], marker) {
			problems = append(problems, fmt.Sprintf("the marker %q is no token of the vocabulary but the text of %d: %v; fit the "+
				"template to the vocabulary, or say --allow-plain-markers if the model was trained so", marker, len(ids), ids))
		}
	}
	return problems
}

// covering are the ids of the tokens that have bytes in [start, end).
func covering(tokens []tokenizer.Token, start, end int) (ids []int32) {
	for _, t := range tokens {
		if t.Start < end && t.End > start {
			ids = append(ids, t.ID)
		}
	}
	return ids
}

func isToken(tok *tokenizer.Tokenizer, id int32, text string) bool {
	s, ok := tok.TokenString(id)
	return ok && s == text
}

// wrongBOS tells of a prompt that has BOS twice, or not at all.
func (m *Model) wrongBOS(prompt string, tok *tokenizer.Tokenizer) []string {
	bos, ok := tok.BOS()
	if !ok && m.BOS != "" && !m.NoBOS {
		bos, ok = tok.TokenID(m.BOS)
	}
	if !ok {
		return nil
	}
	ids := Encode(tok, Rendered{Text: prompt})
	first := ids[:min(len(ids), 6)]
	switch {
	case len(ids) == 0 || ids[0] != bos:
		return []string{fmt.Sprintf("BOS, %d, is missing: the prompt begins with the tokens %v; the template is to write bos_token, "+
			"or %s to set add_bos_token", bos, first, tokenizerConfig)}
	case len(ids) > 1 && ids[1] == bos:
		return []string{fmt.Sprintf("BOS, %d, stands there twice: the prompt begins with the tokens %v; the template is to write "+
			"bos_token once", bos, first)}
	}
	return nil
}

// wrongEnd tells of a token behind the assistant's answer at which generation does not stop. Text there ends no turn.
func (m *Model) wrongEnd(tail string, tok *tokenizer.Tokenizer, stop []int32) []string {
	special := protected(tok)
	for _, t := range tok.Encode(tail, nil) {
		s, _ := tok.TokenString(t.ID)
		if !slices.Contains(special, s) {
			continue
		}
		if slices.Contains(stop, t.ID) {
			return nil
		}
		from := ""
		if m.StopFrom != "" {
			from = " (" + m.StopFrom + ")"
		}
		return []string{fmt.Sprintf("the template ends a turn with %q, which is the token %d, but generation stops at %v%s: set "+
			"eos_token_id, or say --stop-id %d", s, t.ID, stop, from, t.ID)}
	}
	return nil
}

// CheckIDs looks at the ids of one prompt, as they will be computed: BOS at most once at its beginning.
func (m *Model) CheckIDs(ids []int32, tok *tokenizer.Tokenizer) error {
	bos, ok := tok.BOS()
	if ok && len(ids) > 1 && ids[0] == bos && ids[1] == bos {
		return fmt.Errorf("the prompt begins with BOS, %d, twice: %v: leave it out of the text", bos, ids[:min(len(ids), 6)])
	}
	if len(ids) == 0 {
		return errors.New("the prompt has no tokens")
	}
	return nil
}
