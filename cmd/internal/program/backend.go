package program

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"gotransplant/internal/guard"
	"gotransplant/internal/setup"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend" // the backend "go"
)

// Open opens the backend and everything else that the settings name.
func Open(s setup.Settings, stderr io.Writer) (*setup.Session, error) {
	backend, err := OpenBackend(s.Backend, stderr)
	if err != nil {
		return nil, err
	}
	return setup.Open(s, backend)
}

// OpenBackend opens the backend of a --backend flag and says on w what is wrong with the build, if anything is.
func OpenBackend(spec string, w io.Writer) (compute.Backend, error) {
	limitMemory()
	if spec == "" { // GoMLX would take whichever backend registered first
		return nil, errors.New("--backend is empty: name go or xla:cuda")
	}
	if spec == "go" {
		// The default worker pool deadlocks when several large products are ready at once (compute v0.1.4).
		spec = "go:parallelism=-1"
	}
	if strings.HasPrefix(spec, "go") && slowBuild != "" {
		fmt.Fprintln(w, slowBuild)
	}
	if strings.HasPrefix(spec, "xla") && !hasXLA {
		return nil, fmt.Errorf("--backend %s: this program was built without cgo, which XLA needs; rebuild with CGO_ENABLED=1", spec)
	}
	forbidDownloads()
	defer silenceStdout()()
	var backend compute.Backend
	err := guard.Do("--backend "+spec, func() (err error) { // a name it does not know makes it panic
		if backend, err = compute.NewWithConfig(spec); err != nil {
			err = fmt.Errorf("--backend %s: %w", spec, err)
		}
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
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "MemTotal:" {
			if kib, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
				debug.SetMemoryLimit(kib * 1024 / 10 * 9)
			}
		}
	}
}
