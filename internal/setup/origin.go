package setup

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gotransplant/data"
	"gotransplant/internal/spelling"
	"gotransplant/llama"
	"gotransplant/transplant"
)

// origin is what a run directory tells of the run that trained the adapters in it.
type origin struct {
	dir      string
	Settings Settings `json:"settings"`
	DataHash string   `json:"data_sha256"`
}

// originOf is the run in whose directory an adapter lies, or nil. It is asked for notes only, so that a config that cannot
// be read is none.
func originOf(adapter string) *origin {
	if adapter == "" {
		return nil
	}
	run := &origin{dir: filepath.Dir(filepath.Clean(adapter))}
	content, err := os.ReadFile(filepath.Join(run.dir, transplant.ConfigFile))
	if err != nil || json.Unmarshal(content, run) != nil || run.Settings.Training == nil {
		return nil
	}
	return run
}

// Origins are notes on adapters that runs have trained: where scores would be of rows that were trained on, where an option of
// the run was left out, and where the roles were mistaken. None of it is refused, since each may be meant.
func (o *Session) Origins() []string { return o.origins(o.trainedOn) }

// Origins are the notes where nothing is scored.
func (b *Base) Origins() []string { return b.origins(nothing) }

func nothing(*origin) string { return "" }

// withOrigins is an error with the notes on the adapters in lines of their own.
func (s Settings) withOrigins(err error) error {
	for _, note := range s.origins(nothing) {
		err = fmt.Errorf("%w\nnote     %s", err, note)
	}
	return err
}

// origins are the notes on both adapters, with what else there is to be said of each run.
func (s Settings) origins(also func(*origin) string) (notes []string) {
	var seen []string
	for _, a := range []struct{ flag, dir, role, other string }{
		{"arguer-adapter", s.ArguerAdapter, transplant.ArguerDir, transplant.ChooserDir},
		{"chooser-adapter", s.ChooserAdapter, transplant.ChooserDir, transplant.ArguerDir},
	} {
		run := originOf(a.dir)
		if run == nil || a.role == transplant.ArguerDir && s.NoTransplant && !s.ShareAdapter {
			continue
		}
		if filepath.Base(a.dir) == a.other && !run.Settings.ShareAdapter && !s.ShareAdapter {
			notes = append(notes, fmt.Sprintf("--%s %s is what the run trained as %s", a.flag, a.dir, a.other))
		}
		if slices.Contains(seen, run.dir) {
			continue
		}
		seen = append(seen, run.dir)
		all := []string{s.single(run), s.LeftOut(a.dir, !s.NoTransplant, true), also(run)}
		for _, earlier := range run.before(&seen) {
			all = append(all, also(earlier))
		}
		notes = append(notes, slices.DeleteFunc(all, func(note string) bool { return note == "" })...)
	}
	return notes
}

// before are the runs from whose adapters a run went on, and those before them, but for the ones seen: an adapter has learned the
// rows of them all.
func (run *origin) before(seen *[]string) (all []*origin) {
	for _, adapter := range []string{run.Settings.ArguerAdapter, run.Settings.ChooserAdapter} {
		earlier := originOf(adapter)
		if earlier == nil || slices.Contains(*seen, earlier.dir) {
			continue
		}
		*seen = append(*seen, earlier.dir)
		all = append(append(all, earlier), earlier.before(seen)...)
	}
	return all
}

// single is a note where a run trained two adapters and one is named, though both roles read.
func (s Settings) single(run *origin) string {
	if s.NoTransplant || s.ShareAdapter || run.Settings.NoTransplant || s.ArguerAdapter != "" && s.ChooserAdapter != "" {
		return ""
	}
	role := transplant.ArguerDir
	if s.ArguerAdapter != "" {
		role = transplant.ChooserDir
	}
	return fmt.Sprintf("%s has an adapter of the %s too, and --%s-adapter is left out", run.dir, role, role)
}

// LeftOut is a note on the options of the run that trained an adapter which say what the arguer's or the chooser's prompts are and,
// of both, what is moved, or that the base was rounded, where they are not given here; "" where none is. A value that is given, and another, is meant to be.
func (s Settings) LeftOut(adapter string, arguer, chooser bool) string {
	run := originOf(adapter)
	if run == nil {
		return ""
	}
	var flags []string
	add := func(flag, here, there, none string) {
		if here == none && there != none {
			flags = append(flags, "--"+flag+" "+there)
		}
	}
	r := run.Settings
	if arguer && chooser && !r.NoTransplant {
		add("transplant-layers", s.TransplantLayers, r.TransplantLayers, Defaults().TransplantLayers)
	}
	if arguer && !r.NoTransplant {
		add("argue-template", s.ArgueTemplate, r.ArgueTemplate, "")
	}
	if chooser {
		add("choose-template", s.ChooseTemplate, r.ChooseTemplate, "")
	}
	if chooser && r.MaskChoice && !s.MaskChoice {
		flags = append(flags, "--mask-choice")
	}
	if arguer && chooser && r.NoTransplant {
		flags = append(flags, "--no-transplant")
	}
	if quantized := []string{llama.Int8.String(), llama.NF4.String()}; slices.Contains(quantized, r.Weights) {
		add("weights", s.Weights, r.Weights, Defaults().Weights)
	}
	if len(flags) == 0 {
		return ""
	}
	return fmt.Sprintf("%s was trained with %s, and this is without", run.dir, strings.Join(flags, " "))
}

// trainedOn says how many of the rows to be scored are a run's training rows, and what scores those that it held out.
func (o *Session) trainedOn(run *origin) string {
	if run.DataHash != o.Hash || o.Training != nil && o.TestFraction == 0 {
		return ""
	}
	scored, err := o.Scored()
	if err != nil {
		return ""
	}
	train, _, err := data.Split(len(o.Rows.Rows), run.Settings.TestFraction, run.Settings.Seed)
	if err != nil {
		return ""
	}
	both := 0
	for _, c := range scored {
		if _, found := slices.BinarySearch(train, c.Row-1); found {
			both++
		}
	}
	if both == 0 {
		return ""
	}
	advice := "it held out none"
	if run.Settings.TestFraction > 0 {
		advice = fmt.Sprintf("those it held out are scored with --seed %d --test-fraction %v", run.Settings.Seed, run.Settings.TestFraction)
	}
	return fmt.Sprintf("%s trains on %d of the %s to be scored: %s", run.dir, both, spelling.Count(len(scored), "row"), advice)
}
