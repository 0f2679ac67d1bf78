package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/setup"
	"gotransplant/transplant"

	"github.com/spf13/pflag"
)

// options are the flags of this command beside the settings.
type options struct {
	program.Reporting
	out, resume string
}

// bind parses args over defaults.
func bind(defaults setup.Settings, args []string, stdout io.Writer) (s setup.Settings, o options, err error) {
	s = defaults
	where := program.NewGroup("Run directory and output")
	where.Flags.StringVar(&o.out, "out", "", "run `directory` to make (none: runs/ and the time)")
	where.Flags.StringVar(&o.resume, "resume", "", "run `directory` to continue; its config.json gives all other flags, "+
		"and those of files that were moved say where they are now")
	o.Bind(where.Flags, "print the plan and, in the end, the summary as JSON, one object a line; text goes to standard error")
	groups := append(program.Common(&s), program.Training(s.Training), where)
	flags, err := program.Parse(args, groups...)
	if errors.Is(err, pflag.ErrHelp) {
		program.Help(stdout, head, groups)
		e, d := setup.Embedded(), setup.Defaults()
		others := append(program.Common(&e), program.Training(e.Training))
		groups = append(program.Common(&d), program.Training(d.Training))
		fmt.Fprintf(stdout, "\nDefaults on the embedded model:\n%s\n", program.Differences(groups, others))
	}
	if err == nil && o.resume != "" {
		flags.Visit(func(f *pflag.Flag) {
			if f.Name != "resume" && f.Name != "dry-run" && f.Name != "json" && !isPlace(f.Name) {
				err = fmt.Errorf("--resume takes every option from the run's config.json: leave the other flags out, such as --%s, "+
					"but for those of files that were moved", f.Name)
			}
		})
	}
	return s, o, err
}

// parse reads the flags. The embedded model has defaults of its own.
func parse(args []string, stdout io.Writer) (setup.Settings, options, error) {
	s, o, err := bind(setup.Defaults(), args, stdout)
	if err == nil && s.Model == "" {
		s, o, err = bind(setup.Embedded(), args, stdout)
	}
	if err != nil {
		return s, o, err
	}
	if o.resume != "" {
		s, err = resume(o.resume, s)
		return s, o, err
	}
	if o.out == "" {
		o.out = "runs/" + time.Now().Format("20060102-150405")
	}
	if err := program.CheckOut(o.out); err != nil {
		return s, o, err
	}
	if err := transplant.CheckUnused(o.out); err != nil {
		return s, o, err
	}
	return s, o, program.Absolute(&s)
}
