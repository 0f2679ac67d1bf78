package transplant

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
)

// TestLeftoversOfAKilledProcessGo: temporary files beside a run's own files are removed when it is opened, no others.
func TestLeftoversOfAKilledProcessGo(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ArguerDir), 0o755); err != nil {
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
