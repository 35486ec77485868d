package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// picture is a plot of some lines.
type picture struct {
	file, title, x, y string
	logarithmic       bool // x
	lines             []line
}

type line struct {
	name   string
	points plotter.XYs
}

// draw writes the pictures as SVG files into the folder.
func draw(folder string, pictures []picture) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	var errs []error
	for _, p := range pictures {
		errs = append(errs, p.draw(folder))
	}
	return errors.Join(errs...)
}

func (p picture) draw(folder string) error {
	chart := plot.New()
	chart.Title.Text, chart.X.Label.Text, chart.Y.Label.Text = p.title, p.x, p.y
	chart.Add(plotter.NewGrid())
	chart.Legend.Left = true
	chart.Legend.Top = true
	if p.logarithmic {
		chart.X.Scale, chart.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	for i, l := range p.lines {
		drawn, err := plotter.NewLine(l.points)
		if err != nil {
			return err
		}
		drawn.Color, drawn.Width = plotutil.Color(i), vg.Points(1.5)
		chart.Add(drawn)
		chart.Legend.Add(l.name, drawn)
	}
	return chart.Save(18*vg.Centimeter, 10*vg.Centimeter, filepath.Join(folder, p.file+".svg"))
}

// distribution is the share of figures that are at most so large. It has at most some hundred points.
func distribution(figures []float64) plotter.XYs {
	sorted := slices.Sorted(slices.Values(figures))
	step := max(1, len(sorted)/300)
	var points plotter.XYs
	for i := 0; i < len(sorted); i += step {
		points = append(points, plotter.XY{X: sorted[i], Y: float64(i+1) / float64(len(sorted))})
	}
	return append(points, plotter.XY{X: sorted[len(sorted)-1], Y: 1})
}

// rateOverTime is how many of some moments there were in each half of a second, as a rate, from the start on.
func rateOverTime(start time.Time, moments []time.Time) plotter.XYs {
	const window = 500 * time.Millisecond
	counts := map[int]int{}
	last := 0
	for _, at := range moments {
		i := int(at.Sub(start) / window)
		counts[i]++
		last = max(last, i)
	}
	points := make(plotter.XYs, 0, last+1)
	for i := range last + 1 {
		points = append(points, plotter.XY{X: (float64(i) + 0.5) * window.Seconds(), Y: float64(counts[i]) / window.Seconds()})
	}
	return points
}
