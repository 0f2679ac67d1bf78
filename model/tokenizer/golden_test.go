package tokenizer

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"
)

// goldenRow is a row of golden/*/expected.json.
type goldenRow struct {
	Correct   []int32 `json:"correct_ids"`
	Incorrect []int32 `json:"incorrect_ids"`
	Chooser   []int32 `json:"chooser_ids"`
}

// Ensure that the golden prompts, tokenized segment by segment, have the golden ids.
func TestGoldenPrompts(t *testing.T) {
	for _, name := range []string{"small", "mha", "gqa"} {
		t.Run(name, func(t *testing.T) {
			dir := shared(t, "golden/"+name)
			tok, err := Open(filepath.Join(dir, "model"))
			if err != nil {
				t.Fatal(err)
			}
			rows, want := goldenRows(t, dir)
			for i, row := range rows {
				correct, incorrect := row[2], row[4]
				first, second := correct, incorrect
				if row[7] == "True" {
					first, second = second, first
				}
				argue, choose := filepath.Join(dir, "templates/argue.tmpl"), filepath.Join(dir, "templates/choose.tmpl")
				for _, c := range []struct {
					prompt, file string
					fields       map[string]string
					want         []int32
				}{
					{"correct", argue, map[string]string{"Question": row[0], "Argument": correct}, want[i].Correct},
					{"incorrect", argue, map[string]string{"Question": row[0], "Argument": incorrect}, want[i].Incorrect},
					{"chooser", choose, map[string]string{"Question": row[0], "Candidate1": first,
						"Candidate2": second, "ChoiceArgument": row[6]}, want[i].Chooser},
				} {
					if got := encodePrompt(t, tok, c.file, c.fields); !slices.Equal(got, c.want) {
						t.Errorf("row %d %s: got %v, want %v", i+1, c.prompt, got, c.want)
					}
				}
			}
		})
	}
}

func goldenRows(t *testing.T, dir string) ([][]string, []goldenRow) {
	t.Helper()
	file, err := os.Open(filepath.Join(dir, "rows.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var expected struct {
		Rows []goldenRow `json:"rows"`
	}
	if err := json.Unmarshal(content, &expected); err != nil {
		t.Fatal(err)
	}
	if rows = rows[1:]; len(rows) != len(expected.Rows) {
		t.Fatalf("%s: got %d rows, want %d", dir, len(rows), len(expected.Rows))
	}
	return rows, expected.Rows
}

// encodePrompt fills a template and encodes its fenced segments, and what lies between them, each on its own.
func encodePrompt(t *testing.T, tok *Tokenizer, file string, fields map[string]string) []int32 {
	t.Helper()
	const fence = "\x00"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	span := func(s string) string { return fence + s + fence }
	parsed, err := template.New(file).Funcs(template.FuncMap{"span": span}).Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := parsed.Execute(&out, fields); err != nil {
		t.Fatal(err)
	}
	var got []int32
	if bos, ok := tok.BOS(); ok {
		got = append(got, bos)
	}
	for i, segment := range strings.Split(out.String(), fence) {
		if i == 0 {
			got = append(got, idsOf(tok.Encode(segment, nil))...)
		} else {
			got = append(got, idsOf(tok.EncodeNext(segment, nil))...)
		}
	}
	return got
}
