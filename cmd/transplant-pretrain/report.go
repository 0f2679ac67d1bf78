package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"gotransplant/cmd/internal/program"
	"gotransplant/experiment/wordproblem"
	"gotransplant/internal/setup"
	"gotransplant/internal/spelling"
	"gotransplant/model/tokenizer"
)

// plan is the JSON object of a dry run.
type plan struct {
	Part string `json:"part"` // "plan"
	wordproblem.PretrainPlan
	NextStep int               `json:"next_step"` // 1 unless an interrupted run goes on
	Backend  string            `json:"backend"`
	Workers  int               `json:"workers"`
	Capacity int64             `json:"memory_capacity"` // of the device; 0 where it is not known
	Fits     bool              `json:"fits"`
	Writes   []setup.WritePlan `json:"writes"`
}

// dryRun prints what a pre-training would do, after a step if it was interrupted.
func dryRun(o options, r wordproblem.Recipe, step int, stdout, stderr io.Writer) error {
	t, err := tokenizer.Open(o.tokenizer)
	if err != nil {
		return err
	}
	at, err := program.Planned(o.backend, stderr)
	if err != nil {
		return err
	}
	found, err := wordproblem.PlanPretraining(at, t, r, o.workers)
	if err != nil {
		return err
	}
	capacity := program.Capacity(setup.Settings{Backend: o.backend})
	needs := found.Device
	if strings.HasPrefix(o.backend, "go") {
		needs += found.Host
	}
	p := plan{"plan", found, step + 1, o.backend, o.workers, capacity.Bytes, capacity.Bytes == 0 || needs <= capacity.Bytes, writes(o, found)}
	if o.JSON {
		err = program.JSONLine(stdout, p)
	} else {
		_, err = fmt.Fprintf(stdout, "model    %d parameters, vocabulary of %d, context of %d tokens\n"+
			"steps    %d of %s, %.1f tokens a document, the longest of a sample %d: about %.2f million tokens in all\n"+
			"memory   %.0f MB of the device's, %.0f MB for values, moments and gradients\n"+
			"device   %s, %d micro-batches of %d at a time\n%s%s%s", found.Parameters, found.Vocabulary, found.Context,
			found.Steps, spelling.Count(found.Batch, "document"), found.PerDocument, found.Longest, float64(found.TokensInAll)/1e6, float64(found.Device)/1e6, float64(found.Host)/1e6,
			o.backend, o.workers, r.MicroBatch, setup.Writes("writes", p.Writes), left(step, found.Steps), setup.DryRun)
	}
	if err == nil && !p.Fits {
		err = fmt.Errorf("the run needs %.1f GB, of %.1f GB (%s): try a smaller --micro-batch, --workers, --hidden or --layers",
			float64(needs)/1e9, float64(capacity.Bytes)/1e9, capacity.Source)
	}
	return err
}

// left is the line of a run that was interrupted after a step and goes on.
func left(step, steps int) string {
	if step == 0 {
		return ""
	}
	return fmt.Sprintf("left     steps %d to %d: an interrupted run goes on; the lines above are of the whole run\n", step+1, steps)
}

// writes are the files of a checkpoint, about.
func writes(o options, p wordproblem.PretrainPlan) []setup.WritePlan {
	bytes := int64(4)
	if o.dtype == "BF16" {
		bytes = 2
	}
	const config = 600
	return []setup.WritePlan{{Path: filepath.Join(o.out, "model.safetensors"), Bytes: bytes * int64(p.Parameters)},
		{Path: filepath.Join(o.out, "config.json"), Bytes: config},
		{Path: filepath.Join(o.out, "tokenizer.json"), Bytes: fileBytes(filepath.Join(o.tokenizer, "tokenizer.json"))}}
}

// score is a JSON line after an update at which held-out documents were scored; the last has part "summary".
type score struct {
	Part string `json:"part"` // "score" or "summary"
	wordproblem.PretrainMetrics
	HeldOut *wordproblem.PretrainScore `json:"held_out"`
	Out     string                     `json:"out,omitempty"` // of the summary
}

// fileBytes is the size of a file, 0 where there is none.
func fileBytes(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
