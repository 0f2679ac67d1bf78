// Package tokenizer turns text into token ids and back exactly as the Rust library "tokenizers" does, for the LLaMA
// family: tokenizer.json of LLaMA-1/2 (BPE over characters with word marks and byte fallback) and of LLaMA-3 (BPE over
// bytes after a split pattern), and SentencePiece BPE models (tokenizer.model). What else such files may hold is
// refused by name when they are opened.
//
// [Open] gives a [Tokenizer]; [Tokenizer.Encode] gives [Token] values with exact byte spans; [Stream] decodes as tokens
// arrive. BOS is never part of an encoding: a caller puts [Tokenizer.BOS] in front of a prompt once.
//
// A prompt is made of segments that are each encoded on their own. In a segment, ranges that came from data are marked
// as ordinary: there the text of a special token is tokenized like any other text, as the Rust library does with
// encode_special_tokens (split_special_tokens in transformers). Inside such text nothing but the merges decides, and
// no merge of a LLaMA vocabulary makes a special token.
//
// Whether "<s>" in the text of a template is the special token follows the file: LLaMA-1/2 files that say "normalized"
// for it, and tokenizer.model, match it only after a space or at the start of a text between special tokens, because
// the normalizer has put a word mark in front of the pattern as well.
package tokenizer
