package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotransplant/transplant"
)

// movable copies all that the reference run reads and returns the flags that name it there.
func movable(t *testing.T, to string) (flags []string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(golden())); err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct{ flag, at string }{{"model", "model"}, {"data", "rows.csv"}, {"arguer-adapter", "adapters/arguer"},
		{"chooser-adapter", "adapters/chooser"}, {"argue-template", "templates/argue.tmpl"}, {"choose-template", "templates/choose.tmpl"}} {
		flags = append(flags, "--"+f.flag, filepath.Join(to, filepath.FromSlash(f.at)))
	}
	return flags
}

// TestResumeOfMovedFiles: a run whose files lie elsewhere says which flags tell it where, goes on with them, and knows the next
// time; files that are others are refused there too.
func TestResumeOfMovedFiles(t *testing.T) {
	first, second := filepath.Join(t.TempDir(), "first"), filepath.Join(t.TempDir(), "second")
	dir := filepath.Join(t.TempDir(), "run")
	succeed(t, append(goldenFlags(movable(t, first)...), "--steps", "1", "--out", dir)...)
	began := readFile(t, dir, transplant.ConfigFile)
	flags := movable(t, second)
	if err := os.RemoveAll(first); err != nil {
		t.Fatal(err)
	}

	r := call("--resume", dir)
	for i := 0; i < len(flags); i += 2 {
		if want := "say with " + flags[i] + " where it is now"; r.code != 1 || strings.Count(r.errors, want) != 1 {
			t.Errorf("exit status %d and message %q, want 1 and once %q", r.code, r.errors, want)
		}
	}

	moved := append([]string{"--resume", dir}, flags...)
	tensors := filepath.Join(second, "adapters", "chooser", "adapter_model.safetensors")
	old := readFile(t, tensors)
	changeLast(t, tensors, old)
	if r := call(moved...); r.code != 1 || !strings.Contains(r.errors, tensors+" has changed") {
		t.Errorf("another adapter: exit status %d and message %q, want 1 and %s", r.code, r.errors, tensors)
	}
	if err := os.WriteFile(tensors, old, 0o644); err != nil {
		t.Fatal(err)
	}

	succeed(t, append(moved, "--dry-run")...)
	if got := readFile(t, dir, transplant.ConfigFile); !bytes.Equal(got, began) {
		t.Errorf("--dry-run left %s, want it as it was", got)
	}
	succeed(t, moved...)
	want := strings.ReplaceAll(string(began), first, second)
	if got := readFile(t, dir, transplant.ConfigFile); string(got) != want {
		t.Errorf("got %s, want the same with the files' places: %s", got, want)
	}
	succeed(t, "--resume", dir)
}

// TestResumeWithoutThat: what a run did not read cannot have moved, and what it does not use need not be there.
func TestResumeWithoutThat(t *testing.T) {
	dir, adapter := filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "arguer")
	if err := os.CopyFS(adapter, os.DirFS(golden("adapters", "arguer"))); err != nil {
		t.Fatal(err)
	}
	succeed(t, goldenFlags("--no-transplant", "--arguer-adapter", adapter, "--choose-template=", "--steps", "1", "--out", dir)...)
	if r := call("--resume", dir, "--choose-template", golden("templates", "choose.tmpl")); r.code != 1 ||
		!strings.Contains(r.errors, "the run was begun without --choose-template") {
		t.Errorf("exit status %d and message %q, want 1 and that there was no such template", r.code, r.errors)
	}
	if err := os.RemoveAll(adapter); err != nil {
		t.Fatal(err)
	}
	succeed(t, "--resume", dir)
}

// TestMovedInputs: files keep their fingerprints under the names that they have now, also where two flags name one directory.
func TestMovedInputs(t *testing.T) {
	c := config{Inputs: map[string]string{"/a/m/config.json": "1", "/a/m/x/config.json": "2", "/a/c.tmpl": "3", "embedded/model.safetensors": "4"}}
	c.Settings.Model, c.Settings.ChooserAdapter, c.Settings.ChooseTemplate = "/a/m", "/a/m", "/a/c.tmpl"
	now := c.Settings
	now.Model, now.ChooserAdapter, now.ChooseTemplate = "/b", "/b", "/d.tmpl"
	c.moved(now)
	want := map[string]string{"/b/config.json": "1", "/a/m/x/config.json": "2", "/d.tmpl": "3", "embedded/model.safetensors": "4"}
	if !maps.Equal(c.Inputs, want) || c.Settings.Model != "/b" || c.Settings.ChooseTemplate != "/d.tmpl" {
		t.Errorf("got %v, the model in %s and the template in %s, want %v", slices.Sorted(maps.Keys(c.Inputs)), c.Settings.Model,
			c.Settings.ChooseTemplate, want)
	}
	none := config{}
	if none.moved(now); none.Inputs != nil {
		t.Errorf("got %v of a run from before files were recorded, want none", none.Inputs)
	}
}
