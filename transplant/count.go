package transplant

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"gotransplant/model/safetensors"
)

// TokenCount is what a method has to compute of some cases, in tokens.
type TokenCount struct {
	Rows            int `json:"rows"`
	Plain           int `json:"plain"`            // of all rows as the plain method counts: both arguer prompts and the chooser's
	Computed        int `json:"computed"`         // of all rows really, padding and the prefixes not counted
	Shared          int `json:"shared_prefix"`    // tokens with which all rows begin, computed once an update or score
	LongestPlain    int `json:"longest_plain"`    // of the row that has most
	LongestComputed int `json:"longest_computed"` // of the row of which most are computed
	LongestPrompt   int `json:"longest_prompt"`   // a single prompt, which the context must hold
}

// Count counts the tokens of cases.
func (m *Method) Count(cases []Case) TokenCount {
	n := TokenCount{Rows: len(cases), Shared: m.Prefix.Tokens()}
	if last, _ := m.span(); last < 0 {
		n.Shared = len(m.Prefix.Chooser)
	}
	for _, c := range cases {
		need := m.need(c)
		plain, computed := c.Tokens(), need.Arguer+need.Chooser
		if m.NoTransplant {
			plain = len(c.Choose)
		}
		n.Plain, n.Computed = n.Plain+plain, n.Computed+computed
		n.LongestPlain, n.LongestComputed = max(n.LongestPlain, plain), max(n.LongestComputed, computed)
		n.LongestPrompt = max(n.LongestPrompt, c.Longest())
	}
	return n
}

// Scores is how often the held-out rows are scored in the whole run.
func (t *Trainer) Scores() int {
	switch every := t.Options.EvalEvery; {
	case len(t.Test) == 0:
		return 0
	case every == 0:
		return 2
	default:
		return 1 + (t.Total()+every-1)/every
	}
}

// Parameters is the number of values trained.
func (t *Trainer) Parameters() int {
	n := 0
	for _, p := range t.tensors {
		n += len(p.Value)
	}
	return n
}

// SavedStep is the number of updates after which the state in a run directory was saved, 0 where there is none yet.
func SavedStep(dir string) (int, error) {
	path := filepath.Join(dir, StateFile)
	f, err := safetensors.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var state trainerState
	if err := json.Unmarshal([]byte(f.Metadata()["trainer"]), &state); err != nil {
		return 0, fmt.Errorf("%s: metadata trainer: %w", path, err)
	}
	return state.Step, nil
}
