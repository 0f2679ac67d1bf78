// Package tiny embeds what transplant-train runs on when no other model and data are named: a LLaMA of about a million
// parameters with its tokenizer, a data set of generated word problems, and two short prompt templates. All of it is
// made by transplant-datagen and transplant-pretrain; package experiment/wordproblem is the recipe.
package tiny

import "embed"

// Files holds the embedded directory.
//
//go:embed dataset.csv model templates
var Files embed.FS

// Where things stand in Files.
const (
	Model          = "model" // a Hugging Face checkpoint directory
	DataSet        = "dataset.csv"
	ArgueTemplate  = "templates/argue.tmpl"
	ChooseTemplate = "templates/choose.tmpl"
)
