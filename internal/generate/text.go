package generate

import (
	"strings"

	"gotransplant/model/tokenizer"
)

// text is what a row's tokens say behind its prompt, up to a stop string if one comes.
type text struct {
	stream  *tokenizer.Stream
	held    string // the prompt's last bytes, which the stream still holds: it gives them with the first token's text
	stops   []string
	said    string
	shown   int    // bytes of said that certain has given
	stopped string // the stop string that ended it
}

// newText decodes the prompt first: how a token reads may depend on what stands before it.
func newText(tok *tokenizer.Tokenizer, prompt []int32, stops []string) *text {
	t := &text{stream: tok.NewStream(), stops: stops}
	for _, id := range prompt {
		t.stream.Push(id)
	}
	end := *t.stream // as if the prompt were all
	t.held = end.Flush()
	return t
}

// behindPrompt takes what the prompt held back off the first text. Where bytes that follow have spoiled the prompt's, each of
// these has become a U+FFFD.
func (t *text) behindPrompt(more string) string {
	held := t.held
	t.held = ""
	if rest, ok := strings.CutPrefix(more, held); ok {
		return rest
	}
	return strings.TrimPrefix(more, strings.Repeat("\uFFFD", len(held)))
}

func (t *text) push(id int32) { t.add(t.stream.Push(id)) }

// flush adds what the tokens so far may still say.
func (t *text) flush() { t.add(t.stream.Flush()) }

// add looks for stop strings in what is new and cuts the text before the one that ends first, of those that end at one
// place the longest: so it is as if the text came letter by letter, wherever tokens begin and end.
func (t *text) add(more string) {
	if t.stopped != "" || more == "" {
		return
	}
	more = t.behindPrompt(more)
	before := len(t.said)
	t.said += more
	cut, end := len(t.said), len(t.said)+1
	for _, stop := range t.stops {
		from := max(0, before-len(stop)+1)
		i := strings.Index(t.said[from:], stop)
		if i < 0 {
			continue
		}
		if at := from + i; at+len(stop) < end || at+len(stop) == end && at < cut {
			cut, end, t.stopped = at, at+len(stop), stop
		}
	}
	t.said = t.said[:cut]
}

// certain is the text that has not been given yet and will not be taken back: unless this is all, not what may begin a stop
// string.
func (t *text) certain(all bool) string {
	end := len(t.said)
	if !all && t.stopped == "" {
		end -= t.pending()
	}
	if end <= t.shown {
		return ""
	}
	more := t.said[t.shown:end]
	t.shown = end
	return more
}

// pending is the length of the longest end of the text with which a stop string begins.
func (t *text) pending() int {
	longest := 0
	for _, stop := range t.stops {
		for n := min(len(stop)-1, len(t.said)); n > longest; n-- {
			if strings.HasSuffix(t.said, stop[:n]) {
				longest = n
			}
		}
	}
	return longest
}
