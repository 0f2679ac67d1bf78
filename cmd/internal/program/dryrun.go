package program

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"gotransplant/internal/setup"
	"gotransplant/internal/spelling"
	"gotransplant/llama"

	"github.com/spf13/pflag"
)

// Reporting are the flags of how a program tells what it will do and has done.
type Reporting struct{ DryRun, JSON bool }

// Bind binds both flags; what says what --json prints.
func (r *Reporting) Bind(f *pflag.FlagSet, what string) {
	f.BoolVar(&r.DryRun, "dry-run", false, "check the input, print what would be done, held in memory and written, and stop")
	f.BoolVar(&r.JSON, "json", false, what)
}

// Text is where lines for people go: not to the standard output where that is for JSON.
func (r Reporting) Text(stdout, stderr io.Writer) io.Writer {
	if r.JSON {
		return stderr
	}
	return stdout
}

// JSONLine writes v as one line; texts keep their < and >.
func JSONLine(w io.Writer, v any) error {
	var line bytes.Buffer
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(line.Bytes())
	return err
}

// Outline opens everything that the settings name, but neither the weights' values nor the device: for plans.
func Outline(s setup.Settings, stderr io.Writer) (*setup.Session, error) {
	at, err := Planned(s.Backend, stderr)
	if err != nil {
		return nil, err
	}
	return setup.Outline(s, at)
}

// Planned is the backend that a --backend flag names, to be planned for: it need not be at hand, but it must be one that
// there is. A Go backend builds graphs in its place.
func Planned(spec string, stderr io.Writer) (at llama.Planned, err error) {
	switch name, _, _ := strings.Cut(spec, ":"); name {
	case "go":
		at.Name = name
		at.Builder, err = OpenBackend(spec, stderr)
	case "xla":
		at.Name = spec
		at.Builder, err = OpenBackend("go", io.Discard)
	default:
		err = fmt.Errorf("--backend %s", spelling.Unknown(spec, backends()...))
	}
	return at, err
}
