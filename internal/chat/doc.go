// Package chat turns conversations into prompts: it renders the chat template of a checkpoint, which is a Jinja text, as
// Hugging Face transformers does, turns the result into token ids without ever taking what a message says for a special
// token, and checks that the template's markers are what the vocabulary and the stop ids think they are.
package chat
