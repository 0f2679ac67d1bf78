package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/atomicfile"
	"gotransplant/internal/setup"
	"gotransplant/transplant"
)

// place is a flag that says where a run reads something.
type place struct {
	flag string
	path *string
}

// places are all of a run's.
func places(s *setup.Settings) []place {
	return []place{{"model", &s.Model}, {"data", &s.Data}, {"arguer-adapter", &s.ArguerAdapter},
		{"chooser-adapter", &s.ChooserAdapter}, {"argue-template", &s.ArgueTemplate}, {"choose-template", &s.ChooseTemplate}}
}

// isPlace tells whether a flag may stand beside --resume.
func isPlace(flag string) bool {
	return slices.ContainsFunc(places(new(setup.Settings)), func(p place) bool { return p.flag == flag })
}

// resume reads the settings of a run whose files may lie elsewhere now: where the flags in given say.
func resume(dir string, given setup.Settings) (setup.Settings, error) {
	s, err := program.Resume(dir)
	if err != nil {
		return s, err
	}
	if err := program.Absolute(&given); err != nil {
		return s, err
	}
	now := places(&given)
	for i, p := range places(&s) {
		switch to := *now[i].path; {
		case to == "":
		case *p.path == "":
			return s, fmt.Errorf("--resume %s: the run was begun without --%s: leave it out", dir, p.flag)
		default:
			*p.path = to
		}
	}
	return s, missing(dir, s)
}

// missing names all that a run reads and is not there.
func missing(dir string, s setup.Settings) error {
	if s.NoTransplant && !s.ShareAdapter {
		s.ArguerAdapter = "" // which is not read
	}
	var all []program.Place
	for _, p := range places(&s) {
		all = append(all, program.Place{Flag: p.flag, Path: *p.path})
	}
	return program.Missing(dir, all)
}

// moved gives the files of a run the names that they have where the run reads them now.
func (c *config) moved(now setup.Settings) {
	at := places(&now)
	inputs := map[string]string{}
	for file, hash := range c.Inputs {
		name := file
		for i, p := range places(&c.Settings) {
			switch from, to := *p.path, *at[i].path; {
			case from == "":
			case file == from:
				name = to
			case filepath.Dir(file) == from:
				name = filepath.Join(to, filepath.Base(file))
			}
		}
		inputs[name] = hash
	}
	if c.Inputs != nil {
		c.Inputs = inputs
	}
	for i, p := range places(&c.Settings) {
		*p.path = *at[i].path
	}
}

// readConfig reads the config.json of a run.
func readConfig(dir string) (c config, err error) {
	err = program.ReadConfig(dir, &c, &c.Config)
	return c, err
}

// recordMoved has a run find its files where they were found now, the next time too.
func recordMoved(dir string, now setup.Settings) error {
	c, err := readConfig(dir)
	if err != nil {
		return err
	}
	old := c.Settings
	c.moved(now)
	if slices.EqualFunc(places(&old), places(&c.Settings), func(a, b place) bool { return *a.path == *b.path }) {
		return nil
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(dir, transplant.ConfigFile), append(text, '\n'))
}
