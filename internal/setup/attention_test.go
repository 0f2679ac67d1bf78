package setup

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"gotransplant/internal/panel"
	"gotransplant/llama"
	"gotransplant/transplant"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend"
)

// TestAttentionFollowsSettings: what is asked for reaches the method, what this backend has not is refused, and a way that
// was asked for is not left to a contest.
func TestAttentionFollowsSettings(t *testing.T) {
	backend, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ attention, kernels, refusal, line string }{
		{"auto", transplant.Graphs, "", "blockwise; not fused: "},
		{"", transplant.Graphs, "--attention \"\": there are auto, plain", ""},
		{"plain", transplant.Graphs, "", "attention plain\n"},
		{"blockwise", "auto", "", "attention blockwise\n"},
		{"fused", transplant.Graphs, "--attention fused: ", ""},
		{"fast", transplant.Graphs, "--attention fast: there are auto, plain, blockwise and fused", ""},
	} {
		t.Run(c.attention+" "+c.kernels, func(t *testing.T) {
			s := goldenSettings()
			s.Attention, s.Kernels = c.attention, c.kernels
			o, err := Open(s, backend)
			if c.refusal != "" {
				if err == nil || !strings.Contains(err.Error(), c.refusal) {
					t.Fatalf("got error %v, want one with %q", err, c.refusal)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := o.Method.Attention.String(); got != c.attention {
				t.Errorf("got attention %q, want %q", got, c.attention)
			}
			if got := o.Describe(); !strings.Contains(got, c.line) {
				t.Errorf("described as %q, want a line with %q", got, c.line)
			}
			if o.Compete(func(string) {}); o.Method.Contest != nil {
				t.Error("there is a contest, but no fused kernel")
			}
			if o.Method.Engine.Panels() {
				t.Error("panels compute, which have no blockwise attention")
			}
		})
	}
}

// TestMayFuse: in half precision, where no other attention was asked for.
func TestMayFuse(t *testing.T) {
	for _, c := range []struct {
		dtype, attention string
		want             bool
	}{{"bfloat16", "auto", true}, {"bfloat16", "fused", true}, {"bfloat16", "plain", false}, {"float32", "auto", false}} {
		s := Settings{DType: c.dtype, Attention: c.attention}
		if got := s.MayFuse(); got != c.want {
			t.Errorf("--dtype %s --attention %q: may fuse %t, want %t", c.dtype, c.attention, got, c.want)
		}
	}
}

// TestUnaskedGraphsAreTold: where --kernels auto finds that panels cannot, the start lines say so and why; where graphs were
// asked for, or panels compute, they do not.
func TestUnaskedGraphsAreTold(t *testing.T) {
	backend, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		residual, kernels string
		want              bool
	}{{"float32", "auto", true}, {"float32", transplant.Graphs, false}, {"float64", transplant.Graphs, false}} {
		s := goldenSettings()
		s.Residual, s.Kernels = c.residual, c.kernels
		o, err := Open(s, backend)
		if err != nil {
			t.Fatal(err)
		}
		got := o.Describe()
		if strings.Contains(got, "\nkernels  graphs, ") != c.want {
			t.Errorf("residual %s, --kernels %s: described as %q, want a line of kernels: %t", c.residual, c.kernels, got, c.want)
		}
		if reason := llama.PanelsCan(o.Method.Engine.Weights, o.Method.Engine.Options); c.want && !strings.Contains(got, reason.Error()) {
			t.Errorf("residual %s: described as %q, want %q", c.residual, got, reason)
		}
	}
}

// TestOtherProductsAreTold: where a run in bfloat16 goes on with other products than it began with a line says so, and only there.
func TestOtherProductsAreTold(t *testing.T) {
	if !panel.Available() {
		t.Skip("no panels here")
	}
	backend, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dtype, begun, products string
		want                   bool
	}{
		{"bfloat16", "", panel.Products(), false},
		{"bfloat16", panel.Products(), panel.Products(), false},
		{"bfloat16", "abaci", panel.Products(), true},
		{"float32", "", "", false},
	} {
		s := goldenSettings()
		s.DType, s.Products = c.dtype, c.begun
		o, err := Open(s, backend)
		if err != nil {
			t.Fatal(err)
		}
		if o.Products != c.products {
			t.Errorf("%+v: products in %q", c, o.Products)
		}
		if got := o.Describe(); strings.Contains(got, "\nkernels  bfloat16 was multiplied in abaci and is now in "+c.products) != c.want {
			t.Errorf("%+v: described as %q", c, got)
		}
	}
}

// TestRoundedFactorsAreTold: where panels compute in bfloat16 without products of it a line says so, here or in a process that
// is not to use those of this processor.
func TestRoundedFactorsAreTold(t *testing.T) {
	const marker = "SETUP_TEST_WITHOUT_PRODUCTS"
	backend, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	s := goldenSettings()
	s.DType = "bfloat16"
	o, err := Open(s, backend)
	if err != nil {
		t.Fatal(err)
	}
	want := panel.Available() && !panel.HalfAvailable()
	if got := strings.Contains(o.Describe(), "\nkernels  factors are rounded"); got != want {
		t.Errorf("described as %q: told %t, want %t", o.Describe(), got, want)
	}
	if os.Getenv(marker) != "" && !want {
		t.Skip("this build cannot do without products of bfloat16")
	}
	if !panel.HalfAvailable() || os.Getenv(marker) != "" {
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self, "-test.v", "-test.run", "^TestRoundedFactorsAreTold$")
	child.Env = append(os.Environ(), "GODEBUG=cpu.avx512bf16=off,cpu.amxbf16=off", marker+"=1")
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}
