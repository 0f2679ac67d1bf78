package chat

import (
	"os"
	"path/filepath"
	"testing"
)

// sharedDir finds the directory of real inputs or skips the test.
func sharedDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("TRANSPLANT_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "chat-templates")); err != nil {
		t.Skipf("shared inputs not found at %s: set TRANSPLANT_SHARED", dir)
	}
	return dir
}

// conversations are those of the rendered files, by the files' names.
func conversations() map[string][]Message {
	system := Message{Role: "system", Content: "You are a helpful assistant."}
	question := Message{Role: "user", Content: "Hello, how are you?"}
	answer := Message{Role: "assistant", Content: "I'm doing great. How can I help you today?"}
	second := Message{Role: "user", Content: "I'd like to show off how chat templating works!"}
	return map[string][]Message{
		"user":                       {question},
		"user-assistant-user":        {question, answer, second},
		"system-user-assistant-user": {system, question, answer, second},
	}
}

// TestBuiltinsRender: the built-in templates give the reference texts, to the byte.
func TestBuiltinsRender(t *testing.T) {
	dir := filepath.Join(sharedDir(t), "data", "chat-templates")
	folders := map[string]string{"alpaca": "alpaca", "chatml": "chatml", "llama2": "llama2-chat", "llama3": "llama3-instruct"}
	for _, name := range Builtins() {
		template, err := Builtin(name)
		if err != nil {
			t.Fatal(err)
		}
		template.BOS, template.EOS = "<s>", "</s>"
		for file, messages := range conversations() {
			t.Run(name+" "+file, func(t *testing.T) {
				want, err := os.ReadFile(filepath.Join(dir, folders[name]+".gotmpl", file))
				if err != nil {
					t.Fatal(err)
				}
				got, err := template.Render(messages, true)
				if err != nil || got != string(want) {
					t.Errorf("got %q, error %v\nwant %q", got, err, want)
				}
			})
		}
	}
}
