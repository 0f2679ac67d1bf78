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

// Draw writes the panels side by side to path, 36 by 11 cm at 96 dots an inch, each with its legend on its right.
func Draw(path string, panels []Panel) error {
	const width, height, legendWidth = 36 * vg.Centimeter, 11 * vg.Centimeter, 6.2 * vg.Centimeter
	canvas := vgimg.PngCanvas{Canvas: vgimg.New(width, height)}
	tiles := draw.Tiles{Rows: 1, Cols: len(panels), PadX: vg.Points(8), PadTop: vg.Points(6), PadBottom: vg.Points(6),
		PadLeft: vg.Points(6), PadRight: vg.Points(6)}
	for i, panel := range panels {
		p, legend, err := panel.plot()
		if err != nil {
			return fmt.Errorf("draw %s: %w", path, err)
		}
		tile := tiles.At(draw.New(canvas), i, 0)
		p.Draw(draw.Crop(tile, 0, -legendWidth, 0, 0))
		legend.Draw(draw.Crop(tile, tile.Max.X-tile.Min.X-legendWidth+vg.Points(8), 0, 0, -vg.Points(24)))
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		_, err := canvas.WriteTo(w)
		return err
	})
}

// top is where the vertical axis ends: fractions fill it, and a loss from before training has begun to work may leave it.
const top = 1.4

func (panel Panel) plot() (*plot.Plot, plot.Legend, error) {
	p, legend := plot.New(), plot.NewLegend()
	legend.Padding = vg.Points(4)
	legend.Top, legend.Left, legend.YPosition = true, true, draw.PosCenter
	p.Title.Text = panel.Title
	p.Title.Padding = vg.Points(6)
	p.X.Label.Text = "rows trained on"
	p.Add(plotter.NewGrid())
	end := 1.0
	for i, line := range panel.Lines {
		for _, x := range line.X {
			end = max(end, x)
		}
		if err := line.addTo(p, &legend, palette()[i%len(palette())]); err != nil {
			return nil, legend, err
		}
	}
	if !math.IsNaN(panel.Level) {
		level := plotter.NewFunction(func(float64) float64 { return panel.Level })
		level.Dashes = []vg.Length{vg.Points(1), vg.Points(3)}
		p.Add(level)
		legend.Add(panel.LevelName, level)
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, end, 0, top
	return p, legend, nil
}

func (l Line) addTo(p *plot.Plot, legend *plot.Legend, c color.Color) error {
	var points plotter.XYs
	for i := range l.X {
		if !math.IsNaN(l.Y[i]) {
			points = append(points, plotter.XY{X: l.X[i], Y: l.Y[i]})
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
	legend.Add(l.Name, curve)
	return nil
}
