package report

import (
	"bytes"
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"labgate/lab"
	"labgate/messages"
	"labgate/planner"
)

// The size of every plot: 8 by 5 inches at 150 dots an inch.
const (
	plotWidth  = 8 * vg.Inch
	plotHeight = 5 * vg.Inch
	plotDPI    = 150
)

// maxSpan bounds what is drawn: beyond it the arithmetic of an axis overflows.
const maxSpan = 1e100

// Colours that stay apart for the colour-blind (Okabe and Ito).
var (
	blue   = color.RGBA{0, 114, 178, 255}
	orange = color.RGBA{213, 94, 0, 255}
	green  = color.RGBA{0, 130, 95, 255}
	grey   = color.RGBA{110, 110, 110, 255}
	faint  = color.RGBA{228, 228, 228, 255}
)

// newPlot is an empty plot in the house's style.
func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	sans := func(f *font.Font, size vg.Length) { f.Variant, f.Size = "Sans", size }
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	sans(&p.Title.TextStyle.Font, 14)
	p.Title.Padding = 8
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Tick.Marker = niceTicks{}
		sans(&a.Label.TextStyle.Font, 12)
		sans(&a.Tick.Label.Font, 11)
		a.Label.Padding = 5
		a.Padding = 8
	}
	sans(&p.Legend.TextStyle.Font, 11)
	p.Legend.Top, p.Legend.Padding, p.Legend.XOffs = true, 3, -4
	p.BackgroundColor = color.White
	return p
}

// niceTicks label multiples of 1, 2 or 5 times a power of ten, four to ten of
// them.
type niceTicks struct{}

// Ticks makes the ticks of an axis.
func (niceTicks) Ticks(lo, hi float64) []plot.Tick {
	span := hi - lo
	if !(span > 0) || math.IsInf(span, 0) {
		return []plot.Tick{{Value: lo, Label: strconv.FormatFloat(lo, 'g', 4, 64)}}
	}
	power := math.Floor(math.Log10(span / 4))
	step := math.Pow(10, power)
	for _, m := range []float64{5, 2} {
		if span/(m*step) >= 4 {
			step *= m
			break
		}
	}
	format, digits := byte('f'), int(max(0, -math.Floor(math.Log10(step)+1e-9)))
	if digits > 6 || math.Abs(hi) >= 1e7 || math.Abs(lo) >= 1e7 {
		format, digits = 'g', 6
	}
	var out []plot.Tick
	for i := math.Ceil(lo/step) + 0; i*step <= hi && len(out) < 20; i++ { // the sum makes -0 a 0
		out = append(out, plot.Tick{Value: i * step, Label: strconv.FormatFloat(i*step, format, digits, 64)})
	}
	return out
}

// ring is a white disc with a strong rim; mark is a strong cross.
type (
	ring struct{}
	mark struct{}
)

func (ring) DrawGlyph(c *draw.Canvas, s draw.GlyphStyle, at vg.Point) {
	var path vg.Path
	path.Move(vg.Point{X: at.X + s.Radius, Y: at.Y})
	path.Arc(at, s.Radius, 0, 2*math.Pi)
	path.Close()
	c.SetColor(color.White)
	c.Fill(path)
	c.SetLineStyle(draw.LineStyle{Color: s.Color, Width: vg.Points(1.6)})
	c.Stroke(path)
}

func (mark) DrawGlyph(c *draw.Canvas, s draw.GlyphStyle, at vg.Point) {
	c.SetLineStyle(draw.LineStyle{Color: s.Color, Width: vg.Points(2.2)})
	for _, up := range []vg.Length{1, -1} {
		var path vg.Path
		path.Move(vg.Point{X: at.X - s.Radius, Y: at.Y - up*s.Radius})
		path.Line(vg.Point{X: at.X + s.Radius, Y: at.Y + up*s.Radius})
		c.Stroke(path)
	}
}

// backing keeps the grid's lines out of the legend.
type backing struct{}

func (backing) Plot(c draw.Canvas, p *plot.Plot) {
	size := p.Legend.Rectangle(c).Size()
	// The legend stands in the upper right corner, wherever Rectangle says.
	corner := vg.Rectangle{Min: vg.Point{X: c.Max.X - size.X + p.Legend.XOffs, Y: c.Max.Y - size.Y}, Max: c.Max}
	c.SetColor(color.White)
	c.Fill(corner.Path())
}

func grilles() *plotter.Grid {
	g := plotter.NewGrid()
	g.Horizontal.Color, g.Horizontal.Width = faint, vg.Points(0.8)
	g.Vertical.Color, g.Vertical.Width = faint, vg.Points(0.8)
	return g
}

