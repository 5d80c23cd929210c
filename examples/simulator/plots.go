package main

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// Size of a figure, and of the text in it: still readable where the page shrinks
// it to the width of a telephone.
const (
	figureWidth  = 420
	figureHeight = 270
	fontSize     = 12
)

// palette holds colors that can be told apart from each other, and from the page
// in its light and its dark form. Each is there once: the page hides a series by
// its color.
func palette() []color.NRGBA {
	return []color.NRGBA{
		{0x2b, 0x7b, 0xd6, 255}, {0xe0, 0x7b, 0x1a, 255}, {0x2a, 0x9d, 0x5c, 255}, {0xd6, 0x45, 0x50, 255},
		{0x8e, 0x62, 0xd0, 255}, {0x9b, 0x74, 0x3e, 255}, {0xd5, 0x5f, 0xa8, 255}, {0x7d, 0x8a, 0x94, 255},
		{0xa8, 0xa0, 0x1c, 255}, {0x17, 0xa4, 0xb4, 255}, {0x5b, 0x74, 0xc9, 255}, {0xb9, 0x55, 0x2b, 255},
		{0x6b, 0xa5, 0x2e, 255}, {0xb0, 0x4a, 0x8a, 255}, {0x3f, 0x8f, 0x8a, 255}, {0xc9, 0x97, 0x1f, 255},
	}
}

// colorOf returns the color of series i: of the palette, and beyond it colors from
// around the wheel.
func colorOf(i int) color.NRGBA {
	p := palette()
	if i < len(p) {
		return p[i]
	}
	// Steps of the golden angle never come back to where they were; the brightness
	// alternates, too.
	hue := math.Mod(float64(i)*0.61803398875, 1) * 6
	high := 0.8 - 0.2*float64(i%2)
	low := 0.25
	x := low + (high-low)*(1-math.Abs(math.Mod(hue, 2)-1))
	rgb := [][3]float64{{high, x, low}, {x, high, low}, {low, high, x}, {low, x, high}, {x, low, high}, {high, low, x}}[int(hue)]
	return color.NRGBA{uint8(255 * rgb[0]), uint8(255 * rgb[1]), uint8(255 * rgb[2]), 255}
}

// hex is the color as it stands in the SVG. It rounds as vgsvg does, which is not
// always to the nearest.
func hex(c color.Color) string {
	r, g, b, a := c.RGBA()
	f := 255 / float64(a)
	return fmt.Sprintf("#%02X%02X%02X", int(float64(r)*f), int(float64(g)*f), int(float64(b)*f))
}

// series is one line of a figure.
type series struct {
	color  color.NRGBA
	points plotter.XYs
	hollow []bool // of each point: overload. nil: no points are drawn
}

// newFigure returns a plot without a background: that is the page's.
func newFigure() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	sans := font.Font{Typeface: "Liberation", Variant: "Sans"}
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Label.TextStyle.Font = font.From(sans, fontSize)
		a.Tick.Label.Font = font.From(sans, fontSize)
		a.Label.Padding = vg.Points(4)
		a.Padding = vg.Points(4)
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = gridColor(), gridColor()
	p.Add(grid)
	return p
}

// gridColor is seen on light and on dark ground, and is no color of a series.
func gridColor() color.NRGBA { return color.NRGBA{0x80, 0x88, 0x90, 0x40} }

// draws adds lines to a plot.
func draws(p *plot.Plot, lines []series, width float64) error {
	for _, s := range lines {
		if len(s.points) == 0 {
			continue
		}
		line, err := plotter.NewLine(s.points)
		if err != nil {
			return err
		}
		line.LineStyle = draw.LineStyle{Color: s.color, Width: vg.Points(width)}
		p.Add(line)
		for i, hollow := range s.hollow {
			dot, err := plotter.NewScatter(s.points[i : i+1])
			if err != nil {
				return err
			}
			dot.GlyphStyle = glyph(s.color, hollow)
			p.Add(dot)
		}
	}
	return nil
}

// glyph is the mark of a point: hollow where the fleet did not keep up.
func glyph(c color.Color, hollow bool) draw.GlyphStyle {
	if hollow {
		return draw.GlyphStyle{Color: c, Radius: vg.Points(3.4), Shape: ring{}}
	}
	return draw.GlyphStyle{Color: c, Radius: vg.Points(2.8), Shape: draw.CircleGlyph{}}
}

// ring is draw.RingGlyph with a line that can be seen.
type ring struct{}

// DrawGlyph implements draw.GlyphDrawer.
func (ring) DrawGlyph(c *draw.Canvas, sty draw.GlyphStyle, at vg.Point) {
	c.SetLineStyle(draw.LineStyle{Color: sty.Color, Width: vg.Points(1.4)})
	var p vg.Path
	p.Move(vg.Point{X: at.X + sty.Radius, Y: at.Y})
	p.Arc(at, sty.Radius, 0, 2*math.Pi)
	p.Close()
	c.Stroke(p)
}

// overLoad draws a latency, in seconds, over the levels of load: a line for each
// policy. With one level there is no line to draw, and it is a point for each.
func overLoad(s summary, alt string, figure func(*simulation.Report) float64) (template.HTML, error) {
	if len(s.levels) == 1 {
		return overPolicies(s, alt, figure)
	}
	p := newFigure()
	p.X.Label.Text = s.levels[0].unit + " per second"
	if s.levels[0].load > 0 {
		p.X.Label.Text = "load, % of capacity"
	}
	var lines []series
	for i := range s.policies {
		line := series{color: colorOf(i)}
		for l, level := range s.levels {
			at := s.at(l, i)
			if at == nil {
				continue
			}
			if y := at.of(figure).mean; y > 0 {
				line.points = append(line.points, plotter.XY{X: level.x(), Y: y})
				line.hollow = append(line.hollow, !at.steady())
			}
		}
		lines = append(lines, line)
	}
	if err := draws(p, lines, 1.6); err != nil {
		return "", err
	}
	p.X.Tick.Marker = levelTicks(s.levels)
	logTime(&p.Y)
	return svg(p, alt, figureHeight)
}

