package chat

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed templates
var embedded embed.FS

// Builtins are the names of the templates for models that have none.
func Builtins() []string { return []string{"alpaca", "chatml", "llama2", "llama3"} }

// Builtin is one of Builtins.
func Builtin(name string) (*Template, error) {
	text, err := embedded.ReadFile("templates/" + name + ".jinja")
	if err != nil {
		return nil, fmt.Errorf("there is no built-in chat template %q; there are %s", name, strings.Join(Builtins(), ", "))
	}
	return NewTemplate(name, string(text))
}
