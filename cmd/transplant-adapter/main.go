// Transplant-adapter merges LoRA adapters into checkpoints, looks into them, compares them, and writes checkpoints anew.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"gotransplant/cmd/internal/program"

	"github.com/spf13/pflag"
)

const head = `transplant-adapter works on LoRA adapters as PEFT writes them, and on checkpoint directories.

  transplant-adapter show runs/first/chooser
  transplant-adapter merge --model path/to/llama-7b --adapter runs/first/chooser --out merged
`

func main() {
	os.Exit(run(program.Context(), os.Args[1:], os.Stdout, os.Stderr))
}

// command is one of the things that the program does.
type command struct {
	name, what string
	run        func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

func commands() []command {
	return []command{
		{"merge", "write a checkpoint whose weights have an adapter added to them", merge},
		{"show", "print the rank, strength and effective rank of every matrix that an adapter adds", show},
		{"diff", "compare what two adapters add, matrix by matrix", diff},
		{"convert", "write a checkpoint anew: as safetensors, in other shards, in another type", convert},
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	out := &printed{to: stdout}
	err := dispatch(ctx, args, out, stderr)
	if err == nil {
		err = out.err
	}
	return program.Status("transplant-adapter", err, stderr)
}

// printed keeps the first error of printing, at which lines and tables do not look one by one.
type printed struct {
	to  io.Writer
	err error
}

func (p *printed) Write(text []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.to.Write(text)
	p.err = err
	return n, err
}

func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
		if len(args) > 0 && args[0] == c.name {
			if err := c.run(ctx, args[1:], stdout, stderr); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			return nil
		}
	}
	switch {
	case len(args) == 0:
		return fmt.Errorf("name a command: %s; see --help", strings.Join(names, ", "))
	case args[0] != "--help" && args[0] != "-h" && args[0] != "help":
		return fmt.Errorf("unknown command %q: there are %s; see --help", args[0], strings.Join(names, ", "))
	}
	fmt.Fprint(stdout, head, "\nCommands, each with a --help of its own:\n")
	for _, c := range commands() {
		fmt.Fprintf(stdout, "  %-8s %s\n", c.name, c.what)
	}
	return pflag.ErrHelp
}

// parse reads the flags of the groups and the arguments that are no flags, of which there must be one for each of names.
// With --help it prints the help text.
func parse(args, names []string, help string, stdout io.Writer, groups ...program.Group) ([]string, error) {
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	all.Usage = func() {}
	for _, g := range groups {
		all.AddFlagSet(g.Flags)
	}
	err := all.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		program.Help(stdout, help, groups)
		return nil, err
	}
	if err != nil {
		if _, better := program.Parse(args, groups...); better != nil {
			return nil, better
		}
		return nil, err
	}
	given := all.Args()
	if len(given) > len(names) {
		return nil, fmt.Errorf("unexpected argument %q: there is room for %d, see --help", given[len(names)], len(names))
	}
	if len(given) < len(names) {
		return nil, fmt.Errorf("%s is missing, got %q: name it, see --help", names[len(given)], given)
	}
	return given, nil
}
