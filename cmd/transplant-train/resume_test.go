package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"gotransplant/transplant"
)

// longFlags make a run of eight steps of about a tenth of a second, with scores and saves at different steps.
func longFlags(dir string) []string {
	return goldenFlags("--steps", "8", "--batch-size", "2", "--test-fraction", "0.34", "--eval-every", "2",
		"--save-every", "3", "--out", dir)
}

// contents reads all files below dir, without the seconds in metrics.jsonl and curve.csv.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content := readFile(t, dir, path)
		switch path {
		case transplant.MetricsFile:
			content = regexp.MustCompile(`"seconds":[^,]*,`).ReplaceAll(content, nil)
		case transplant.CurveFile:
			content = regexp.MustCompile(`(?m)^(\d+),[^,]*,`).ReplaceAll(content, []byte("$1,"))
		}
		files[path] = string(content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func checkSame(t *testing.T, got, want map[string]string) {
	t.Helper()
	names := slices.Sorted(maps.Keys(want))
	if gotNames := slices.Sorted(maps.Keys(got)); !slices.Equal(gotNames, names) {
		t.Errorf("files %q, want %q", gotNames, names)
	}
	for _, name := range names {
		if got[name] != want[name] {
			t.Errorf("%s differs from that of an uninterrupted run:\n%.300q\nwant\n%.300q", name, got[name], want[name])
		}
	}
}

// lines counts the lines of a file that may not be there yet.
func lines(path string) int {
	content, err := os.ReadFile(path)
	if err != nil {
		return -1
	}
	return bytes.Count(content, []byte("\n"))
}

// process is a training run of the built program.
type process struct {
	*exec.Cmd
	errors bytes.Buffer
}

func start(t *testing.T, program string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(program, args...)}
	p.Stdout, p.Stderr = io.Discard, &p.errors
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill() })
	return p
}

// when sends the signal once the condition holds; it may come too late for a process that has ended.
func (p *process) when(t *testing.T, signal os.Signal, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the run did not get there in a minute: %s", p.errors.String())
		}
	}
	if err := p.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

func build(t *testing.T) (program string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no SIGKILL on windows")
	}
	program = filepath.Join(t.TempDir(), "transplant-train")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// TestStoppedAndResumed: the program, killed or interrupted in the middle of a run and resumed, ends with the bytes of
// a run that was left alone.
func TestStoppedAndResumed(t *testing.T) {
	program, whole := build(t), filepath.Join(t.TempDir(), "run")
	if p := start(t, program, longFlags(whole)...); p.Wait() != nil {
		t.Fatalf("uninterrupted run: %s", p.errors.String())
	}
	for name, stop := range map[string]func(t *testing.T, program, dir string){
		"killed": killOften, "interrupted": interrupt,
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			stop(t, program, dir)
			if p := start(t, program, "--resume", dir); p.Wait() != nil {
				t.Fatalf("last resume: %s", p.errors.String())
			}
			checkSame(t, contents(t, dir), contents(t, whole))
		})
	}
}

// killOften kills one run with SIGKILL several times, before and after its first save.
func killOften(t *testing.T, program, dir string) {
	metrics := filepath.Join(dir, transplant.MetricsFile)
	args := longFlags(dir)
	for _, killAt := range []struct {
		name string
		met  func() bool
	}{
		{"config just written", func() bool { return lines(filepath.Join(dir, transplant.ConfigFile)) >= 0 }},
		{"two steps, nothing saved", func() bool { return lines(metrics) >= 2 }},
		{"five steps, three saved", func() bool { return lines(metrics) >= 5 }},
		{"saving after the sixth", func() bool { return lines(metrics) >= 6 }},
	} {
		p := start(t, program, args...)
		p.when(t, os.Kill, killAt.met)
		if p.Wait(); p.ProcessState.ExitCode() > 0 { // -1 is death by signal, 0 a machine too busy to kill in time
			t.Fatalf("%s: exit status %d: %s", killAt.name, p.ProcessState.ExitCode(), p.errors.String())
		}
		args = []string{"--resume", dir}
	}
}

// interrupt presses Ctrl-C, upon which the program saves and says how to go on.
func interrupt(t *testing.T, program, dir string) {
	p := start(t, program, longFlags(dir)...)
	p.when(t, os.Interrupt, func() bool { return lines(filepath.Join(dir, transplant.MetricsFile)) >= 2 })
	command := "transplant-train --resume " + dir
	if p.Wait(); p.ProcessState.ExitCode() != 130 || !strings.Contains(p.errors.String(), command) {
		t.Fatalf("got exit status %d, want 130 and the command to go on:\n%s", p.ProcessState.ExitCode(), p.errors.String())
	}
	if _, err := os.Stat(filepath.Join(dir, transplant.StateFile)); err != nil {
		t.Errorf("nothing was saved: %v", err)
	}
}

