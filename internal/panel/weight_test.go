package panel

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gotransplant/internal/guard"
)

// TestSetForgetsTheTransposedCopy: after Set the way back multiplies the new values too.
func TestSetForgetsTheTransposedCopy(t *testing.T) {
	need(t)
	const out, in = 11, 9
	r := rand.New(rand.NewPCG(11, 1))
	before, after := random(r, out, in).flat(), random(r, out, in).flat()
	for name, pack := range map[string]func(out, in int, values []float32) *Weight{"float32": NewWeight, "bfloat16": NewRoundedWeight} {
		w := pack(out, in, before)
		w.KeepTransposed()
		w.Set(after)
		var s Scratch
		y := random(r, out, Lanes).packed()
		got, want := newMatrix(in, 1), newMatrix(in, 1)
		w.MultiplyTransposed(&s, Exact(y), got, false)
		pack(out, in, after).MultiplyTransposed(&s, Exact(y), want, false)
		if !slices.Equal(got.Data, want.Data) {
			t.Errorf("%s: got %v, want %v", name, got.Data, want.Data)
		}
	}
}

// TestShapesThatDoNotFitPanic: before a kernel reads or writes what is not there. Everything here has room for what a kernel
// would do, so that it is the check alone that stops it.
func TestShapesThatDoNotFitPanic(t *testing.T) {
	need(t)
	const out, in = 24, 16
	w, both := NewWeight(out, in, make([]float32, out*in)), NewWeight(out, in, make([]float32, out*in))
	both.KeepTransposed()
	matrix := func(rows, panels int) Matrix { return Matrix{rows, panels, make([]float32, 64*Lanes)} }
	operand := func(rows, panels int) Operand { return Exact(matrix(rows, panels)) }
	rows := func(n, size int) Rows { return Rows{size, Padded(size), make([]float32, 64*Lanes)[:n*Padded(size)]} }
	var s Scratch
	type shape struct{ x, xPanels, y, yPanels int }
	calls := make(map[string]func())
	for name, c := range map[string]shape{"operand too high": {in + 1, 1, out, 1}, "product too high": {in, 1, out + 1, 1},
		"panels that differ": {in, 1, out, 2}} {
		calls["Multiply, "+name] = func() { w.Multiply(&s, operand(c.x, c.xPanels), matrix(c.y, c.yPanels), false) }
		calls["MultiplyColumns, "+name] = func() { w.MultiplyColumns(&s, operand(c.x, c.xPanels), matrix(c.y, c.yPanels), false, []int{0}) }
		calls["MultiplyTransposed, "+name] = func() {
			w.MultiplyTransposed(&s, operand(c.y, c.yPanels), matrix(c.x, c.xPanels), false)
		}
		calls["MultiplyTransposed by a copy, "+name] = func() {
			both.MultiplyTransposed(&s, operand(c.y, c.yPanels), matrix(c.x, c.xPanels), false)
		}
	}
	calls["Set, a value too many"] = func() { w.Set(make([]float32, out*in+1)) }
	for name, c := range map[string]struct{ x, y Rows }{"operand too long": {rows(2, in+1), rows(2, out)},
		"product too long": {rows(2, in), rows(2, out+1)}, "too few operands": {rows(1, in), rows(2, out)}} {
		calls["MultiplyRows, "+name] = func() { w.MultiplyRows(&s, ExactRows(c.x), c.y, false, 0, w.Tiles()) }
	}
	calls["MultiplyRows, a tile too many"] = func() { w.MultiplyRows(&s, ExactRows(rows(1, in)), rows(1, out), false, 0, w.Tiles()+1) }
	if HalfAvailable() {
		calls["Multiply, bfloat16 by float32"] = func() {
			m := matrix(in, 1)
			w.Multiply(&s, Rounded(m, make([]uint16, Halves(m))), matrix(out, 1), false)
		}
		calls["MultiplyRows, bfloat16 by float32"] = func() {
			x := rows(1, in)
			w.MultiplyRows(&s, RoundedRows(x, make([]uint16, len(x.Data))), rows(1, out), false, 0, w.Tiles())
		}
	}
	for name, call := range calls {
		err := guard.Do(name, func() error { call(); return nil })
		if err == nil || !strings.HasPrefix(err.Error(), name+": panel: ") {
			t.Errorf("%s: got error %v, want a panic that begins with \"panel: \"", name, err)
		}
	}
}
