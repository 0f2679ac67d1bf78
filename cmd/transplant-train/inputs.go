package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/extract"
	"gotransplant/internal/setup"
	"gotransplant/internal/tiny"
)

// config is the config.json of a run: what every program writes, and what the run's other inputs were.
type config struct {
	program.Config
	Inputs map[string]string `json:"inputs_sha256"` // by path; of a long file, its name, its size and parts of it
}

// inputs are the fingerprints of all that a run reads besides its data set.
func inputs(s setup.Settings) (map[string]string, error) {
	all, err := modelInputs(s.Model)
	if err != nil {
		return nil, err
	}
	var adapters []string
	if !s.NoTransplant || s.ShareAdapter {
		adapters = append(adapters, s.ArguerAdapter)
	}
	for _, dir := range append(adapters, s.ChooserAdapter) {
		if dir == "" {
			continue
		}
		prints, err := extract.FilePrints(os.DirFS(dir), ".")
		if err != nil {
			return nil, err
		}
		addBelow(all, dir, prints)
	}
	for _, file := range []string{s.ArgueTemplate, s.ChooseTemplate} {
		if file == "" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(text)
		all[file] = hex.EncodeToString(sum[:])
	}
	return all, nil
}

// modelInputs are those of the checkpoint's files; the embedded one changes with the program.
func modelInputs(dir string) (map[string]string, error) {
	fsys, at := fs.FS(tiny.Files), tiny.Model
	if dir != "" {
		fsys, at = os.DirFS(dir), "."
	} else {
		dir = "embedded"
	}
	prints, err := extract.FilePrints(fsys, at)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	addBelow(all, dir, prints)
	return all, nil
}

func addBelow(all map[string]string, dir string, prints map[string]string) {
	for name, hash := range prints {
		all[filepath.Join(dir, name)] = hash
	}
}

// same refuses to resume a run on another data set or other files than it was begun on.
func same(dir string, session *setup.Session) error {
	if err := program.SameData(dir, session); err != nil {
		return err
	}
	return sameInputs(dir, session.Settings)
}

// sameInputs is same for the files besides the data set. A run from before they were recorded has none.
func sameInputs(dir string, s setup.Settings) error {
	old, err := readConfig(dir)
	if err != nil {
		return err
	}
	if old.Inputs == nil {
		return nil
	}
	old.moved(s)
	now, err := inputs(s)
	if err != nil {
		return err
	}
	for _, file := range slices.Sorted(maps.Keys(old.Inputs)) {
		if now[file] != old.Inputs[file] {
			return fmt.Errorf("--resume %s: %s has changed since the run began: restore it, or start a new run", dir, file)
		}
	}
	for _, file := range slices.Sorted(maps.Keys(now)) {
		if _, ok := old.Inputs[file]; !ok {
			return fmt.Errorf("--resume %s: %s was not there when the run began: take it away, or start a new run", dir, file)
		}
	}
	return nil
}
