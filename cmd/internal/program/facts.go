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
	info, _ := debug.ReadBuildInfo()
	return Config{Program: name, Settings: o.Settings, DataHash: o.Hash, Rows: len(o.Rows.Rows), TooLong: o.TooLong,
		Go: runtime.Version(), Revision: Revision(), Modules: modules(info)}
}

// modules are the versions of GoMLX's modules in a build, of which nothing may be known.
func modules(info *debug.BuildInfo) map[string]string {
	versions := map[string]string{}
	if info == nil {
		return versions
	}
	for _, m := range info.Deps {
		if strings.HasPrefix(m.Path, "github.com/gomlx/") {
			versions[m.Path] = m.Version
		}
	}
	return versions
}

// Revision is the commit the program was built from. The go tool stamps it into programs built from a checkout; for
// those it does not stamp, git is asked about the current directory.
func Revision() string {
	info, _ := debug.ReadBuildInfo()
	if commit := stamped(info); commit != "" {
		return commit
	}
	module, err := exec.Command("git", "show", "HEAD:go.mod").Output()
	if err != nil || !strings.HasPrefix(string(module), "module gotransplant\n") {
		return "unknown" // not run in a checkout of this program
	}
	out, err := exec.Command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	commit := strings.TrimSpace(string(out))
	if status, err := exec.Command("git", "status", "--porcelain").Output(); err != nil || len(status) > 0 {
		commit += dirty
	}
	return commit
}

// dirty follows a commit that is not all of what was built.
const dirty = " with local changes"

// stamped is the commit that the go tool put into a build, or nothing.
func stamped(info *debug.BuildInfo) (commit string) {
	if info == nil {
		return ""
	}
	changes := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changes = dirty
		}
	}
	if commit == "" {
		return ""
	}
	return commit + changes
}
