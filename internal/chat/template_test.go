package chat

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func readJSON(t *testing.T, name string, into any) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	if err == nil {
		err = json.Unmarshal(content, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func openTemplate(t *testing.T, path string) *Template {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	template, err := NewTemplate(filepath.Base(path), string(text))
	if err != nil {
		t.Fatal(err)
	}
	template.BOS, template.EOS = "<s>", "</s>"
	template.Now = func() time.Time { return time.Date(2025, 2, 3, 4, 5, 6, 0, time.UTC) }
	return template
}

// TestRendersAsJinja2: templates like those of published models give what Jinja2 makes of them, and fail where it fails.
func TestRendersAsJinja2(t *testing.T) {
	var rendered map[string]*string
	var talks map[string][]Message
	readJSON(t, "rendered.json", &rendered)
	readJSON(t, "conversations.json", &talks)
	templates := make(map[string]*Template)
	for key, want := range rendered {
		if strings.HasPrefix(key, "snippet ") {
			continue
		}
		t.Run(key, func(t *testing.T) {
			parts := strings.Split(key, ", ")
			template := templates[parts[0]]
			if template == nil {
				template = openTemplate(t, filepath.Join("testdata", "templates", parts[0]+".jinja"))
				templates[parts[0]] = template
			}
			got, err := template.Render(talks[parts[1]], parts[2] == "prompt")
			switch {
			case want != nil && (strings.Contains(*want, "None") || strings.Contains(*want, "[{'")):
				if err == nil || !strings.Contains(err.Error(), "None or a list") {
					t.Errorf("got %q, error %v; want an error: Python's spelling of a value is in %q", got, err, *want)
				}
			case want == nil && err == nil:
				t.Errorf("got %q, want an error", got)
			case want != nil && (err != nil || got != *want):
				t.Errorf("got %q, error %v\nwant %q", got, err, *want)
			}
		})
	}
}

// TestStrftime: what Python's datetime.strftime gives.
func TestStrftime(t *testing.T) {
	afternoon := time.Date(2025, 2, 3, 16, 5, 9, 0, time.UTC)
	midnight := time.Date(2025, 10, 20, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		format string
		now    time.Time
		want   string
	}{
		{"%Y-%y-%m-%d %H:%I:%M:%S %p", afternoon, "2025-25-02-03 16:04:05:09 PM"},
		{"%B %b %A %a %j", afternoon, "February Feb Monday Mon 034"},
		{"%-d %-m %-I %-H %-M %-S", afternoon, "3 2 4 16 5 9"},
		{"%-d %-m %-I %-H %-M %j", midnight, "20 10 12 0 0 293"},
		{"%% %%d 100%", afternoon, "% %d 100%"},
		{"", afternoon, ""},
	} {
		if got, err := strftime(c.format, c.now); err != nil || got != c.want {
			t.Errorf("%q: got %q, %v, want %q", c.format, got, err, c.want)
		}
	}
	for _, format := range []string{"%Q", "%-Q", "%-"} {
		if got, err := strftime(format, afternoon); err == nil {
			t.Errorf("%q: got %q, want an error", format, got)
		}
	}
}

// TestQuotedAsJSON: what Python's json.dumps escapes is escaped, and nothing else.
func TestQuotedAsJSON(t *testing.T) {
	template, err := NewTemplate("quoted", "{{ messages[0].content | tojson }}")
	if err != nil {
		t.Fatal(err)
	}
	got, err := template.Render([]Message{{Role: "user", Content: "\"\\]\n\r\t\b\f\x01\x1f\u007f</é"}}, false)
	if want := `"\"\\]\n\r\t\b\f\u0001\u001f` + "\u007f" + `</é"`; err != nil || got != want {
		t.Errorf("got %s (%v), want %s", got, err, want)
	}
}

// TestSnippetsAsJinja2: pieces of the language. Where gonja differs and rewrite does not put it right, the table says what
// becomes of it; "" is an error.
func TestSnippetsAsJinja2(t *testing.T) {
	different := map[string]string{
		// refused: Python's spelling of a value in a prompt
		"{{ 'a' ~ 1 ~ none }}": "", "{{ messages[1].get('zz', 'd') }}{{ messages[1].get('zz') }}": "",
		"{{ none }}|{{ None }}|{{ true }}": "", "{{ {'a': none, 'b': true} }}{{ [none, 'it\\'s'] }}": "",
		"{{ messages | rejectattr('role', 'eq', 'user') | map(attribute='role') | list }}": "", "{{ 'a b  c'.split() }}": "",
		// refused: not supported
		"{% set a, b = 1, 2 %}{{ a }}{{ b }}": "", "{{ dict(a=1, b=2) | tojson }}": "", "{{ '%s-%d' % ('a', 3) }}": "",
		"{{ '{}'.format('a') }}": "", "{{ 'a b c'.split(none, 1) | join('|') }}": "", "{{ 'xax' | trim('x') }}": "",
		// rendered, and otherwise
		"{{ messages[1]['content'] | replace('<', '[') | upper }}":                             "  GRÖßE 🎉 'QUOTED' \"TWICE\" [B>\n\n",
		"{{ messages[0]|items|list|length }}{{ 'ß'|upper }}":                                   "2ß",
		"{{ 7 // 2 }}{{ -7 // 2 }}{{ 7 / 2 }}{{ -7 % 3 }}":                                     "3-33.5-1",
		"{{ messages[0]['role'] == 'system' == true }}":                                        "True",
		"{{ (messages|last).role }}{{ messages|first }}":                                       "assistant{'role': 'system', 'content': ' Answer in one word. \n'}",
		"{% if a.b is defined %}1{% else %}2{% endif %}":                                       "2",
		"{{ ['a','b'] | join(', ') }}{{ ['a','b'][-1] }}{{ ['a'][-1] }}{{ ['a']|last }}":       "a, bba",
		"{{ 3.0 }}{{ 1e3 }}{{ 10 ** 2 }}":                                                      "3.01000.0100.0",
		"{{ [1, 2][-2] }}{{ [1, 2][-3] is defined }}{{ [1, 2][2] is defined }}{{ [1, 2][1] }}": "FalseFalse2",
		"{{ '\\xZZ' }}": `\xZZ`, "{{ '\\u00e' }}": `\u00e`,
		"{{ 'abc'[0] }}{{ 'abc'[1:] }}{{ 'abc'[-1] }}{{ 'héé'[1] }}": "abccÃ",
	}
	var rendered map[string]*string
	var talks map[string][]Message
	readJSON(t, "rendered.json", &rendered)
	readJSON(t, "conversations.json", &talks)
	for key, want := range rendered {
		snippet, ok := strings.CutPrefix(key, "snippet ")
		if !ok {
			continue
		}
		t.Run(snippet, func(t *testing.T) {
			var got string
			template, err := NewTemplate("snippet", snippet)
			if err == nil {
				template.BOS, template.EOS = "<s>", "</s>"
				template.Now = func() time.Time { return time.Date(2025, 2, 3, 4, 5, 6, 0, time.UTC) }
				got, err = template.Render(talks["two turns"][:3], true)
			}
			if err != nil {
				got = ""
			}
			if known, ok := different[snippet]; ok {
				want = &known
			}
			switch {
			case want == nil && err == nil:
				t.Errorf("got %q, want an error", got)
			case want != nil && got != *want:
				t.Errorf("got %q, error %v\nwant %q", got, err, *want)
			}
		})
	}
}
