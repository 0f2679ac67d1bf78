package chat

import "gotransplant/model/tokenizer"

// Encode gives the ids of a rendered conversation, or of a plain text: one BOS in front, if the tokenizer puts one there
// and the text does not begin with it itself.
func Encode(tok *tokenizer.Tokenizer, r Rendered) []int32 {
	tokens := tok.Encode(r.Text, r.Ordinary)
	ids := make([]int32, 0, len(tokens)+1)
	if bos, ok := tok.BOS(); ok && (len(tokens) == 0 || tokens[0].ID != bos) {
		ids = append(ids, bos)
	}
	for _, t := range tokens {
		ids = append(ids, t.ID)
	}
	return ids
}
