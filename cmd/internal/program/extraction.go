package program

import (
	"runtime"

	"gotransplant/internal/extract"
)

// NewExtraction is the config.json of an extraction with the facts of the build; options are by flag.
func NewExtraction(name string, options map[string]string) extract.Config {
	return extract.Config{Program: name, Options: options, Go: runtime.Version(), Revision: Revision()}
}
