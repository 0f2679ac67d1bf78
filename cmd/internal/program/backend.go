package program

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"gotransplant/internal/guard"
	"gotransplant/internal/setup"
	"gotransplant/internal/spelling"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend" // the backend "go"
)

// Open opens the backend and everything else that the settings name.
func Open(s setup.Settings, stderr io.Writer) (*setup.Session, error) {
	backend, err := Backend(s, stderr)
	if err != nil {
		return nil, err
	}
	return openOn(s, backend, stderr)
}

// openOn opens what the settings name on a backend, of which the kernel of fused attention is tried before.
func openOn(s setup.Settings, backend compute.Backend, stderr io.Writer) (*setup.Session, error) {
	works, err := tryFused(s, backend, stderr)
	if err != nil {
		return nil, err
	}
	o, err := setup.Open(s, backend)
	if err == nil && !works {
		o.LeaveOutFused("it does not work on this device")
	}
	return o, err
}

// Backend opens the backend that the settings name, after installing its plugin if they ask for that.
func Backend(s setup.Settings, stderr io.Writer) (compute.Backend, error) {
	if s.InstallPlugin {
		if err := installPlugin(s.Backend); err != nil {
			return nil, fmt.Errorf("--install-plugin for --backend %s: %w", s.Backend, err)
		}
	}
	return OpenBackend(s.Backend, stderr)
}

// OpenBackend opens the backend of a --backend flag and says on w what is wrong with the build, if anything is, and which
// device it found. It downloads nothing.
func OpenBackend(spec string, w io.Writer) (backend compute.Backend, err error) {
	limitMemory()
	name, config, _ := strings.Cut(spec, ":")
	switch name {
	case "go":
		backend, err = openGo(config, w)
	case "xla":
		backend, err = openXLA(config, w)
	default:
		return nil, fmt.Errorf("--backend %s", spelling.Unknown(spec, backends()...))
	}
	if err != nil {
		return nil, fmt.Errorf("--backend %s: %w", spec, err)
	}
	return backend, nil
}

// backends are examples of all that --backend takes.
func backends() []string { return []string{"go", "xla:cuda", "xla:cpu", "xla:/path/to/plugin.so"} }

func openGo(config string, w io.Writer) (compute.Backend, error) {
	if config == "" {
		// The default worker pool deadlocks when several large products are ready at once (compute v0.1.4).
		config = "parallelism=-1"
	}
	if slowBuild != "" {
		fmt.Fprintln(w, slowBuild)
	}
	return newBackend("go:" + config)
}

// newBackend opens what GoMLX has under this name.
func newBackend(config string) (backend compute.Backend, err error) {
	defer silenceStdout()()
	err = guard.Do("open "+config, func() (err error) {
		backend, err = compute.NewWithConfig(config)
		return err
	})
	return backend, err
}

// silenceStdout keeps a line that the Go backend prints on opening out of the program's output.
func silenceStdout() (restore func()) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return func() {}
	}
	stdout := os.Stdout
	os.Stdout = null
	return func() {
		os.Stdout = stdout
		null.Close()
	}
}

// limitMemory has the garbage collector work harder near nine tenths of the machine's memory, instead of letting the
// heap grow to twice the weights. GOMEMLIMIT, if set, rules.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if all := machineMemory(); all > 0 {
		debug.SetMemoryLimit(all / 10 * 9)
	}
}
