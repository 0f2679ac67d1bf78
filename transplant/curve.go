package transplant

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"gotransplant/internal/figure"
)

// drawFigure draws curve.png from metrics.jsonl and curve.csv: training rows on the left, held-out rows on the right.
func (r *RunDir) drawFigure() error {
	train, err := trainPanel(filepath.Join(r.dir, MetricsFile))
	if err != nil {
		return err
	}
	test, err := testPanel(filepath.Join(r.dir, CurveFile))
	if err != nil {
		return err
	}
	return figure.Draw(filepath.Join(r.dir, FigureFile), []figure.Panel{train, test})
}

// trainPanel smooths the noisy figures of single batches over about a twentieth of the run.
func trainPanel(path string) (figure.Panel, error) {
	loss, correct := figure.Line{Name: "loss"}, figure.Line{Name: "f_c"}
	err := readLines(path, func(text []byte) error {
		var m StepMetrics
		if err := json.Unmarshal(text, &m); err != nil {
			return err
		}
		loss.X, loss.Y = append(loss.X, float64(m.Samples)), append(loss.Y, m.Loss)
		correct.X, correct.Y = append(correct.X, float64(m.Samples)), append(correct.Y, m.FractionCorrect)
		return nil
	})
	window := max(1, len(loss.X)/20)
	title := "Training rows"
	if window > 1 {
		title = fmt.Sprintf("Training rows (mean of %d steps)", window)
	}
	loss.Y, correct.Y = smooth(loss.Y, window), smooth(correct.Y, window)
	return figure.Panel{Title: title, Lines: []figure.Line{loss, correct}, Level: math.NaN()}, err
}

// smooth is the running mean over the last window values.
func smooth(y []float64, window int) []float64 {
	out := make([]float64, len(y))
	for i := range y {
		from := max(0, i+1-window)
		for _, v := range y[from : i+1] {
			out[i] += v / float64(i+1-from)
		}
	}
	return out
}

// testPanel shows the columns of curve.csv under the names of the published figure.
func testPanel(path string) (figure.Panel, error) {
	panel := figure.Panel{Title: "Held-out rows", Level: 0.5, LevelName: "chance"}
	f, err := os.Open(path)
	if err != nil {
		return panel, err
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return panel, fmt.Errorf("%s: %w", path, err)
	}
	names := []string{"loss", "f_c", "f_c | argument correct", "f_c | argument incorrect",
		"confidence when correct", "confidence when incorrect"}
	for i, name := range names {
		line := figure.Line{Name: name, Dashed: i >= 4}
		for _, record := range records[1:] {
			x, y := parse(record[2]), parse(record[3+i])
			line.X, line.Y = append(line.X, x), append(line.Y, y)
		}
		panel.Lines = append(panel.Lines, line)
	}
	return panel, nil
}

// parse reads a number of our own writing; an empty field is NaN.
func parse(field string) float64 {
	v, err := strconv.ParseFloat(field, 64)
	if err != nil {
		return math.NaN()
	}
	return v
}
