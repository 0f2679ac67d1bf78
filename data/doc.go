// Package data turns a CSV of questions with a right and a wrong argument each into token ids: rows, prompt templates
// whose fenced segments are the passages to transplant, encoding segment by segment, and seeded splits and orders. It
// knows no tokenizer and no model; [Encoder] is what it asks of the first.
package data
