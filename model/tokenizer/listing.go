package tokenizer

// AddedTokens are the texts that are found before the model sees a text, special or not.
func (t *Tokenizer) AddedTokens() []string {
	var all []string
	for _, token := range t.added.list {
		if token.Content != "" {
			all = append(all, token.Content)
		}
	}
	return all
}
