package tokenizer

// SpecialTokens are the texts of the added tokens that are special: those that mark something and are not text.
func (t *Tokenizer) SpecialTokens() []string { return t.addedWith(true) }

// PlainAddedTokens are the texts of the other added tokens.
func (t *Tokenizer) PlainAddedTokens() []string { return t.addedWith(false) }

func (t *Tokenizer) addedWith(special bool) []string {
	var all []string
	for _, token := range t.added.list {
		if token.Content != "" && token.Special == special {
			all = append(all, token.Content)
		}
	}
	return all
}
