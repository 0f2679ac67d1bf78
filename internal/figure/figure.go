// Package figure draws the learning curve of a training run as a PNG file.
package figure

import (
	"fmt"
	"image/color"
	"io"
	"math"

	"gotransplant/internal/atomicfile"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// Line is one curve of a panel: y over the number of rows trained on. Points with a NaN are left out.
type Line struct {
	Name   string
	X, Y   []float64
	Dashed bool
}

// Panel is one plot of the figure.
type Panel struct {
	Title string
	Lines []Line
	// Level is a horizontal reference, drawn dotted and named in the legend; NaN for none.
	Level     float64
	LevelName string
}

// palette follows Okabe and Ito (2008): distinct also to color-blind readers.
func palette() []color.Color {
	return []color.Color{
		color.RGBA{0, 0, 0, 255}, color.RGBA{0, 114, 178, 255}, color.RGBA{0, 158, 115, 255},
		color.RGBA{213, 94, 0, 255}, color.RGBA{86, 180, 233, 255}, color.RGBA{230, 159, 0, 255},
	}
}

// Draw writes the panels side by side to path, 32 by 12 cm at 96 dots an inch.
func Draw(path string, panels []Panel) error {
	const width, height = 32 * vg.Centimeter, 12 * vg.Centimeter
	canvas := vgimg.PngCanvas{Canvas: vgimg.New(width, height)}
	tiles := draw.Tiles{Rows: 1, Cols: len(panels), PadX: vg.Centimeter, PadTop: vg.Points(6), PadBottom: vg.Points(6),
		PadLeft: vg.Points(6), PadRight: vg.Points(10)}
	row := make([]*plot.Plot, len(panels))
	for i, panel := range panels {
		p, err := panel.plot()
		if err != nil {
			return fmt.Errorf("draw %s: %w", path, err)
		}
		row[i] = p
	}
	for i, c := range plot.Align([][]*plot.Plot{row}, tiles, draw.New(canvas))[0] {
		row[i].Draw(c)
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		_, err := canvas.WriteTo(w)
		return err
	})
}

func (panel Panel) plot() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = panel.Title
	p.X.Label.Text = "rows trained on"
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 1, 0, 1
	p.Legend.Top = false
	p.Legend.Left = true
	p.Legend.YOffs = vg.Points(4)
	p.Legend.XOffs = vg.Points(4)
	p.Add(plotter.NewGrid())
	for i, line := range panel.Lines {
		if err := line.addTo(p, palette()[i%len(palette())]); err != nil {
			return nil, err
		}
	}
	if !math.IsNaN(panel.Level) {
		level := plotter.NewFunction(func(float64) float64 { return panel.Level })
		level.Dashes = []vg.Length{vg.Points(1), vg.Points(3)}
		p.Add(level)
		p.Legend.Add(panel.LevelName, level)
	}
	return p, nil
}

func (l Line) addTo(p *plot.Plot, c color.Color) error {
	var points plotter.XYs
	for i := range l.X {
		if !math.IsNaN(l.Y[i]) {
			points = append(points, plotter.XY{X: l.X[i], Y: l.Y[i]})
			p.X.Max, p.Y.Max = max(p.X.Max, l.X[i]), max(p.Y.Max, l.Y[i])
		}
	}
	if len(points) == 0 {
		return nil
	}
	curve, err := plotter.NewLine(points)
	if err != nil {
		return fmt.Errorf("%s: %w", l.Name, err)
	}
	curve.Color, curve.Width = c, vg.Points(1.6)
	if l.Dashed {
		curve.Dashes = []vg.Length{vg.Points(5), vg.Points(3)}
	}
	p.Add(curve)
	p.Legend.Add(l.Name, curve)
	return nil
}
