package setup

import (
	"fmt"
	"path/filepath"
	"strings"

	"gotransplant/internal/spelling"
	"gotransplant/transplant"
)

// Plan is what a run will do and need, found out without running it: the JSON object of --dry-run --json. Sizes are in
// bytes, lengths in tokens.
type Plan struct {
	Part       string          `json:"part"` // "plan"
	Program    string          `json:"program"`
	Model      ModelPlan       `json:"model"`
	Data       DataPlan        `json:"data"`
	Train      *TrainPlan      `json:"train,omitempty"`
	Conditions []ConditionPlan `json:"conditions,omitempty"` // of an evaluation
	Device     DevicePlan      `json:"device"`
	Memory     MemoryPlan      `json:"memory"`
	Writes     []WritePlan     `json:"writes"`
}

// ModelPlan is the base.
type ModelPlan struct {
	Name        string `json:"name"`
	Layers      int    `json:"layers"`
	Hidden      int    `json:"hidden"`
	Vocabulary  int    `json:"vocabulary"`
	Context     int    `json:"context"`
	Parameters  int64  `json:"parameters"`
	Weights     string `json:"weights"` // how they are kept, and what that takes
	WeightBytes int64  `json:"weight_bytes"`
}

// DataPlan is the data set as it was read.
type DataPlan struct {
	Name             string `json:"name"`
	SHA256           string `json:"sha256"`
	Rows             int    `json:"rows"`
	ThirdWriterRight int    `json:"third_writer_right"`
	Swapped          int    `json:"swapped"`
	TooLong          []int  `json:"rows_skipped_too_long"`
	MaxTokens        int    `json:"max_tokens"` // that a prompt may have
}

// TrainPlan is a training. Tokens and HeldOut are those of one pass over the rows.
type TrainPlan struct {
	Tokens        transplant.TokenCount `json:"tokens"`
	HeldOut       transplant.TokenCount `json:"held_out"`
	Scores        int                   `json:"scores"` // of the held-out rows
	BatchSize     int                   `json:"batch_size"`
	StepsPerEpoch int                   `json:"steps_per_epoch"`
	Steps         int                   `json:"steps"`
	NextStep      int                   `json:"next_step"` // 1 unless a run is continued
	RowsInAll     int                   `json:"rows_in_all"`
	TokensInAll   int                   `json:"tokens_in_all"` // computed, about
	Parameters    int                   `json:"adapter_parameters"`
}

// ConditionPlan is one scoring of an evaluation.
type ConditionPlan struct {
	Name    string                `json:"name"`
	Tokens  transplant.TokenCount `json:"tokens"`
	TooLong []int                 `json:"rows_skipped_too_long,omitempty"` // under this control alone
}

// DevicePlan is what computes, and how.
type DevicePlan struct {
	Backend    string `json:"backend"`
	Kernels    string `json:"kernels"`
	DType      string `json:"dtype"`
	Residual   string `json:"residual"`
	MicroBatch int    `json:"micro_batch"`
	Workers    int    `json:"workers"`
}

// MemoryPlan is the run's worst moment. Capacity is 0 where it is not known.
type MemoryPlan struct {
	Weights   int64  `json:"weights"`
	Adapters  int64  `json:"adapters"`
	Kept      int64  `json:"kept_activations"`
	Moved     int64  `json:"moved_states"`
	Tables    int64  `json:"masks_and_tables"`
	Workspace int64  `json:"workspace"`
	Host      int64  `json:"optimizer_and_gradients"` // of the program's own memory
	Total     int64  `json:"total"`                   // what is compared with the capacity
	Capacity  int64  `json:"capacity"`
	Source    string `json:"capacity_source"`
	Fits      bool   `json:"fits"`
	Remat     string `json:"remat,omitempty"`
}

// WritePlan is a file or directory that the run will write, and about how large it will be in the end.
type WritePlan struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

// DryRun is the last line of a dry run.
const DryRun = "dry run  nothing was run or written\n"

// Text is the plan for people, beside what Session.Describe and Session.PlanMemory say.
func (p *Plan) Text() string {
	var b strings.Builder
	if t := p.Train; t != nil {
		b.WriteString(tokenLine("training", t.Tokens, "") + tokenLine("held out", t.HeldOut, ""))
		fmt.Fprintf(&b, "steps    %d an epoch, %d in all, step %d is next; the whole run: %s, about %s tokens, held-out rows scored %d times\n",
			t.StepsPerEpoch, t.Steps, t.NextStep, spelling.Count(t.RowsInAll, "row"), rounded(float64(t.TokensInAll)), t.Scores)
		fmt.Fprintf(&b, "train    %d adapter parameters\n", t.Parameters)
	}
	for _, c := range p.Conditions {
		b.WriteString(tokenLine("scored", c.Tokens, c.Name+": "))
	}
	fmt.Fprintf(&b, "context  %d tokens, of which a prompt may have %d\n", p.Model.Context, p.Data.MaxTokens)
	fmt.Fprintf(&b, "device   %s on %s, micro-batches of %d, %d at a time\n", p.Device.Backend, p.Device.Kernels,
		p.Device.MicroBatch, p.Device.Workers)
	if !p.Memory.Fits {
		fmt.Fprintf(&b, "memory   %s, of %s: does not fit\n", gigabytes(p.Memory.Total), gigabytes(p.Memory.Capacity))
	}
	b.WriteString(Writes("writes", p.Writes))
	return b.String()
}

// tokenLine tells what some rows come to, after a name of them if they have one.
func tokenLine(what string, n transplant.TokenCount, name string) string {
	if n.Rows == 0 {
		return ""
	}
	shared := ""
	if n.Shared > 0 {
		shared = fmt.Sprintf(" and %d once for all", n.Shared)
	}
	return fmt.Sprintf("%-8s %s%s, a row %.1f tokens computed of %.1f plain%s, the longest %d of %d; the longest prompt %d\n", what, name,
		spelling.Count(n.Rows, "row"), float64(n.Computed)/float64(n.Rows), float64(n.Plain)/float64(n.Rows), shared, n.LongestComputed,
		n.LongestPlain, n.LongestPrompt)
}

// Writes tells of files in one directory for people: verb is writes or wrote.
func Writes(verb string, files []WritePlan) string {
	if len(files) == 0 {
		return fmt.Sprintf("%-8s nothing\n", verb)
	}
	dir := filepath.Dir(files[0].Path)
	var text []string
	var total int64
	for _, w := range files {
		text = append(text, filepath.Base(w.Path)+" "+fileSize(w.Bytes))
		total += w.Bytes
	}
	return fmt.Sprintf("%-8s about %s into %s: %s\n", verb, fileSize(total), dir, strings.Join(text, ", "))
}

// fileSize is gigabytes for what may be small.
func fileSize(bytes int64) string {
	if bytes < 1e6 {
		return fmt.Sprintf("%.1f kB", float64(bytes)/1e3)
	}
	return gigabytes(bytes)
}
