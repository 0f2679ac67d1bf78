// Transplant-eval scores a checkpoint with its adapters on every row of a data set, and under controls.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/atomicfile"
	"gotransplant/internal/setup"
	"gotransplant/transplant"
)

const head = `transplant-eval scores a model and its adapters on every row of a data set, prints a table, and writes
predictions.jsonl (of the first column of the table) and summary.json to the --out directory.

  transplant-eval --arguer-adapter run/arguer --chooser-adapter run/chooser --controls --out run/eval
  transplant-eval --model llama-7b --data dataset.csv --test-fraction 0.1 --controls --dry-run
`

func main() {
	os.Exit(run(program.Context(), os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return program.Status("transplant-eval", evaluate(ctx, args, stdout, stderr), stderr)
}

func evaluate(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s, o, err := parse(args, stdout)
	if err != nil {
		return err
	}
	if o.DryRun {
		return dryRun(s, o, stdout, stderr)
	}
	session, err := program.Open(s, stderr)
	if err != nil {
		return err
	}
	controls := o.conditions()
	plan, err := session.PlanMemory(program.Capacity(s), controls)
	if err != nil {
		return err
	}
	if o.JSON {
		note(session, stderr)
	} else if _, err := fmt.Fprint(stdout, session.Describe(), plan); err != nil {
		return err
	}
	progress := program.NewProgress(stderr)
	session.Compete(progress.Line)
	if err := session.Compile(ctx, stderr, controls); err != nil {
		return err
	}
	session.Method.Limits.Report = progress.Line
	report, err := session.Evaluate(ctx, controls, progress.Update)
	progress.Clear()
	if err != nil {
		return err
	}
	return write(report, o, stdout)
}

// note tells, where the standard output is for JSON, what is to be known of the adapters.
func note(session *setup.Session, stderr io.Writer) {
	for _, n := range session.Origins() {
		fmt.Fprintf(stderr, "note     %s\n", n)
	}
}

// write prints the report and, if asked, leaves it in a directory with the predictions. Where one of them fails the other is
// done nevertheless: the scores may have taken hours.
func write(report *setup.Report, o options, stdout io.Writer) error {
	summary, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	summary = append(summary, '\n')
	text := []byte(report.Table())
	if o.JSON {
		text = summary
	}
	_, err = stdout.Write(text)
	if o.out == "" {
		return err
	}
	return errors.Join(err, save(report, summary, o.out))
}

// save makes a directory of the predictions and the summary.
func save(report *setup.Report, summary []byte, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	predictions := report.Conditions[0].Predictions
	if err := transplant.WritePredictions(filepath.Join(dir, transplant.PredictionsFile), predictions); err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(dir, setup.SummaryFile), summary)
}

// dryRun prints what would be scored.
func dryRun(s setup.Settings, o options, stdout, stderr io.Writer) error {
	session, err := program.Outline(s, stderr)
	if err != nil {
		return err
	}
	plan, text, refusal := session.PlanEvaluation(program.Capacity(s), o.conditions(), o.out)
	if plan == nil {
		return refusal
	}
	if o.JSON {
		note(session, stderr)
		err = program.JSONLine(stdout, plan)
	} else {
		_, err = fmt.Fprint(stdout, text, setup.DryRun)
	}
	return errors.Join(err, refusal)
}