// overPolicies draws a latency at the only level: a point for each policy.
func overPolicies(s summary, alt string, figure func(*simulation.Report) float64) (template.HTML, error) {
	p := newFigure()
	var ticks plot.ConstantTicks
	for i, name := range s.policies {
		row := float64(len(s.policies) - 1 - i) // the first on top
		ticks = append(ticks, plot.Tick{Value: row, Label: shorten(name, 18)})
		at := s.at(0, i)
		if at == nil {
			continue
		}
		x := at.of(figure).mean
		if !(x > 0) {
			continue
		}
		dot, err := plotter.NewScatter(plotter.XYs{{X: x, Y: row}})
		if err != nil {
			return "", err
		}
		dot.GlyphStyle = glyph(colorOf(i), !at.steady())
		p.Add(dot)
	}
	p.Y.Tick.Marker = ticks
	p.Y.Min, p.Y.Max = -0.5, float64(len(s.policies))-0.5
	p.X.Min, p.X.Max = p.X.Min/1.1, p.X.Max*1.1 // off the edges
	logTime(&p.X)
	return svg(p, alt, float64(70+18*len(s.policies)))
}

// overTime draws the sequences on each replica over the time of a run. Two figures
// with the same most can be compared.
func overTime(r *simulation.Report, most float64, alt string) (template.HTML, error) {
	p := newFigure()
	p.X.Label.Text = "time, s"
	p.Y.Label.Text = "sequences"
	lines := make([]series, len(r.Replicas))
	for _, sample := range r.Timeline {
		for i := range sample.Running {
			lines[i].color = colorOf(i)
			lines[i].points = append(lines[i].points, plotter.XY{X: sample.At, Y: float64(sample.Running[i] + sample.Waiting[i])})
		}
	}
	if err := draws(p, lines, 1); err != nil {
		return "", err
	}
	p.Y.Min, p.Y.Max = 0, max(most, 1)
	return svg(p, alt, figureHeight)
}

// x is where the level is on the axis.
func (l level) x() float64 {
	if l.load > 0 {
		return 100 * l.load
	}
	return l.rate
}

func levelTicks(levels []level) plot.Ticker {
	var ticks plot.ConstantTicks
	for _, l := range levels {
		ticks = append(ticks, plot.Tick{Value: l.x(), Label: fmt.Sprintf("%.4g", l.x())})
	}
	return ticks
}

// logTime makes an axis of seconds logarithmic.
func logTime(a *plot.Axis) {
	if math.IsInf(a.Min, 0) || a.Min <= 0 {
		a.Min, a.Max = 0.01, 1 // nothing to draw
	}
	if a.Max < 2*a.Min { // less than a step of the ticks: some room
		a.Min, a.Max = a.Min/1.5, a.Max*1.5
	}
	a.Scale = plot.LogScale{}
	a.Tick.Marker = timeTicks{}
}

// timeTicks puts ticks at 1, 2 and 5 of each decade of seconds, at 1 alone if there
// are many decades, and at more if there is less than one.
type timeTicks struct{}

// Ticks implements plot.Ticker.
func (timeTicks) Ticks(from, to float64) []plot.Tick {
	var ticks []plot.Tick
	steps := []float64{1, 2, 5}
	switch {
	case to/from > 2e3:
		steps = []float64{1}
	case to/from < 8:
		steps = []float64{1, 1.5, 2, 3, 5, 7}
	}
	for e := math.Floor(math.Log10(from)); e <= math.Log10(to); e++ {
		for _, s := range steps {
			v := s * math.Pow(10, e)
			if v >= from*0.999 && v <= to*1.001 {
				ticks = append(ticks, plot.Tick{Value: v, Label: timeLabel(v)})
			}
		}
	}
	return ticks
}

// timeLabel is a round number of seconds in words.
func timeLabel(s float64) string {
	if s < 0.9995 {
		return strconv.FormatFloat(1000*s, 'g', 3, 64) + " ms"
	}
	return strconv.FormatFloat(s, 'f', -1, 64) + " s"
}

// svg returns the plot as an element of a page: as wide as its place, with the
// page's font and text color, and a text for those who cannot see it.
func svg(p *plot.Plot, alt string, height float64) (template.HTML, error) {
	c := vgsvg.NewWith(vgsvg.UseWH(figureWidth, vg.Length(height)))
	p.Draw(draw.Crop(draw.New(c), 2, -8, 2, -8))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return "", err
	}
	_, body, ok := strings.Cut(b.String(), "xmlns:xlink=\"http://www.w3.org/1999/xlink\">")
	if !ok {
		return "", fmt.Errorf("simulator: the plotting library writes SVG in another way than it did")
	}
	head := fmt.Sprintf(`<svg class="figure" viewBox="0 0 %d %g" role="img" aria-label="%s">`,
		figureWidth, height, template.HTMLEscapeString(alt))
	return template.HTML(head + body), nil
}

// shorten cuts a name that is too long, in its middle: names of profiles begin with
// a path.
func shorten(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most/3]) + "…" + string(r[len(r)-(most-most/3-1):])
}