// encode renders a plot as PNG.
func encode(p *plot.Plot) ([]byte, error) {
	c := vgimg.NewWith(vgimg.UseWH(plotWidth, plotHeight), vgimg.UseDPI(plotDPI), vgimg.UseBackgroundColor(color.White))
	p.Draw(draw.Crop(draw.New(c), 10, -14, 8, -10))
	var b bytes.Buffer
	if _, err := (vgimg.PngCanvas{Canvas: c}).WriteTo(&b); err != nil {
		return nil, lab.E("report: plot", "", lab.KindInternal, err)
	}
	return b.Bytes(), nil
}

// save puts a file in place whole, or not at all; one that is there is
// replaced.
func save(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return lab.E("report: write", "", lab.KindUnavailable, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return lab.E("report: write", "", lab.KindUnavailable, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// Plot writes a PNG of 1200 by 750 pixels to path: for each experiment the
// predicted peak with its standard deviation and the measured one, and the
// target. An experiment without a measurement shows a cross where its
// prediction was.
func Plot(path string, exps []planner.Experiment, target float64) error {
	data, err := campaignPNG(exps, target)
	if err != nil {
		return err
	}
	return save(path, data)
}

// errorPoints are points with a standard deviation each.
type errorPoints struct {
	plotter.XYs
	plotter.YErrors
}

func campaignPNG(exps []planner.Experiment, target float64) ([]byte, error) {
	var predicted errorPoints
	var measured, other, missing plotter.XYs
	lo, hi := target, target
	for _, e := range exps {
		p, hasP := prediction(e)
		m, hasM := e.Peak()
		const aside = 0.07 // so that a good prediction is not hidden by its measurement
		x := float64(e.N) + aside
		if hasP {
			predicted.XYs = append(predicted.XYs, plotter.XY{X: x - 2*aside, Y: p.Value})
			predicted.YErrors = append(predicted.YErrors, struct{ Low, High float64 }{p.SD, p.SD})
			lo, hi = min(lo, p.Value-p.SD), max(hi, p.Value+p.SD)
		}
		switch {
		case hasM && e.Exit == messages.ExitSuccess:
			measured = append(measured, plotter.XY{X: x, Y: m})
		case hasM:
			other = append(other, plotter.XY{X: x, Y: m})
		case hasP:
			missing = append(missing, plotter.XY{X: x, Y: p.Value})
		default:
			missing = append(missing, plotter.XY{X: x, Y: target})
		}
		if hasM {
			lo, hi = min(lo, m), max(hi, m)
		}
	}
	p := newPlot("Plasmon peak: predicted before each experiment, and measured", "experiment", "plasmon peak [nm]")
	if math.IsInf(hi-lo, 0) || hi-lo > maxSpan {
		return nil, lab.Ef("report: plot", "", lab.KindInvalid, fmt.Sprintf("peaks from %g to %g nm share no axis", lo, hi))
	}
	frame(p, exps, lo, hi)
	if err := fillCampaign(p, predicted, measured, other, missing, target); err != nil {
		return nil, lab.E("report: plot", "", lab.KindInvalid, err)
	}
	return encode(p)
}

// frame sets the axes: whole experiments below, and room above for the legend.
func frame(p *plot.Plot, exps []planner.Experiment, lo, hi float64) {
	first, last := 1, 1
	for _, e := range exps {
		first, last = min(first, e.N), max(last, e.N)
	}
	p.X.Min, p.X.Max = float64(first)-0.5, float64(last)+0.5
	p.X.Tick.Marker = wholeTicks(first, last)
	span := max(hi-lo, 2)
	p.Y.Min, p.Y.Max = lo-0.06*span, hi+0.30*span
}

// wholeTicks labels whole numbers only, at most about twelve.
func wholeTicks(first, last int) plot.ConstantTicks {
	step := 1
	for _, s := range []int{1, 2, 5, 10, 20, 50, 100, 200, 500} {
		step = s
		if (last-first)/s < 12 {
			break
		}
	}
	var t plot.ConstantTicks
	for n := first; n <= last; n++ {
		if n == first || n%step == 0 {
			t = append(t, plot.Tick{Value: float64(n), Label: strconv.Itoa(n)})
		}
	}
	return t
}

func fillCampaign(p *plot.Plot, predicted errorPoints, measured, other, missing plotter.XYs, target float64) error {
	p.Add(grilles(), backing{})
	aim, err := plotter.NewLine(plotter.XYs{{X: p.X.Min, Y: target}, {X: p.X.Max, Y: target}})
	if err != nil {
		return err
	}
	aim.Color, aim.Width, aim.Dashes = green, vg.Points(1.6), []vg.Length{vg.Points(7), vg.Points(4)}
	p.Add(aim)
	p.Legend.Add(fmt.Sprintf("target, %s nm", number(target)), aim)
	if len(predicted.XYs) > 0 {
		bars, err := plotter.NewYErrorBars(predicted)
		if err != nil {
			return err
		}
		bars.Color, bars.Width, bars.CapWidth = grey, vg.Points(1.4), vg.Points(9)
		p.Add(bars)
		if err := scatter(p, "predicted, ± 1 standard deviation", predicted.XYs, ring{}, grey, 4.5); err != nil {
			return err
		}
	}
	if err := scatter(p, "measured", measured, draw.CircleGlyph{}, blue, 5); err != nil {
		return err
	}
	if err := scatter(p, "measured, but the run did not succeed", other, draw.PyramidGlyph{}, orange, 5.5); err != nil {
		return err
	}
	return scatter(p, "no measurement", missing, mark{}, orange, 5)
}

func scatter(p *plot.Plot, name string, xys plotter.XYs, shape draw.GlyphDrawer, c color.Color, radius vg.Length) error {
	if len(xys) == 0 {
		return nil
	}
	s, err := plotter.NewScatter(xys)
	if err != nil {
		return err
	}
	s.GlyphStyle = draw.GlyphStyle{Color: c, Radius: radius, Shape: shape}
	p.Add(s)
	p.Legend.Add(name, s)
	return nil
}

// PlotSpectrum writes a PNG of 1200 by 750 pixels to path: the table's second
// column over its first. Where peak is set and has the first column's
// dimension, it is marked.
func PlotSpectrum(path, title string, t *lab.TableData, peak *lab.Quantity) error {
	data, err := spectrumPNG(title, t, peak)
	if err != nil {
		return err
	}
	return save(path, data)
}

func spectrumPNG(title string, t *lab.TableData, peak *lab.Quantity) ([]byte, error) {
	if err := checkTable(t); err != nil || len(t.Columns) < 2 || len(t.Data[0]) < 2 {
		return nil, lab.E("report: plot", "", lab.KindInvalid, errors.Join(errors.New("a spectrum is a table of two columns and at least two rows"), err))
	}
	xys := make(plotter.XYs, len(t.Data[0]))
	for i := range xys {
		xys[i] = plotter.XY{X: t.Data[0][i], Y: t.Data[1][i]}
	}
	p := newPlot(plain(title), axis(t.Columns[0]), axis(t.Columns[1]))
	p.Add(grilles(), backing{})
	line, err := plotter.NewLine(xys)
	if err != nil {
		return nil, lab.E("report: plot", "", lab.KindInvalid, err)
	}
	line.Color, line.Width = blue, vg.Points(1.8)
	p.Add(line)
	left, right, lo, hi := plotter.XYRange(xys)
	if max(math.Abs(left), math.Abs(right), math.Abs(lo), math.Abs(hi)) > maxSpan {
		return nil, lab.Ef("report: plot", "", lab.KindInvalid, "the numbers are too large to be drawn")
	}
	span := max(hi-lo, 1e-9)
	p.Y.Min, p.Y.Max = lo-0.05*span, hi+0.15*span
	if peak != nil {
		if q, err := peak.In(t.Columns[0].Unit); err == nil && q.Finite() {
			if err := markPeak(p, q); err != nil {
				return nil, lab.E("report: plot", "", lab.KindInvalid, err)
			}
		}
	}
	return encode(p)
}

// markPeak draws an upright line at the peak and writes where it is.
func markPeak(p *plot.Plot, q lab.Quantity) error {
	if q.Value < p.X.Min || q.Value > p.X.Max {
		return nil // beyond the axis; the number stands in the CSV
	}
	up, err := plotter.NewLine(plotter.XYs{{X: q.Value, Y: p.Y.Min}, {X: q.Value, Y: p.Y.Max}})
	if err != nil {
		return err
	}
	up.Color, up.Width, up.Dashes = orange, vg.Points(1.4), []vg.Length{vg.Points(6), vg.Points(4)}
	p.Add(up)
	p.Legend.Add(fmt.Sprintf("peak, %.1f %s", q.Value, q.Unit), up)
	return nil
}

func axis(c lab.Column) string { return fmt.Sprintf("%s [%s]", plain(c.Name), c.Unit) }

// checkTable refuses what can't be drawn or written: ragged columns and
// numbers that are not finite.
func checkTable(t *lab.TableData) error {
	if t == nil || len(t.Columns) == 0 || len(t.Data) != len(t.Columns) {
		return errors.New("a table without columns")
	}
	for i, c := range t.Data {
		if len(c) != len(t.Data[0]) {
			return fmt.Errorf("columns of %d and %d rows", len(t.Data[0]), len(c))
		}
		for _, v := range c {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("column %d holds a number that is not finite", i+1)
			}
		}
	}
	return nil
}
