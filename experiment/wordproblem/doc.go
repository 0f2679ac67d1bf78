// Package wordproblem is the built-in study: can a small LLaMA that reads an argument tell from the inside whether it is
// right? It generates everything the study needs, seeded and without limit: word problems in a language of about a
// hundred words, right and wrong arguments for them, the data set of the transplant training (WriteCSV), the documents
// that the embedded model is pre-trained on (Documents) and the tokenizer of the language (LearnTokenizer).
//
// The number that answers the question is the held-out fraction of rows for which the chooser names the right argument.
// The baselines are 0.5 (chance) and the third writer, who is right in 60 % of the rows.
//
// A wrong argument has one of four errors. Three are revealed by copying: it uses a number, a name or an object that
// is not in the question. The fourth needs a sum: the arithmetic is off.
package wordproblem