// TestCancelledBeforeTheFirstStep: a run that is interrupted at once, or while it compiles ahead, can be resumed too.
func TestCancelledBeforeTheFirstStep(t *testing.T) {
	for name, flags := range map[string][]string{
		"scoring": {"--steps", "1"}, "compiling": {"--steps", "1", "--kernels", "graphs", "--buckets", "2"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			ctx, cancel := context.WithCancelCause(context.Background())
			cancel(errors.New("interrupt signal received")) // as signal.NotifyContext does
			var out, said bytes.Buffer
			if code := run(ctx, goldenFlags(append(flags, "--out", dir)...), &out, &said); code != 130 ||
				!strings.Contains(said.String(), "interrupted after step 0 of 1; go on with: transplant-train --resume "+dir) {
				t.Fatalf("exit status %d, want 130 and how to go on:\n%s", code, said.String())
			}
			succeed(t, "--resume", dir)
			if n := lines(filepath.Join(dir, transplant.MetricsFile)); n != 1 {
				t.Errorf("%d steps recorded, want 1", n)
			}
		})
	}
}

// TestInterruptedAndNotSaved: where Ctrl-C cannot save, the status is that of a failure, and it is told what is on disk.
func TestInterruptedAndNotSaved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	if err := os.MkdirAll(filepath.Join(dir, transplant.StateFile, "in the way"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, said bytes.Buffer
	code := run(ctx, goldenFlags("--steps", "1", "--save-every", "0", "--out", dir), &out, &said)
	for _, part := range []string{"interrupted after step 0", "could not be saved", transplant.StateFile, "nothing was saved before"} {
		if code != 1 || !strings.Contains(said.String(), part) {
			t.Errorf("exit status %d and message %q, want 1 and %q in it", code, said.String(), part)
		}
	}
}

// TestResumeOfAFinishedRun changes nothing, except that what a killed process left half-written goes.
func TestResumeOfAFinishedRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	succeed(t, goldenFlags("--steps", "1", "--out", dir)...)
	want := contents(t, dir)
	for _, leftover := range []string{".state.safetensors.tmp-123", "arguer/.adapter_model.safetensors.tmp-9"} {
		if err := os.WriteFile(filepath.Join(dir, leftover), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := succeed(t, "--resume", dir)
	checkSame(t, contents(t, dir), want)
	for _, said := range []string{"step 2 is next", "left     nothing: step 1 was the last"} { // as a dry run says
		if !strings.Contains(r.out, said) {
			t.Errorf("output\n%s\nlacks %q", r.out, said)
		}
	}
}

// TestResumeRefusals: a run is not continued with other options, other data or a damaged directory.
func TestResumeRefusals(t *testing.T) {
	data := filepath.Join(t.TempDir(), "rows.csv")
	if err := os.WriteFile(data, readFile(t, golden("rows.csv")), 0o644); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name   string
		damage func(t *testing.T, dir string)
		flags  []string
		want   string
	}{
		{"other flags", nil, []string{"--lr", "1"}, "leave the other flags out"},
		{"no config", remove(transplant.ConfigFile), nil, "start it again"},
		{"broken config", overwrite(transplant.ConfigFile, "{"), nil, transplant.ConfigFile},
		{"config of something else", overwrite(transplant.ConfigFile, "{}"), nil, "not the config of a training run"},
		{"broken state", overwrite(transplant.StateFile, "x"), nil, transplant.StateFile},
		{"lines lost", overwrite(transplant.MetricsFile, ""), nil, "whole lines"},
		{"other data", func(t *testing.T, dir string) {
			content := bytes.Replace(readFile(t, data), []byte("shells"), []byte("stones"), 1)
			if err := os.WriteFile(data, content, 0o644); err != nil {
				t.Fatal(err)
			}
		}, nil, "changed since the run began"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			succeed(t, goldenFlags("--steps", "1", "--data", data, "--out", dir)...)
			if c.damage != nil {
				c.damage(t, dir)
			}
			r := call(append([]string{"--resume", dir}, c.flags...)...)
			if r.code != 1 || !strings.Contains(r.errors, c.want) {
				t.Errorf("exit status %d and message %q, want 1 and %q in it", r.code, r.errors, c.want)
			}
		})
	}
}

func remove(name string) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func overwrite(name, content string) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDirectoryInUse: a directory that holds a run is not overwritten.
func TestDirectoryInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	succeed(t, goldenFlags("--steps", "1", "--out", dir)...)
	want := contents(t, dir)
	r := call(goldenFlags("--steps", "1", "--out", dir)...)
	if r.code != 1 || !strings.Contains(r.errors, "--resume "+dir) {
		t.Errorf("exit status %d and message %q, want 1 and the command to continue", r.code, r.errors)
	}
	checkSame(t, contents(t, dir), want)
}
