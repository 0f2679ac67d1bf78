package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotransplant/data"
	"gotransplant/llama"
	"gotransplant/model"
	"gotransplant/model/tokenizer"
	"gotransplant/transplant"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend"
)

// goldenSettings are those of the reference run in transplant/testdata.
func goldenSettings() Settings {
	dir := filepath.Join("..", "..", "transplant", "testdata", "golden-small")
	s := Defaults()
	s.Training = nil
	s.Model, s.Data = filepath.Join(dir, "model"), filepath.Join(dir, "rows.csv")
	s.ArguerAdapter, s.ChooserAdapter = filepath.Join(dir, "adapters", "arguer"), filepath.Join(dir, "adapters", "chooser")
	s.ArgueTemplate = filepath.Join(dir, "templates", "argue.tmpl")
	s.ChooseTemplate = filepath.Join(dir, "templates", "choose.tmpl")
	s.TestFraction, s.Workers = 0, 2
	return s
}

func goldenRows(t *testing.T, s Settings) *Rows {
	t.Helper()
	tok, err := tokenizer.Open(s.Model)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := s.readRows(tok, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func session(t *testing.T, s Settings) *Session {
	t.Helper()
	backend, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	o, err := Open(s, backend)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestSplit: the two parts make up the rows, whatever is held out.
func TestSplit(t *testing.T) {
	rows := goldenRows(t, goldenSettings())
	for fraction, want := range map[float64]int{0: 0, 0.17: 1, 0.5: 3} {
		s := goldenSettings()
		s.TestFraction = fraction
		train, test, err := rows.Split(s)
		if err != nil {
			t.Fatal(err)
		}
		var all []int
		for _, c := range append(train, test...) {
			all = append(all, c.Row)
		}
		slices.Sort(all)
		if len(test) != want || !slices.Equal(all, []int{1, 2, 3, 4, 5, 6}) {
			t.Errorf("fraction %v: %d held out and rows %v in all, want %d and each row once", fraction, len(test), all, want)
		}
	}
}

// TestTokenizerOfALargerModel: what gives ids that the model has no embedding for is refused when it is opened.
func TestTokenizerOfALargerModel(t *testing.T) {
	larger := filepath.Join("..", "tiny", "model", "tokenizer.json")
	const want = "the tokenizer has 711 tokens, the model's vocab_size is 512"
	s := goldenSettings()
	if base, err := OpenBase(s, larger); err == nil || err.Error() != want {
		t.Errorf("named: got %v, error %v; want %q", base, err, want)
	}
	dir := t.TempDir()
	content, err := os.ReadFile(larger)
	if err := errors.Join(err, os.CopyFS(dir, os.DirFS(s.Model)), os.WriteFile(filepath.Join(dir, "tokenizer.json"), content, 0o644)); err != nil {
		t.Fatal(err)
	}
	s.Model = dir
	if base, err := OpenBase(s, ""); err == nil || err.Error() != want {
		t.Errorf("beside the weights: got %v, error %v; want %q", base, err, want)
	}
	backend, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	if session, err := Open(s, backend); err == nil || err.Error() != want {
		t.Errorf("of a session: got %v, error %v; want %q", session, err, want)
	}
}

// TestSplitKeepsToTheFile: a row is on the same side however many rows are too long.
func TestSplitKeepsToTheFile(t *testing.T) {
	s := Embedded()
	s.Training, s.SkipLong = nil, true
	split := func(limit int) (sides [2][]int, tooLong []int) {
		s.MaxTokens = limit
		base, err := OpenBase(s, "")
		if err != nil {
			t.Fatal(err)
		}
		defer base.Close()
		rows, err := base.Rows()
		if err != nil {
			t.Fatal(err)
		}
		train, test, err := rows.Split(s)
		if err != nil {
			t.Fatal(err)
		}
		for i, cases := range [][]transplant.Case{train, test} {
			for _, c := range cases {
				sides[i] = append(sides[i], c.Row)
			}
		}
		return sides, rows.TooLong
	}
	all, none := split(0)
	if len(all[0]) != 1024 || len(all[1]) != 256 || len(none) != 0 {
		t.Fatalf("%d to train on, %d held out, %d too long; want 1024, 256 and 0", len(all[0]), len(all[1]), len(none))
	}
	for _, limit := range []int{100, 95} {
		some, tooLong := split(limit)
		if len(tooLong) == 0 {
			t.Fatalf("--max-tokens %d: no row is too long, want some", limit)
		}
		for i, side := range []string{"trained on", "held out"} {
			want := slices.DeleteFunc(slices.Clone(all[i]), func(row int) bool { return slices.Contains(tooLong, row) })
			if !slices.Equal(some[i], want) {
				t.Errorf("--max-tokens %d: %d rows %s, want the %d of the %d without a limit that are not too long",
					limit, len(some[i]), side, len(want), len(all[i]))
			}
		}
	}
}

// TestArranged: what each control changes in a case, and what it leaves.
func TestArranged(t *testing.T) {
	rows := goldenRows(t, goldenSettings())
	own := rows.Cases
	argument := func(c transplant.Case, n int) string {
		p := c.Argue[n-1]
		return fmt.Sprint(p.IDs[p.Span.Start:p.Span.End])
	}
	arrange := func(a Arrangement, seed uint64) []transplant.Case {
		cases, _, err := rows.Arranged(own, a, seed)
		if err != nil {
			t.Fatal(err)
		}
		return cases
	}
	flipped, other, both := arrange(Arrangement{Flip: true}, 1), arrange(Arrangement{OtherRow: true}, 1),
		arrange(Arrangement{Flip: true, OtherRow: true}, 1)
	for i, c := range own {
		if flipped[i].Label != 3-c.Label || flipped[i].ArgumentCorrect != c.ArgumentCorrect {
			t.Errorf("row %d flipped: label %d, argument correct %t; want %d, %t",
				c.Row, flipped[i].Label, flipped[i].ArgumentCorrect, 3-c.Label, c.ArgumentCorrect)
		}
		if argument(flipped[i], 1) != argument(c, 2) || argument(flipped[i], 2) != argument(c, 1) {
			t.Errorf("row %d flipped: its arguments did not change places", c.Row)
		}
		if other[i].Label != c.Label || other[i].Row != c.Row || argument(other[i], 1) == argument(c, 1) {
			t.Errorf("row %d with another row's arguments: got row %d, label %d, arguments its own: %t; want %d, %d, false",
				c.Row, other[i].Row, other[i].Label, argument(other[i], 1) == argument(c, 1), c.Row, c.Label)
		}
		if argument(both[i], 1) != argument(other[i], 2) || argument(both[i], 2) != argument(other[i], 1) {
			t.Errorf("row %d: flipped, another row's arguments are a third row's", c.Row)
		}
	}
	if same := arrange(Arrangement{OtherRow: true}, 1); fmt.Sprint(same) != fmt.Sprint(other) {
		t.Error("the same seed drew other donors")
	}
}

// TestDonorsAreACycle: over many seeds each row is donor once and never its own.
func TestDonorsAreACycle(t *testing.T) {
	rows := goldenRows(t, goldenSettings())
	donors := make(map[string]int) // the first candidate's tokens, to the row whose they are
	for _, c := range rows.Cases {
		donors[fmt.Sprint(c.Argue[0].IDs)] = c.Row
	}
	for seed := range uint64(20) {
		cases, _, err := rows.Arranged(rows.Cases, Arrangement{OtherRow: true}, seed)
		if err != nil {
			t.Fatal(err)
		}
		var from []int
		for _, c := range cases {
			donor := donors[fmt.Sprint(c.Argue[0].IDs)]
			if donor == c.Row {
				t.Errorf("seed %d: row %d is its own donor", seed, c.Row)
			}
			from = append(from, donor)
		}
		if slices.Sort(from); !slices.Equal(from, []int{1, 2, 3, 4, 5, 6}) {
			t.Errorf("seed %d: donors %v, want each row once", seed, from)
		}
	}
	if _, _, err := rows.Arranged(rows.Cases[:1], Arrangement{OtherRow: true}, 1); err == nil {
		t.Error("one row has no other, got no error")
	}
}

// TestLongRows: rows longer than the limit are refused by number, or left out and counted.
func TestLongRows(t *testing.T) {
	s := goldenSettings()
	var lengths []int
	for _, c := range goldenRows(t, s).Cases {
		lengths = append(lengths, c.Longest())
	}
	s.MaxTokens = slices.Max(lengths) - 1
	tok, err := tokenizer.Open(s.Model)
	if err != nil {
		t.Fatal(err)
	}
	var long []int
	for i, n := range lengths {
		if n > s.MaxTokens {
			long = append(long, i+1)
		}
	}
	longest := fmt.Sprintf("(rows %s)", transplant.ListRows(long))
	for _, c := range []struct {
		maxTokens, context int
		want               string
	}{
		{s.MaxTokens, 1024, "raise --max-tokens up to the model's context of 1024, or leave them out with --skip-long"},
		{s.MaxTokens, s.MaxTokens, "that is the model's context: take a model with a longer one, or leave them out with --skip-long"},
		{0, s.MaxTokens, "that is the model's context: take a model with a longer one, or leave them out with --skip-long"}, // as in transplant-generate
	} {
		limited := s
		limited.MaxTokens = c.maxTokens
		_, err := limited.readRows(tok, c.context)
		if err == nil || !strings.Contains(err.Error(), longest+": "+c.want) {
			t.Errorf("--max-tokens %d, a context of %d: got error %v, want %s: %s", c.maxTokens, c.context, err, longest, c.want)
		}
	}
	for _, skip := range []bool{false, true} { // where nothing is left, --skip-long is no advice
		none := s
		none.MaxTokens, none.SkipLong = 20, skip
		_, err := none.readRows(tok, 1024)
		want := "need more than 20 tokens"
		if err == nil || !strings.Contains(err.Error(), want) ||
			!strings.HasSuffix(err.Error(), ": raise --max-tokens up to the model's context of 1024, or shorter rows or templates") {
			t.Errorf("all rows are too long, --skip-long=%t: got error %v, want %q and how they would fit", skip, err, want)
		}
	}
	s.SkipLong = true
	rows, err := s.readRows(tok, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows.TooLong)+len(rows.Cases) != 6 || len(rows.TooLong) == 0 || rows.Counts.Rows != 6 {
		t.Errorf("%d left out, %d used, %d counted; want 6 in all, all counted",
			len(rows.TooLong), len(rows.Cases), rows.Counts.Rows)
	}
	for _, flag := range []int{0, 5000} {
		s.MaxTokens = flag
		if rows, err = s.readRows(tok, slices.Max(lengths)-1); err != nil || len(rows.TooLong) == 0 {
			t.Errorf("--max-tokens %d: error %v, want rows beyond the model's context left out", flag, err)
		}
	}
}

// TestBadRowsAreNamedOnce: what is wrong with a row is told with its line, once, be it its text or what tokens make of it.
func TestBadRowsAreNamedOnce(t *testing.T) {
	read := func(path string) []byte {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	s := goldenSettings()
	rows, vocabulary := read(s.Data), read(filepath.Join(s.Model, "tokenizer.json"))
	for _, c := range []struct {
		name, argument, template string
		vocabulary               []byte
		want                     string
	}{
		{"a noncharacter", "\uFDD0 30 shells", "{{.Question}} {{span .Argument}}", vocabulary, "row at line 2: "},
		{"nothing before the argument", "30 shells", "{{span .Argument}} {{.Question}}",
			bytes.Replace(vocabulary, []byte(`"post_processor"`), []byte(`"once_post_processor"`), 1), "line 2, row 1: candidate 1 begins"},
	} {
		dir := t.TempDir()
		s.Data, s.ArgueTemplate = filepath.Join(dir, "rows.csv"), filepath.Join(dir, "argue.tmpl")
		for file, text := range map[string][]byte{
			s.Data:                               bytes.Replace(rows, []byte("Tomás starts with 30 shells"), []byte(c.argument), 1),
			s.ArgueTemplate:                      []byte(c.template),
			filepath.Join(dir, "tokenizer.json"): c.vocabulary,
		} {
			if err := os.WriteFile(file, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		tok, err := tokenizer.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.readRows(tok, 1024)
		if err == nil || !strings.Contains(err.Error(), s.Data+": "+c.want) || strings.Count(err.Error(), "line") != 1 {
			t.Errorf("%s: got error %v, want %q, and no line beside", c.name, err, c.want)
		}
	}
}

// TestBuiltInTemplates: the embedded rows have short prompts of their own, rows of a file those that package data documents.
func TestBuiltInTemplates(t *testing.T) {
	published := func(text string, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(text, "{{")
		return strings.SplitN(first, "\n", 2)[0]
	}
	argue, choose := published(data.DefaultArgue()), published(data.DefaultChoose())
	for file, want := range map[string]bool{"": false, goldenSettings().Data: true} {
		s := Settings{Data: file}
		r, err := s.reader(nil)
		if err != nil {
			t.Fatal(err)
		}
		rows := goldenRows(t, goldenSettings()).Rows
		arguer, err := r.Argue.Argue(rows[0], 1)
		if err != nil {
			t.Fatal(err)
		}
		chooser, err := r.Choose.Choose(rows[0])
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{strings.HasPrefix(arguer[0].Text, argue), strings.HasPrefix(chooser[0].Text, choose)}; got != [2]bool{want, want} {
			t.Errorf("rows of %q: prompts begin with %q and %q; as those of package data: want %t", file, arguer[0].Text, chooser[0].Text, want)
		}
	}
}

// TestSpecialsInData: a special token's text in a data field is ordinary text, counted and told.
func TestSpecialsInData(t *testing.T) {
	s := goldenSettings()
	content, err := os.ReadFile(s.Data)
	if err != nil {
		t.Fatal(err)
	}
	s.Data = filepath.Join(t.TempDir(), "rows.csv")
	content = bytes.Replace(content, []byte("Candidate 2 computes"), []byte("</s> computes"), 1)
	if err := os.WriteFile(s.Data, content, 0o644); err != nil {
		t.Fatal(err)
	}
	o := session(t, s)
	if o.SpecialsInData != 1 || !strings.Contains(o.Describe(), "1 special tokens' texts stand in data fields") {
		t.Errorf("%d special tokens counted, want 1 and a note:\n%s", o.SpecialsInData, o.Describe())
	}
	const end = 2 // the id of </s>
	for _, c := range o.Cases {
		for name, ids := range map[string][]int32{"argue 1": c.Argue[0].IDs, "argue 2": c.Argue[1].IDs, "choose": c.Choose} {
			if slices.Contains(ids, end) {
				t.Errorf("row %d, %s: the prompt has the token </s>: %v", c.Row, name, ids)
			}
		}
	}
}

// TestOrder: --shuffle=false is file order in every epoch, and shuffled epochs are different permutations.
func TestOrder(t *testing.T) {
	s := goldenSettings()
	s.Training = Defaults().Training
	order := func(shuffle bool, epoch int) []int {
		s.Shuffle = shuffle
		trainer, err := session(t, s).Trainer()
		if err != nil {
			t.Fatal(err)
		}
		return trainer.Order(epoch)
	}
	file := []int{0, 1, 2, 3, 4, 5}
	for epoch := range 2 {
		if got := order(false, epoch); !slices.Equal(got, file) {
			t.Errorf("epoch %d in file order: %v, want %v", epoch, got, file)
		}
	}
	first, second := order(true, 0), order(true, 1)
	if slices.Equal(first, second) || slices.Equal(first, file) {
		t.Errorf("shuffled epochs %v and %v, want neither equal nor in file order", first, second)
	}
	if slices.Sort(first); !slices.Equal(first, file) {
		t.Errorf("shuffled epoch holds %v, want each row once", first)
	}
}

// TestPace: what --workers and --micro-batch ask for, and one sweep at a time on a device.
func TestPace(t *testing.T) {
	o := session(t, goldenSettings())
	if o.Pace != (transplant.Pace{Workers: 2, MicroBatch: 1}) {
		t.Errorf("got %+v, want 2 workers of 1 row", o.Pace)
	}
	s := goldenSettings()
	s.MicroBatch = 3
	if o = session(t, s); o.Pace.MicroBatch != 3 {
		t.Errorf("got micro-batches of %d rows, want 3", o.Pace.MicroBatch)
	}
}

// TestMethodFollowsSettings: what only the method knows of.
func TestMethodFollowsSettings(t *testing.T) {
	s := goldenSettings()
	s.Training = Defaults().Training
	s.StopGradient, s.TransplantLayers = true, "1"
	m := session(t, s).Method
	if !m.StopGradient || m.NoTransplant || !slices.Equal(m.Layers, []bool{false, true, false}) {
		t.Errorf("stop gradient %t, no transplant %t, layers %v; want true, false, the middle one",
			m.StopGradient, m.NoTransplant, m.Layers)
	}
	if o := session(t, s); m.Prefix.Tokens() == 0 || !strings.Contains(o.Describe(), "\nprefix ") {
		t.Errorf("%d tokens are shared by all prompts, want some and a line of them:\n%s", m.Prefix.Tokens(), o.Describe())
	}
	s.NoTransplant, s.SharePrefix = true, false
	o := session(t, s)
	if m = o.Method; m.Prefix.Tokens() > 0 || strings.Contains(o.Describe(), "prefix ") {
		t.Errorf("%d tokens are shared, want none with --share-prefix=false and no line of them:\n%s", m.Prefix.Tokens(), o.Describe())
	}
	if !m.NoTransplant || m.Arguer != nil {
		t.Errorf("no transplant %t, arguer %v; want true and none", m.NoTransplant, m.Arguer)
	}
}

func TestSome(t *testing.T) {
	if got := transplant.ListRows([]int{3}); got != "3" {
		t.Errorf("got %q, want 3", got)
	}
	if got, want := transplant.ListRows(make([]int, 12)), strings.Repeat("0, ", 9)+"0, ..."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestOpen: what a session says about itself, and what it makes of adapters.
func TestOpen(t *testing.T) {
	s := goldenSettings()
	o := session(t, s)
	for _, part := range []string{"3 layers", "6 rows", "third writer right in 3 (0.500)", "float32", "float64"} {
		if text := o.Describe(); !strings.Contains(text, part) {
			t.Errorf("description lacks %q:\n%s", part, text)
		}
	}
	if o.Method.Arguer == nil || o.Method.Chooser == nil || o.Method.Arguer == o.Method.Chooser {
		t.Error("two adapters were named, want two roles")
	}
	s.ChooserAdapter, s.ShareAdapter = "", true
	if o = session(t, s); o.Method.Arguer == nil || o.Method.Arguer != o.Method.Chooser {
		t.Error("with --share-adapter both roles must be one")
	}
	s.ArguerAdapter, s.ChooserAdapter = "", goldenSettings().ChooserAdapter
	if o = session(t, s); o.Method.Chooser == nil || o.Method.Arguer != o.Method.Chooser {
		t.Error("with --share-adapter and --chooser-adapter both roles must be the chooser's")
	}
	s.ChooserAdapter, s.ShareAdapter = "", false
	if o = session(t, s); o.Method.Arguer != nil || o.Method.Chooser != nil {
		t.Error("an evaluation without adapters must use the bare base")
	}
	s.Training = Defaults().Training
	o = session(t, s)
	if o.Method.Arguer == nil || o.Method.Chooser == nil {
		t.Fatal("a training run without adapters must make new ones")
	}
	a, b := o.Method.Arguer.Adapter.Params()[0].Value, o.Method.Chooser.Adapter.Params()[0].Value
	if slices.Equal(a, b) {
		t.Error("the two new adapters began with the same values")
	}
}

// TestNewAdaptersFollowTheSeed: the same seed makes the same adapter, neighbouring seeds share none.
func TestNewAdaptersFollowTheSeed(t *testing.T) {
	s := goldenSettings()
	s.ArguerAdapter, s.ChooserAdapter, s.Training = "", "", Defaults().Training
	seen := make(map[string]string)
	for _, seed := range []uint64{1, 1, 2} {
		s.Seed = seed
		o := session(t, s)
		for name, r := range map[string]*transplant.Role{"arguer": o.Method.Arguer, "chooser": o.Method.Chooser} {
			who, values := fmt.Sprintf("%s %d", name, seed), fmt.Sprint(r.Adapter.Params()[0].Value[:8])
			if before, ok := seen[values]; ok && before != who {
				t.Errorf("%s begins as %s", who, before)
			}
			seen[values] = who
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d different adapters, want 4", len(seen))
	}
	if got, want := session(t, s).Method.Chooser.Adapter.Config().BaseModel, filepath.Base(s.Model); got != want {
		t.Errorf("made for the base %q, want %q", got, want)
	}
}

// TestEvaluateComparesOrders: the comparison counts rows whose choice followed the argument to its new place.
func TestEvaluateComparesOrders(t *testing.T) {
	o := session(t, goldenSettings())
	report, err := o.Evaluate(context.Background(), Controls{FlipOrder: true}, func(string, int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	as, flipped := report.Conditions[0].Predictions, report.Conditions[1].Predictions
	var followed int
	for i := range as {
		if as[i].Choice() != flipped[i].Choice() {
			followed++
		}
		if as[i].Row != flipped[i].Row || as[i].Label == flipped[i].Label {
			t.Errorf("row %d: candidate %d is right in both orders", as[i].Row, as[i].Label)
		}
	}
	f := report.Flip
	if f.SameArgument.Count != followed || f.SamePosition.Count != 6-followed || f.SameArgument.Total != 6 {
		t.Errorf("same argument %v, same position %v; want %d and %d of 6",
			f.SameArgument, f.SamePosition, followed, 6-followed)
	}
}

// TestConditions: what an evaluation scores, and that controls of a transplant do not go with none.
func TestConditions(t *testing.T) {
	all := Controls{FlipOrder: true, OtherRow: true, NoTransplant: true}
	for _, c := range []struct {
		name     string
		without  bool // --no-transplant
		controls Controls
		want     []string
	}{
		{"none", false, Controls{}, []string{"transplant"}},
		{"all", false, all, []string{"transplant", "flip order", "donor other-row", "no transplant"}},
		{"another donor", false, Controls{MainOtherRow: true}, []string{"donor other-row"}},
		{"no transplant", true, Controls{}, []string{"no transplant"}},
		{"no transplant and all", true, all, []string{"no transplant", "flip order"}},
	} {
		var got []string
		for _, condition := range (&Session{Settings: Settings{NoTransplant: c.without}}).conditions(c.controls) {
			got = append(got, condition.name)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestTable: a line a figure, a column a condition, and below it what concerns some rows only.
func TestTable(t *testing.T) {
	report := &Report{Conditions: []Condition{{Name: "transplant"}, {Name: flipOrder, TooLong: []int{4, 7}}}, Flip: &FlipSummary{}}
	var names []string
	for line := range strings.Lines(report.Table()) {
		names = append(names, strings.TrimSpace(line[:min(34, len(line))]))
	}
	want := []string{"", "rows", "fraction correct f_c", "f_c | third writer right", "f_c | third writer wrong", "mean |P(1)-P(2)| when correct",
		"mean |P(1)-P(2)| when incorrect", "loss", "third writer right", "candidate 1 right", "candidate 1 chosen", "flip order: 2 rows left out, too lo",
		"in both orders: the same argument"}
	want[11] = want[11][:34]
	if !slices.Equal(names, want) {
		t.Errorf("lines begin with\n%q, want\n%q", names, want)
	}
	head, _, _ := strings.Cut(report.Table(), "\n")
	if got := strings.Fields(head); !slices.Equal(got, []string{"transplant", "flip", "order"}) {
		t.Errorf("columns %q, want transplant and flip order", got)
	}
	if table := report.Table(); !strings.Contains(table, "too long under it: 4, 7\n") {
		t.Errorf("rows 4 and 7 are not named:\n%s", table)
	}
}

// TestScored: an evaluation scores every row, or the part that a training run with the same seed holds out.
func TestScored(t *testing.T) {
	o := session(t, goldenSettings())
	for fraction, want := range map[float64]int{0: 6, 0.5: 3} {
		o.TestFraction = fraction
		cases, err := o.Scored()
		if err != nil || len(cases) != want {
			t.Errorf("fraction %v: %d rows scored (%v), want %d", fraction, len(cases), err, want)
		}
	}
}

// TestNoneHeldOut: an evaluation of no rows is refused, before the model is loaded; a training says that it has none to score.
func TestNoneHeldOut(t *testing.T) {
	for name, c := range map[string]struct {
		fraction  float64
		maxTokens int
		want      string
	}{
		"too small a fraction": {0.05, 0, "--test-fraction 0.05 of 6 rows holds out none"},
		"too long a row":       {0.17, 247, "--test-fraction 0.17 of 6 rows, 2 of them too long, holds out none"},
	} {
		t.Run(name, func(t *testing.T) {
			s := goldenSettings()
			s.TestFraction, s.MaxTokens, s.SkipLong = c.fraction, c.maxTokens, true
			for s.Seed = 1; s.Seed < 100; s.Seed++ { // until the one row held out is one of the two
				if _, test, err := goldenRows(t, s).Split(s); err != nil || len(test) == 0 {
					break
				}
			}
			_, err := s.open(func(*model.Checkpoint, llama.Storage) (*llama.Weights, error) {
				t.Error("the model was loaded")
				return nil, errors.New("loaded")
			})
			if err == nil || !strings.HasPrefix(err.Error(), c.want+": raise it, or leave it out") {
				t.Errorf("got error %v, want %s", err, c.want)
			}
			s.Training = Defaults().Training
			if text := session(t, s).Describe(); !strings.Contains(text, "note     "+c.want+": nothing is scored until the end") {
				t.Errorf("a training says\n%swant %s", text, c.want)
			}
			s.TestFraction = 0
			if text := session(t, s).Describe(); strings.Contains(text, "holds out none") {
				t.Errorf("with --test-fraction 0, as asked for, a training says\n%s", text)
			}
		})
	}
}

func TestCompareOrders(t *testing.T) {
	prediction := func(choice, label int) transplant.Prediction {
		p := transplant.Prediction{LogProb1: math.Log(0.6), LogProb2: math.Log(0.4), Label: label}
		if choice == 2 {
			p.LogProb1, p.LogProb2 = p.LogProb2, p.LogProb1
		}
		p.Correct = choice == label
		return p
	}
	as := []transplant.Prediction{prediction(1, 1), prediction(1, 1), prediction(2, 1)}
	flipped := []transplant.Prediction{prediction(1, 2), prediction(1, 2), prediction(2, 2)} // by row: the third first
	for i := range as {
		as[i].Row, flipped[i].Row = i+1, len(as)-i
	}
	as = append(as, prediction(1, 1)) // row 0 was too long in the other order
	f := compareOrders(as, flipped)
	if f.SameArgument.Count != 2 || f.SamePosition.Count != 1 || f.BothRight.Count != 1 || f.BothRight.Total != 3 {
		t.Errorf("got %+v, want 2 with the same argument, 1 with the same position, 1 right both times, of 3", *f)
	}
}

// TestQuestionsOnBothSides: it is said how many rows held out ask what a row trained on asks, and nothing where none does or
// none is held out.
func TestQuestionsOnBothSides(t *testing.T) {
	s := goldenSettings()
	content, err := os.ReadFile(s.Data)
	if err != nil {
		t.Fatal(err)
	}
	header, body, _ := strings.Cut(string(content), "\n")
	s.Data = filepath.Join(t.TempDir(), "twice.csv")
	if err := os.WriteFile(s.Data, []byte(header+"\n"+body+body), 0o644); err != nil {
		t.Fatal(err)
	}
	for fraction, want := range map[float64]string{0: "", 0.17: "note     of 2 rows held out, 2 ask what a row that is not asks too\n"} {
		s.TestFraction = fraction
		text := session(t, s).Describe()
		if want == "" && strings.Contains(text, "held out") || !strings.Contains(text, want) {
			t.Errorf("fraction %v: described as %q, want %q", fraction, text, want)
		}
	}
	s = goldenSettings()
	s.TestFraction = 0.5
	if text := session(t, s).Describe(); strings.Contains(text, "held out") {
		t.Errorf("questions that differ: described as %q, want nothing of those held out", text)
	}
}
