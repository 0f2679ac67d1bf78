package transplant

import (
	"errors"
	"slices"
	"testing"

	"gotransplant/llama"
	"gotransplant/lora"

	"github.com/gomlx/compute/dtypes"
)

// TestSumsOnTheDevice: gradients added up on the device, in the order of the sweeps, have the bits of the host's sums, and
// a matrix that nothing arrives for gets zeros.
func TestSumsOnTheDevice(t *testing.T) {
	for name, set := range map[string]func(*Method){
		"two adapters":        func(*Method) {},
		"first layer":         func(m *Method) { m.Layers = make([]bool, m.layers()); m.Layers[0] = true },
		"arguer not trained":  func(m *Method) { m.StopGradient = true },
		"chooser is the base": func(m *Method) { m.Chooser = nil },
		"one adapter":         func(m *Method) { m.Arguer = m.Chooser },
		"no prefix":           func(m *Method) { m.Prefix = Prefix{} },
	} {
		t.Run(name, func(t *testing.T) {
			g := small(t)
			m := g.method(t, dtypes.Float32)
			set(m)
			host, want := m.newSums()
			device, got := sumsOnDevice(m)
			for update := range 2 { // the second begins from zero
				if err := errors.Join(addAll(m, g.cases, device), addAll(m, g.cases, host)); err != nil {
					t.Fatal(err)
				}
				for i := range want {
					if !slices.Equal(got[i].Grad, want[i].Grad) {
						t.Errorf("update %d: %s differs from the host's sum", update+1, want[i].Name)
					}
				}
			}
		})
	}
}

// sumsOnDevice are sums as on a GPU; the Go backend adds up on the host.
func sumsOnDevice(m *Method) (*sums, []lora.Tensor) {
	s, all := m.newSums()
	_ = s.each(func(r *roleSums) error {
		r.host, r.device = nil, make([]llama.GradientSum, m.layers())
		return nil
	})
	return s, all
}

// addAll adds up the gradients of each case by itself, and of the prefixes, and takes the sums.
func addAll(m *Method, cases []Case, s *sums) error {
	m, err := m.share(true)
	if err != nil {
		return err
	}
	defer m.shared.close()
	for _, c := range cases {
		sweep, err := m.pass(m.group([]Case{c}, nil, 1), true, 1)
		if err == nil {
			err = errors.Join(m.shared.add(m.Engine, &sweep), s.add(&sweep))
		}
		if err != nil {
			return err
		}
	}
	rest, err := m.backward()
	if err != nil {
		return err
	}
	return errors.Join(s.add(&rest), s.take())
}

// TestSumsAreFreed: neither taken nor forgotten sums stay on the device, and the plan has room for them.
func TestSumsAreFreed(t *testing.T) {
	g := small(t)
	m := g.method(t, dtypes.Float32)
	var books *llama.Rehearsal
	m.Engine, books = m.Engine.Rehearse()
	device, _ := sumsOnDevice(m)
	if err := addAll(m, g.cases, device); err != nil {
		t.Fatal(err)
	}
	if held := books.Now().Bytes(); held != 0 {
		t.Errorf("%d bytes are held after the sums were taken, want none", held)
	}
	m.Prefix = Prefix{}
	m, err := m.share(true)
	if err != nil {
		t.Fatal(err)
	}
	sweep, err := m.pass(m.group(g.cases[:1], nil, 1), true, 1)
	if err != nil {
		t.Fatal(err)
	}
	gradients := books.Now().Bytes()
	if err := device.add(&sweep); err != nil {
		t.Fatal(err)
	}
	held := books.Now().Bytes()
	if planned := m.summedBytes(1); held == 0 || gradients == 0 || held+gradients > planned || 2*(held+gradients) < planned {
		t.Errorf("sums take %d bytes and the gradients of a sweep %d, planned are %d for both", held, gradients, planned)
	}
	device.reset()
	if held := books.Now().Bytes(); held != 0 {
		t.Errorf("%d bytes are held after the sums were forgotten, want none", held)
	}
}

// TestFailedSumFreesGradients: wherever in adding a sweep's gradients the device fails, those that were not added are freed.
func TestFailedSumFreesGradients(t *testing.T) {
	g := small(t)
	m, broken := crowdedMethod(t, g, 2)
	m.Prefix = Prefix{}
	m, err := m.share(true)
	if err != nil {
		t.Fatal(err)
	}
	before := broken.live.Load()
	for at := int64(1); ; at++ {
		sums, _ := sumsOnDevice(m)
		sweep, err := m.pass(m.group(g.cases[:1], nil, 1), true, 1)
		if err != nil {
			t.Fatal(err)
		}
		broken.failAt = broken.calls.Load() + at
		err = sums.add(&sweep)
		sums.reset()
		if held := broken.live.Load() - before; held != 0 {
			t.Errorf("call %d fails (%v): %d bytes are held after the sums were forgotten, want none", at, err, held)
		}
		if err == nil {
			if want := int64(2 * m.layers()); at != want+1 {
				t.Errorf("gradients were added in %d calls, want one for each of %d layers of two adapters", at-1, m.layers())
			}
			return
		}
	}
}
