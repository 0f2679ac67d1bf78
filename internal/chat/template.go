package chat

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gotransplant/internal/guard"

	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
	"github.com/nikolalohinski/gonja/v2/parser"
)

// Template is a chat template. It may be used by several goroutines.
type Template struct {
	Name     string // in errors: where it comes from
	Text     string
	BOS, EOS string           // the variables bos_token and eos_token; "" is an empty text
	Now      func() time.Time // what strftime_now tells; nil: the time there is
	compiled *exec.Template
}

// NewTemplate reads a Jinja text.
func NewTemplate(name, text string) (*Template, error) {
	if len(text) > mostText {
		return nil, fmt.Errorf("chat template %s: it has %d bytes, more than %d", name, len(text), mostText)
	}
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("chat template %s: it is not UTF-8: convert it first", name)
	}
	t := &Template{Name: name, Text: text}
	rewritten, err := rewrite(text)
	if err != nil {
		var at *lineError
		errors.As(err, &at)
		return nil, fmt.Errorf("chat template %s, line %d: %w", name, at.line, at.err)
	}
	// transformers' apply_chat_template compiles with trim_blocks and lstrip_blocks; the latter is done by rewrite.
	c := config.New()
	c.TrimBlocks = true
	loader, err := loaders.NewMemoryLoader(map[string]string{"/template": rewritten})
	if err != nil {
		return nil, fmt.Errorf("chat template %s: %w", name, err)
	}
	err = guard.Do("compile", func() (err error) {
		t.compiled, err = exec.NewTemplate("/template", c, loader, environment())
		return err
	})
	var syntax *parser.SyntaxError
	switch {
	case err == nil:
		return t, nil
	case errors.As(err, &syntax) && syntax.Line > 0:
		return nil, fmt.Errorf("chat template %s, line %d: %s, near %q", name, syntax.Line, syntax.Message, syntax.Raw)
	}
	return nil, fmt.Errorf("chat template %s: %s", name, strings.ReplaceAll(lastPart(err), rewritten, "..."))
}

// lastPart is an error without the template's text, which gonja puts into it.
func lastPart(err error) string {
	text := err.Error()
	if i := strings.LastIndex(text, "': "); strings.Contains(text, "failed to parse template") && i >= 0 {
		return text[i+3:]
	}
	return text
}

// Render renders a conversation; with prompt the template begins the assistant's next turn (add_generation_prompt).
func (t *Template) Render(messages []Message, prompt bool) (string, error) {
	values := make(list, len(messages))
	for i, m := range messages {
		value, err := m.value()
		if err != nil {
			return "", fmt.Errorf("message %d: %w", i+1, err)
		}
		values[i] = value
	}
	return t.render(values, prompt)
}

func (t *Template) render(messages list, prompt bool) (string, error) {
	raised, count := "", &counter{}
	variables := exec.NewContext(map[string]any{
		"messages": messages, "add_generation_prompt": prompt, "bos_token": t.BOS, "eos_token": t.EOS,
		"tools": none{}, "documents": none{}, countedIn: count,
		"raise_exception": func(message string) (any, error) {
			raised = message
			return nil, errors.New(message)
		},
		"strftime_now": func(format string) (string, error) {
			now := time.Now
			if t.Now != nil {
				now = t.Now
			}
			return strftime(format, now())
		},
	})
	var text string
	err := guard.Do("render", func() (err error) {
		text, err = t.compiled.ExecuteToString(variables)
		return err
	})
	switch {
	case count.why != "":
		return "", fmt.Errorf("chat template %s: %s", t.Name, count.why)
	case err != nil && raised != "":
		return "", fmt.Errorf("chat template %s, line %s: the template says: %s", t.Name, lineOf(err), raised)
	case err != nil:
		return "", fmt.Errorf("chat template %s, line %s: %s", t.Name, lineOf(err), cause(err))
	case strings.Contains(text, noText):
		return "", fmt.Errorf("chat template %s: it writes a None or a list into the prompt: is the content of every message a text?", t.Name)
	case !utf8.ValidString(text):
		return "", fmt.Errorf("chat template %s: it cuts a character apart", t.Name)
	}
	return text, nil
}

var atLine = regexp.MustCompile(`at line (\d+)`)

// lineOf is the innermost line that gonja names in an error, or ?.
func lineOf(err error) string {
	found := atLine.FindAllStringSubmatch(err.Error(), -1)
	if len(found) == 0 {
		return "?"
	}
	n, _ := strconv.Atoi(found[len(found)-1][1])
	return strconv.Itoa(n)
}

// cause is the end of gonja's chain of messages, on one line.
func cause(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\ngoroutine ") // the stack of a runtime error
	text = strings.ReplaceAll(strings.ReplaceAll(text, noText, ""), "\n", " ")
	const most = 300
	if len(text) > most {
		text = "..." + text[len(text)-most:]
	}
	return text
}
