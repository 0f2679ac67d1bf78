package extract

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gotransplant/data"
)

// pick is one member of --positions.
type pick struct {
	kind  string // "all", "last", "span", "moved", "mean", or "" for an index
	name  string // of the segment
	index int    // from the end where negative
}

// parsePositions reads a list such as last,0,-2,mean:a.
func parsePositions(text string) (picks []pick, err error) {
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		kind, name, named := strings.Cut(part, ":")
		index, err := strconv.Atoi(part)
		switch {
		case err == nil:
			picks = append(picks, pick{index: index})
		case !named && (kind == "all" || kind == "last"):
			picks = append(picks, pick{kind: kind})
		case named && name != "" && (kind == "span" || kind == "moved" || kind == "mean"):
			picks = append(picks, pick{kind: kind, name: name})
		default:
			return nil, fmt.Errorf("--positions %s: %q is none of all, last, span:NAME, moved:NAME, mean:NAME, or a token's index", text, part)
		}
	}
	return picks, nil
}

// vectors are the tokens of each vector to store, in the order of the picks: a range of one, or of all that a mean is over.
func vectors(picks []pick, tokens int, segments map[string]data.Span) (out []data.Span, err error) {
	one := func(i int) { out = append(out, data.Span{Start: i, End: i + 1}) }
	each := func(s data.Span) {
		for i := s.Start; i < s.End; i++ {
			one(i)
		}
	}
	for _, p := range picks {
		var s data.Span
		if p.name != "" {
			var ok bool
			if s, ok = segments[p.name]; !ok {
				return nil, fmt.Errorf("there is no segment %q; there are %q", p.name, slices.Sorted(maps.Keys(segments)))
			}
			if s.Start == s.End {
				return nil, fmt.Errorf("the segment %q has no tokens", p.name)
			}
		}
		switch p.kind {
		case "all":
			each(data.Span{End: tokens})
		case "last":
			one(tokens - 1)
		case "span":
			each(s)
		case "mean":
			out = append(out, s)
		case "moved":
			if s.Start == 0 {
				return nil, fmt.Errorf("no position produces the first token of the segment %q, which begins the text", p.name)
			}
			each(data.Span{Start: s.Start - 1, End: s.End - 1})
		default:
			i := p.index
			if i < 0 {
				i += tokens
			}
			if i < 0 || i >= tokens {
				return nil, fmt.Errorf("position %d of %d tokens", p.index, tokens)
			}
			one(i)
		}
	}
	return out, nil
}
