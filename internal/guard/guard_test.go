package guard

import (
	"errors"
	"strings"
	"testing"
)

func TestDo(t *testing.T) {
	sentinel := errors.New("sentinel")
	cases := []struct {
		name string
		fn   func() error
		want string
	}{
		{"nil", func() error { return nil }, ""},
		{"error returned", func() error { return sentinel }, "sentinel"},
		{"error panicked", func() error { panic(sentinel) }, "op: sentinel"},
		{"string panicked", func() error { panic("text") }, "op: text"},
		{"runtime error keeps its stack", func() error { var s []int; _ = s[len(s)]; return nil }, "guard_test.go"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := Do("op", c.fn)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got %v, want nil", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want it to contain %q", err, c.want)
			}
		})
	}
	if err := Do("op", func() error { panic(sentinel) }); !errors.Is(err, sentinel) {
		t.Errorf("got %v, want it to wrap the panicked error", err)
	}
}
