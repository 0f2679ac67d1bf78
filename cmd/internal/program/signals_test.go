package program

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

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
