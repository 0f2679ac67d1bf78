package program

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"gotransplant/transplant"

	"github.com/spf13/pflag"
)

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want int
		text string
	}{
		{"done", nil, 0, ""},
		{"help", fmt.Errorf("flags: %w", pflag.ErrHelp), 0, ""},
		{"stopped", fmt.Errorf("row 3: %w", context.Canceled), 130, "transplant-x: interrupted\n"},
		{"stopped in training", fmt.Errorf("%w after step 3; go on with: x", transplant.ErrInterrupted), 130, "transplant-x: interrupted after step 3; go on with: x\n"},
		{"failed", errors.New("no such file"), 1, "transplant-x: no such file\n"},
	} {
		var stderr strings.Builder
		if got := Status("transplant-x", c.err, &stderr); got != c.want || stderr.String() != c.text {
			t.Errorf("%s: got %d and %q, want %d and %q", c.name, got, stderr.String(), c.want, c.text)
		}
	}
}

// TestContext: the first signal ends the context and not the process, which the second does.
func TestContext(t *testing.T) {
	const marker = "PROGRAM_TEST_CONTEXT"
	if os.Getenv(marker) != "" {
		ctx := Context()
		fmt.Println("waiting")
		<-ctx.Done()
		fmt.Println("done")
		time.Sleep(time.Minute)
		return
	}
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent these signals")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		child := exec.Command(self, "-test.run=^TestContext$")
		child.Env = append(os.Environ(), marker+"=1")
		out, err := child.StdoutPipe()
		if err == nil {
			err = child.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for _, want := range []string{"waiting", "done"} {
			if !lines.Scan() || lines.Text() != want {
				t.Fatalf("%v: got %q, want %q", signal, lines.Text(), want)
			}
			_ = child.Process.Signal(signal)
		}
		ended := make(chan error, 1)
		go func() { ended <- child.Wait() }()
		for waiting := true; waiting; { // the second may have come before the first was dealt with
			select {
			case err = <-ended:
				waiting = false
			case <-time.After(10 * time.Millisecond):
				_ = child.Process.Signal(signal)
			}
		}
		if err == nil || child.ProcessState.Exited() {
			t.Errorf("%v: the process ended with %v, want it ended by the signal", signal, err)
		}
	}
}
