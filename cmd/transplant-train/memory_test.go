package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/setup"
	"gotransplant/transplant"
)

// TestRunThatDoesNotFit: it is refused before there is a run directory.
func TestRunThatDoesNotFit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	r := call(goldenFlags("--out", dir, "--device-memory", "0.0005")...)
	if r.code == 0 || !strings.Contains(r.errors, "the run needs") || !strings.Contains(r.errors, "kept activations") {
		t.Errorf("exit status %d, said %q; want a refusal that names what takes the memory", r.code, r.errors)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a run directory was made")
	}
}

// TestPaceIsThatOfThePlan: where memory suffices for fewer micro-batches at a time than there are cores, no more are trained on.
func TestPaceIsThatOfThePlan(t *testing.T) {
	s := setup.Embedded()
	s.Remat = setup.RematNone
	session, err := program.Open(s, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	session.Pace.Workers = 1
	if _, err := session.PlanMemory(setup.Capacity{}, setup.Controls{}); err != nil {
		t.Fatal(err)
	}
	one := session.MemoryPlan().Total
	session.Pace.Workers = 2
	trainer, plan, err := planned(session, setup.Capacity{Bytes: one, Source: "a test"})
	if err != nil {
		t.Fatal(err)
	}
	if got := trainer.Options.Pace.Workers; got != 1 || !strings.Contains(plan, "with 1 and not 2 micro-batches at a time") {
		t.Errorf("trains on %d micro-batches at a time under the plan\n%s\nwant on 1", got, plan)
	}
}

// TestRematLeavesTheSameRun: the plan is printed, config.json has the mode, and the run is the same in both, seconds
// apart; a resumed run may change it.
func TestRematLeavesTheSameRun(t *testing.T) {
	dirs := map[string]string{}
	for _, mode := range []string{"none", "full"} {
		dirs[mode] = filepath.Join(t.TempDir(), mode)
		r := succeed(t, goldenFlags("--out", dirs[mode], "--remat", mode, "--epochs", "2", "--batch-size", "3")...)
		if !strings.Contains(r.out, "\nmemory   ") || strings.Contains(r.out, "computed again") != (mode == "full") {
			t.Errorf("--remat %s: the plan is not among\n%s", mode, r.out)
		}
		if want := []byte(`"remat": "` + mode + `"`); !bytes.Contains(readFile(t, dirs[mode], transplant.ConfigFile), want) {
			t.Errorf("config.json has no %s", want)
		}
	}
	seconds := regexp.MustCompile(`"seconds":[^,]*,`)
	for _, file := range []string{transplant.StateFile, transplant.PredictionsFile, transplant.MetricsFile} {
		none, full := readFile(t, dirs["none"], file), readFile(t, dirs["full"], file)
		if !bytes.Equal(seconds.ReplaceAll(none, nil), seconds.ReplaceAll(full, nil)) {
			t.Errorf("%s differs", file)
		}
	}
	r := succeed(t, "--resume", dirs["full"])
	if strings.Contains(r.out, "computed again") {
		t.Errorf("resumed where there is room: got\n%s\nwant blocks kept", r.out)
	}
}
