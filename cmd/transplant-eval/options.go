package main

import (
	"errors"
	"fmt"
	"io"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/setup"
	"gotransplant/internal/spelling"
	"gotransplant/transplant"

	"github.com/spf13/pflag"
)

// options are the flags of this command beside the settings.
type options struct {
	out, donor string
	controls   bool
	flip       bool
	program.Reporting
}

func parse(args []string, stdout io.Writer) (s setup.Settings, o options, err error) {
	s = setup.Defaults()
	s.Training, s.TestFraction = nil, 0
	g := program.NewGroup("Controls and output")
	f := g.Flags
	f.StringVar(&o.donor, "donor", "own", "whose arguments' states are moved: `row` own or other-row (control: drawn by --seed)")
	f.BoolVar(&o.flip, "flip-order", false, "score every row in both orders as well")
	f.BoolVar(&o.controls, "controls", false, "score under all controls as well: both orders, other-row donors, no transplant")
	f.StringVar(&o.out, "out", "", "`directory` for predictions.jsonl and summary.json (none: only the table is printed)")
	o.Bind(f, "print the summary (or the plan) as JSON instead of a table")
	groups := append(program.Common(&s), g)
	_, err = program.Parse(args, groups...)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		program.Help(stdout, head, groups)
		return s, o, err
	case err != nil:
		return s, o, err
	case o.donor != "own" && o.donor != "other-row":
		return s, o, fmt.Errorf("--donor %s", spelling.Unknown(o.donor, "own", "other-row"))
	case o.donor == "other-row" && s.NoTransplant:
		return s, o, errors.New("--donor other-row moves states, --no-transplant moves none: leave one out")
	}
	if o.out != "" {
		if err := program.CheckOut(o.out, transplant.ConfigFile, transplant.PredictionsFile, setup.SummaryFile); err != nil {
			return s, o, err
		}
	}
	if s.Model == "" && s.MicroBatch == 0 {
		s.MicroBatch = setup.Embedded().MicroBatch
	}
	return s, o, program.Absolute(&s)
}

// conditions are the controls that the flags ask for.
func (o options) conditions() setup.Controls {
	return setup.Controls{MainOtherRow: o.donor == "other-row", OtherRow: o.controls && o.donor == "own",
		FlipOrder: o.controls || o.flip, NoTransplant: o.controls}
}
