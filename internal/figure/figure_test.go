package figure

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// drawn draws panels and reads the picture back.
func drawn(t *testing.T, panels ...Panel) (image.Image, []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.png")
	if err := Draw(path, panels); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return picture, content
}

// pixels counts those of one color.
func pixels(picture image.Image, c color.Color) (n int) {
	r, g, b, a := c.RGBA()
	for y := range picture.Bounds().Dy() {
		for x := range picture.Bounds().Dx() {
			if pr, pg, pb, pa := picture.At(x, y).RGBA(); pr == r && pg == g && pb == b && pa == a {
				n++
			}
		}
	}
	return n
}

func panel(lines ...Line) Panel { return Panel{Title: "a", Lines: lines, Level: math.NaN()} }

// TestLinesAreSeen: every line leaves its color, a line over more of the width more of it, one without numbers none.
func TestLinesAreSeen(t *testing.T) {
	blue := palette()[1]
	first := Line{Name: "first", X: []float64{0, 100}, Y: []float64{0.2, 0.2}}
	second := func(to float64, y ...float64) Line { return Line{Name: "second", X: []float64{0, to}, Y: y} }
	whole, _ := drawn(t, panel(first, second(100, 0.6, 0.6)))
	half, _ := drawn(t, panel(first, second(50, 0.6, 0.6)))
	none, _ := drawn(t, panel(first, second(100, math.NaN(), math.NaN())))
	if w, h := pixels(whole, blue), pixels(half, blue); w < h+100 || h < 100 {
		t.Errorf("%d blue pixels over the whole width, %d over half of it, want many and half as many", w, h)
	}
	if n := pixels(none, blue); n != 0 {
		t.Errorf("%d blue pixels of a line without numbers, want 0", n)
	}
}

// TestDashed: a dashed line leaves gaps.
func TestDashed(t *testing.T) {
	count := func(dashed bool) int {
		picture, _ := drawn(t, panel(Line{}, Line{Name: "a", X: []float64{0, 100}, Y: []float64{0.5, 0.5}, Dashed: dashed}))
		return pixels(picture, palette()[1])
	}
	if solid, dashed := count(false), count(true); dashed > solid*9/10 || dashed == 0 {
		t.Errorf("%d pixels solid, %d dashed, want fewer but some", solid, dashed)
	}
}

// TestDrawing: what may happen in a run that has just begun or goes badly can be drawn, and the same lines give the
// same bytes, which a resumed run relies on.
func TestDrawing(t *testing.T) {
	cases := []struct {
		name  string
		panel Panel
	}{
		{"no line", panel()},
		{"no point", panel(Line{Name: "a"})},
		{"one point", panel(Line{Name: "a", X: []float64{16}, Y: []float64{0.5}})},
		{"a gap", panel(Line{Name: "a", X: []float64{1, 2, 3}, Y: []float64{0.1, math.NaN(), 0.2}})},
		{"a loss far above", panel(Line{Name: "a", X: []float64{1, 2}, Y: []float64{1e6, 0.2}})},
		{"a level", Panel{Title: "b", Level: 0.5, LevelName: "chance"}},
		{"more lines than colors", panel(make([]Line, 9)...)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			picture, content := drawn(t, c.panel, c.panel)
			if size := picture.Bounds().Size(); size.X < 2*size.Y || size.Y < 300 {
				t.Errorf("picture of %v, want two panels side by side", size)
			}
			if _, again := drawn(t, c.panel, c.panel); !bytes.Equal(content, again) {
				t.Error("the same panels gave other bytes")
			}
		})
	}
}

func TestDrawNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no", "such", "a.png")
	if err := Draw(path, []Panel{panel()}); err == nil || !bytes.Contains([]byte(err.Error()), []byte(path)) {
		t.Errorf("got error %v, want one that names %s", err, path)
	}
}
