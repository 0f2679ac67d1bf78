package transplant

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gomlx/compute/dtypes"
)

// TestLeftoversOfAKilledProcessGo: temporary files beside a run's own files are removed when it is opened, no others. The
// directory's name would be no pattern.
func TestLeftoversOfAKilledProcessGo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lr[1*")
	if err := os.MkdirAll(filepath.Join(dir, ArguerDir), 0o755); err != nil {
		t.Fatal(err)
	}
	stays := map[string]bool{
		".config.json.tmp-1": false, ".state.safetensors.tmp-22": false, "arguer/.adapter_model.safetensors.tmp-3": false,
		".other.tmp-1": true, "notes.txt": true, "arguer/.hidden": true,
	}
	for name := range stays {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run, err := CreateRun(dir, "a config")
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	for name, want := range stays {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s is there: %t, want %t", name, err == nil, want)
		}
	}
}

// TestSavedAdapters: those that take part, and no arguer where nothing of it is moved.
func TestSavedAdapters(t *testing.T) {
	g := small(t)
	for noTransplant, want := range map[bool]bool{false: true, true: false} {
		dir := t.TempDir()
		run, err := CreateRun(dir, "a config")
		if err != nil {
			t.Fatal(err)
		}
		defer run.Close()
		m := g.method(t, dtypes.Float32)
		m.NoTransplant = noTransplant
		if err := run.Save(newTrainer(t, m, goldenOptions(g, 1), g.cases, nil)); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]bool{ArguerDir: want, ChooserDir: true} {
			if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
				t.Errorf("no transplant %t: %s is there: %t, want %t", noTransplant, name, err == nil, want)
			}
		}
	}
}

// TestUsedDirectoryIsRefused: a run is never written over another.
func TestUsedDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	run, err := CreateRun(dir, "a config")
	if err != nil {
		t.Fatal(err)
	}
	run.Close()
	if _, err := CreateRun(dir, "another"); err == nil {
		t.Error("a second run was made in the same directory")
	}
	if content, _ := os.ReadFile(filepath.Join(dir, ConfigFile)); string(content) != "\"a config\"\n" {
		t.Errorf("config.json is now %q", content)
	}
}

// TestLockComesBeforeTheConfig: whoever finds a directory taken has written and removed nothing in it.
func TestLockComesBeforeTheConfig(t *testing.T) {
	dir := t.TempDir()
	other, err := ownRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	half := filepath.Join(dir, "."+ConfigFile+".tmp-1") // what the other is writing
	if err := os.WriteFile(half, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateRun(dir, "a config"); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("got %v, want an error that another process is writing", err)
	}
	if _, err := os.Stat(filepath.Join(dir, ConfigFile)); err == nil {
		t.Error("a config was written beside the other's")
	}
	if _, err := os.Stat(half); err != nil {
		t.Errorf("the other's file was removed: %v", err)
	}
}

// TestTwoRunsAtOnce: of two that begin in one directory one goes on, even when it is over before the other looks again, and
// config.json is its own.
func TestTwoRunsAtOnce(t *testing.T) {
	for range 200 {
		dir := filepath.Join(t.TempDir(), "run")
		var errs [2]error
		var group sync.WaitGroup
		for i := range errs {
			group.Go(func() {
				run, err := CreateRun(dir, i)
				if errs[i] = err; err == nil {
					run.Close()
				}
			})
		}
		group.Wait()
		won := 0
		if errs[0] != nil {
			won = 1
		}
		lost := errs[1-won]
		if errs[won] != nil || lost == nil ||
			!strings.Contains(lost.Error(), "another process") && !strings.Contains(lost.Error(), "already holds a run") {
			t.Fatalf("got errors %v, want one run and one refusal", errs)
		}
		if content, err := os.ReadFile(filepath.Join(dir, ConfigFile)); string(content) != fmt.Sprintln(won) {
			t.Fatalf("run %d went on, config.json is %q (%v)", won, content, err)
		}
	}
}

// TestOneProcessARun: a run directory that is open is not opened again.
func TestOneProcessARun(t *testing.T) {
	g := small(t)
	dir := t.TempDir()
	run, err := CreateRun(dir, "a config")
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Step(StepMetrics{Step: 1}); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(dir, "."+StateFile+".tmp-1") // a file that the run is writing
	if err := os.WriteFile(half, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	trainer := newTrainer(t, g.method(t, dtypes.Float32), goldenOptions(g, 1), g.cases, nil)
	if _, err := OpenRun(dir, trainer); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened while open: got %v, want an error that says so", err)
	}
	if log, err := os.ReadFile(filepath.Join(dir, MetricsFile)); err != nil || strings.Count(string(log), "\n") != 1 {
		t.Errorf("the open run's log is %q (%v), want its one line", log, err)
	}
	if _, err := os.Stat(half); err != nil {
		t.Errorf("a file that the open run writes was removed: %v", err)
	}
	run.Close()
	if _, err := OpenRun(dir, trainer); err != nil {
		t.Errorf("opened after closing: %v", err)
	}
}

// TestStepLine: one row is one row, and the columns stay where they are.
func TestStepLine(t *testing.T) {
	run, err := CreateRun(filepath.Join(t.TempDir(), "run"), "a config")
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	var got []string
	run.Watch(func(string, int, int) {}, func(line string) { got = append(got, line) })
	for i, rows := range []int{1, 32} {
		if err := run.Step(StepMetrics{Step: i + 1, Samples: rows, Loss: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := run.Scored(CurvePoint{Samples: 1}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"step    1        1 row  loss", "step    2      32 rows  loss", "held out         1 row  loss"} {
		if !strings.HasPrefix(got[i], want) {
			t.Errorf("got %q, want it to begin with %q", got[i], want)
		}
	}
}
