package wordproblem

import (
	"math"
	"testing"

	"gotransplant/llama"

	"github.com/gomlx/compute"
)

// TestPlanPretraining: parameters, steps and tokens are those of the run, and memory is counted by sweep.
func TestPlanPretraining(t *testing.T) {
	tok := learned(t)
	for _, tied := range []bool{false, true} {
		r := tinyRecipe()
		r.Model.TieWordEmbeddings = tied
		p := newPretrainer(t, tok, r)
		b, err := compute.NewWithConfig("go:parallelism=-1")
		if err != nil {
			t.Fatal(err)
		}
		plan := func(workers int) PretrainPlan {
			t.Helper()
			plan, err := PlanPretraining(llama.Planned{Name: "go", Builder: b}, tok, r, workers)
			if err != nil {
				t.Fatal(err)
			}
			return plan
		}
		one, two, many := plan(1), plan(2), plan(100)
		if one.Parameters != p.Parameters() || one.Steps != 20 || one.Documents != 200 || one.Vocabulary != tok.VocabSize() {
			t.Errorf("tied %t: planned %+v, want %d parameters and 20 steps", tied, one, p.Parameters())
		}
		tokens := 0
		for _, m := range metrics(t, p, 0) {
			tokens += m.Tokens
		}
		if off := math.Abs(float64(one.TokensInAll-tokens)) / float64(tokens); !(off < 0.05) {
			t.Errorf("planned %d tokens, trained on %d", one.TokensInAll, tokens)
		}
		if mean := float64(tokens) / 200; !(math.Abs(one.PerDocument-mean) < 0.05*mean) || one.Longest < int(mean) {
			t.Errorf("planned %.1f tokens a document, the longest %d; trained on %.1f", one.PerDocument, one.Longest, mean)
		}
		weights, sweep := 4*int64(one.Parameters), two.Device-one.Device
		if sweep <= 0 || one.Device != weights+sweep || many.Device != weights+3*sweep { // ten documents are three micro-batches
			t.Errorf("device memory %d, %d and %d for 1, 2 and 100 workers", one.Device, two.Device, many.Device)
		}
		if want := weights * (1 + 2 + 3); one.Host != want {
			t.Errorf("host memory %d, want %d: values, two moments, three gradients", one.Host, want)
		}
	}
}

// TestPlanRefuses: what NewPretrainer refuses.
func TestPlanRefuses(t *testing.T) {
	for name, change := range map[string]func(*Recipe){
		"batch": func(r *Recipe) { r.Batch = 0 }, "heads": func(r *Recipe) { r.Model.NumKeyValueHeads = 3 },
		"schedule": func(r *Recipe) { r.Schedule.Kind = "cosin" },
	} {
		r := tinyRecipe()
		change(&r)
		if _, err := PlanPretraining(llama.Planned{Name: "go"}, learned(t), r, 1); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
