package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestResultsAndProgressOnOneTerminal: where results and the bar go to the same terminal, every result begins on a line of its own.
func TestResultsAndProgressOnOneTerminal(t *testing.T) {
	ours, theirs := terminal(t)
	defer ours.Close()
	read := make(chan string)
	go func() {
		var all strings.Builder
		for piece := make([]byte, 4096); ; {
			n, err := ours.Read(piece)
			all.Write(piece[:n])
			if err != nil { // the other end was closed
				read <- all.String()
				return
			}
		}
	}()
	status := run(context.Background(), []string{"--prompt", "Kim has 19 nuts.", "--samples", "4", "--temperature", "1", "--max-tokens", "5"},
		strings.NewReader(""), theirs, theirs)
	theirs.Close()
	said := <-read
	if status != 0 {
		t.Fatalf("status %d, want 0: %s", status, said)
	}
	if !strings.Contains(said, "% |") {
		t.Errorf("no bar in %q", said)
	}
	if bad := regexp.MustCompile(`[^\r\n]==`).FindString(said); bad != "" {
		t.Errorf("a result behind %q, in %q", bad, said)
	}
}

// TestTalkOnATerminal: what stands behind a talk that was ended with Ctrl-D begins a line of its own.
func TestTalkOnATerminal(t *testing.T) {
	ours, theirs := terminal(t)
	defer ours.Close()
	defer theirs.Close()
	if _, err := ours.WriteString("\x04"); err != nil {
		t.Fatal(err)
	}
	var out, said strings.Builder
	status := run(context.Background(), []string{"--chat", "--chat-template", "llama2"}, theirs, &out, &said)
	if status != 0 || said.String() != "> \n" {
		t.Errorf("status %d, %q; want 0 and %q", status, said.String(), "> \n")
	}
}

// terminal is a pseudo-terminal: our end, and the one for a program.
func terminal(t *testing.T) (ours, theirs *os.File) {
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}
