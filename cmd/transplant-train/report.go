package main

import (
	"fmt"
	"io"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/setup"
	"gotransplant/transplant"
)

// dryRun prints the plan of a run, or of what is left of one.
func dryRun(s setup.Settings, o options, stdout, stderr io.Writer) error {
	session, err := program.Outline(s, stderr)
	if err != nil {
		return err
	}
	out, step := o.out, 0
	if o.resume != "" {
		out = o.resume
		if err := same(out, session); err != nil {
			return err
		}
		if step, err = transplant.SavedStep(out); err != nil {
			return err
		}
	}
	plan, text, refusal := session.PlanTraining(program.Capacity(s), out, step+1)
	if plan == nil {
		return refusal
	}
	trainer, err := session.Trainer()
	if err != nil {
		return err
	}
	fmt.Fprint(o.Text(stdout, stderr), text, o.left(trainer, step), setup.DryRun)
	if o.JSON {
		if err := program.JSONLine(stdout, plan); err != nil {
			return err
		}
	}
	return refusal
}

// left tells what is left after a step of the run that is continued, if one is: all other lines are of the whole run.
func (o options) left(t *transplant.Trainer, step int) string {
	if o.resume == "" {
		return ""
	}
	return t.Left(step)
}

// printPlan prints what is about to be run, where it is asked for as JSON.
func (o options) printPlan(session *setup.Session, dir string, next int, stdout io.Writer) error {
	if !o.JSON {
		return nil
	}
	plan, _, err := session.PlanTraining(session.Capacity, dir, next)
	if err != nil {
		return err
	}
	return program.JSONLine(stdout, plan)
}

// watcher is a run directory that remembers the last step and the last score.
type watcher struct {
	*transplant.RunDir
	step  *transplant.StepMetrics
	score *transplant.CurvePoint
}

// Step remembers m.
func (w *watcher) Step(m transplant.StepMetrics) error {
	w.step = &m
	return w.RunDir.Step(m)
}

// Scored remembers p.
func (w *watcher) Scored(p transplant.CurvePoint) error {
	w.score = &p
	return w.RunDir.Scored(p)
}

// summary is the last JSON object of a run.
type summary struct {
	Part     string                  `json:"part"` // "summary"
	Out      string                  `json:"out"`
	Steps    int                     `json:"steps"`
	Seconds  float64                 `json:"seconds"`             // with those of earlier processes of the run
	LastStep *transplant.StepMetrics `json:"last_step,omitempty"` // as in metrics.jsonl; left out where this process took none
	HeldOut  *transplant.Summary     `json:"held_out,omitempty"`  // the last score; left out where there was none
}

func (w *watcher) summary(t *transplant.Trainer, dir string) summary {
	s := summary{Part: "summary", Out: dir, Steps: t.Step(), Seconds: t.Seconds(), LastStep: w.step}
	if w.score != nil {
		s.HeldOut = &w.score.Summary
	}
	return s
}
