package program

import (
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"

	"gotransplant/internal/setup"
)

// Config is the config.json of a run: what was asked for and what it was asked of.
type Config struct {
	Program  string            `json:"program"`
	Settings setup.Settings    `json:"settings"`
	DataHash string            `json:"data_sha256"`
	Rows     int               `json:"rows"`
	TooLong  []int             `json:"rows_skipped_too_long"`
	Go       string            `json:"go"`
	Revision string            `json:"revision"`
	Modules  map[string]string `json:"modules"`
}

// NewConfig fills in the facts of the build.
func NewConfig(name string, o *setup.Session) Config {
	c := Config{Program: name, Settings: o.Settings, DataHash: o.Hash, Rows: len(o.Rows.Rows), TooLong: o.TooLong,
		Go: runtime.Version(), Revision: Revision(), Modules: map[string]string{}}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if strings.HasPrefix(m.Path, "github.com/gomlx/") {
				c.Modules[m.Path] = m.Version
			}
		}
	}
	return c
}

// Revision is the commit the program was built from. The go tool stamps it into programs built from a checkout; for
// those it does not stamp, git is asked about the current directory.
func Revision() string {
	info, _ := debug.ReadBuildInfo()
	var commit, dirty string
	if info != nil {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				commit = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = " with local changes"
			}
		}
	}
	if commit != "" {
		return commit + dirty
	}
	module, err := exec.Command("git", "show", "HEAD:go.mod").Output()
	if err != nil || !strings.HasPrefix(string(module), "module gotransplant\n") {
		return "unknown" // not run in a checkout of this program
	}
	out, err := exec.Command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	if status, err := exec.Command("git", "status", "--porcelain").Output(); err != nil || len(status) > 0 {
		dirty = " with local changes"
	}
	return strings.TrimSpace(string(out)) + dirty
}
