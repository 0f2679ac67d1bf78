package program

import (
	"maps"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"
)

// TestRevision: in a checkout the commit is known, whether or not the go tool stamped it.
func TestRevision(t *testing.T) {
	want, err := exec.Command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		t.Skipf("not in a git checkout: %v", err)
	}
	if got := Revision(); !strings.HasPrefix(got, strings.TrimSpace(string(want))) {
		t.Errorf("got revision %q, want one that begins with %q", got, want)
	}
}

// TestStamped: the commit of a build, and whether it is all of it.
func TestStamped(t *testing.T) {
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	for _, c := range []struct {
		name  string
		build *debug.BuildInfo
		want  string
	}{
		{"clean", &debug.BuildInfo{Settings: []debug.BuildSetting{setting("vcs.revision", "abc"), setting("vcs.modified", "false"),
			setting("-race", "true")}}, "abc"},
		{"changed", &debug.BuildInfo{Settings: []debug.BuildSetting{setting("vcs.revision", "abc"), setting("vcs.modified", "true")}},
			"abc with local changes"},
		{"not stamped", &debug.BuildInfo{Settings: []debug.BuildSetting{setting("vcs.modified", "true")}}, ""},
		{"not known", nil, ""},
	} {
		if got := stamped(c.build); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestModules: what computes is recorded, and nothing else of a build.
func TestModules(t *testing.T) {
	build := &debug.BuildInfo{Deps: []*debug.Module{{Path: "github.com/gomlx/compute", Version: "v0.1.4"}, {Path: "github.com/spf13/pflag", Version: "v1"}}}
	if got, want := modules(build), (map[string]string{"github.com/gomlx/compute": "v0.1.4"}); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := modules(nil); got == nil || len(got) > 0 {
		t.Errorf("of a build of which nothing is known: got %v, want an empty map", got)
	}
}
