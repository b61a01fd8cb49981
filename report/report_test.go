package report

import (
	"bytes"
	"flag"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"labgate/lab"
	"labgate/messages"
	"labgate/planner"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}

func experiment(n int, ratio, temp, predicted, sd, measured, seconds float64, exit, say string) planner.Experiment {
	e := planner.Experiment{N: n, Run: "01K" + strings.Repeat("0", 5) + string(rune('0'+n)), Tries: 1, Seconds: seconds, Exit: exit, Say: say,
		Inputs:    map[string]lab.Quantity{"ratio": lab.Q(ratio, "1"), "temperature": lab.Q(temp, "degC"), "volume": lab.Q(0.15, "mL")},
		Predicted: map[string]messages.Prediction{"peak": {Value: predicted, SD: sd, Unit: "nm"}}}
	if measured > 0 {
		e.Measured = map[string]lab.Value{"peak": lab.NumberValue(lab.Q(measured, "nm"))}
	}
	return e
}

func campaign() []planner.Experiment {
	list := []planner.Experiment{
		experiment(1, 0.48, 61.5, 530, 12.8, 536.2, 8.31, messages.ExitSuccess, ""),
		experiment(2, 1.72, 77, 534.1, 8.2, 521.4, 7.9, messages.ExitSuccess, ""),
		experiment(3, 0.8, 86, 529.5, 6.1, 530.9, 9.02, messages.ExitSuccess, ""),
		experiment(4, 1.04, 80.5, 527.2, 2.4, 525, 3.1, messages.ExitAbort, "feed-needs-stirring refused the dose\x1b[2J"),
		experiment(5, 1.06, 79, 527.1, 2.3, 0, 0, planner.ExitRejected, "rejected: 1 issue"),
		experiment(6, 1.08, 78, 527, 2.2, 526.8, 8.4, messages.ExitSuccess, ""),
		experiment(7, 1.06, 78, 527, 0.8, 527.3, 8.2, messages.ExitSuccess, ""),
	}
	list[4].Issues = lab.Issues{{Code: "expired", Path: "not_after", Say: "the proposal has expired"}}
	list[6].Tries, list[6].Issues = 2, lab.Issues{{Code: "out_of_bounds", Say: "temperature is 95 degC; at most 92 degC is allowed"}}
	return list
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	odd := campaign()[:2]
	odd[0].Inputs = map[string]lab.Quantity{"volume": lab.Q(150, "uL"), "temperature": lab.Q(3, "mL")}
	odd[1].Predicted, odd[1].Exit = nil, messages.ExitFail
	for _, c := range [][]planner.Experiment{campaign(), odd, campaign()[4:5], nil} {
		if err := Table(&b, c, 527); err != nil {
			t.Fatal(err)
		}
		b.WriteString("----\n")
	}
	golden(t, "table.txt", b.Bytes())
	if strings.ContainsRune(b.String(), '\x1b') {
		t.Error("an escape sequence got through")
	}
}

func TestPlainNeverControlsATerminal(t *testing.T) {
	for _, s := range []string{"\x1b]0;title\a", "a\rb", "\u202eright to left", "bell\a", "c1 \u009b31m", "bad \xff utf8", strings.Repeat("long", 1000)} {
		got := plain(s)
		if strings.ContainsAny(got, "\x1b\r\n\a\u009b\u202e") || len([]rune(got)) > maxText+1 {
			t.Errorf("%q became %q", s, got)
		}
	}
	if got := plain("peak 523.1 nm ± 3 µm — fine"); got != "peak 523.1 nm ± 3 µm — fine" {
		t.Errorf("%q", got)
	}
}

func readPNG(t *testing.T, data []byte) image.Image {
	t.Helper()
	m, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if m.Bounds().Dx() != 1200 || m.Bounds().Dy() != 750 {
		t.Fatalf("the picture is %v", m.Bounds())
	}
	return m
}

// has reports whether a colour covers more than a few pixels of a picture.
func has(m image.Image, r, g, b uint8) bool {
	n := 0
	for y := range m.Bounds().Dy() {
		for x := range m.Bounds().Dx() {
			cr, cg, cb, _ := m.At(x, y).RGBA()
			if uint8(cr>>8) == r && uint8(cg>>8) == g && uint8(cb>>8) == b {
				n++
			}
		}
	}
	return n > 20
}

func TestPlot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "demo.png")
	for range 2 { // an older picture is replaced
		if err := Plot(path, campaign(), 527); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := readPNG(t, data)
	if !has(m, blue.R, blue.G, blue.B) || !has(m, orange.R, orange.G, orange.B) || !has(m, green.R, green.G, green.B) || !has(m, grey.R, grey.G, grey.B) {
		t.Error("predictions, measurements, failures or the target are not drawn")
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if dir := os.Getenv("LABGATE_PLOTS"); dir != "" { // to look at them
		for name, data := range map[string][]byte{"campaign.png": data} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestPlotOfAlmostNothing(t *testing.T) {
	bad := campaign()[0]
	bad.Predicted["peak"] = messages.Prediction{Value: math.NaN(), Unit: "nm"}
	long := []planner.Experiment{}
	for n := range 200 {
		e := campaign()[n%7]
		e.N = n + 1
		long = append(long, e)
	}
	for name, exps := range map[string][]planner.Experiment{"none": nil, "one": campaign()[:1], "refused": campaign()[4:5], "NaN": {bad}, "many": long} {
		data, err := campaignPNG(exps, 527)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		readPNG(t, data)
	}
}

func spectrum(n int, peak float64) *lab.TableData {
	t := &lab.TableData{Columns: []lab.Column{{Name: "wavelength", Unit: nm}, {Name: "absorbance", Unit: lab.One}}, Data: make([][]float64, 2)}
	for i := range n {
		x := 400 + 300*float64(i)/float64(max(1, n-1))
		t.Data[0] = append(t.Data[0], x)
		t.Data[1] = append(t.Data[1], 0.12*math.Exp(-(x-400)/60)+0.62*math.Exp(-math.Pow((x-peak)/38, 2)))
	}
	return t
}

func TestPlotSpectrum(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spectrum.png")
	peak := lab.Q(0.5271, "um")
	if err := PlotSpectrum(path, "spectrum of run 01K0", spectrum(256, 527.1), &peak); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if m := readPNG(t, data); !has(m, blue.R, blue.G, blue.B) || !has(m, orange.R, orange.G, orange.B) {
		t.Error("no line, or no peak")
	}
	if dir := os.Getenv("LABGATE_PLOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "spectrum.png"), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ragged, nan := spectrum(4, 527), spectrum(4, 527)
	ragged.Data[1] = ragged.Data[1][:3]
	nan.Data[1][2] = math.NaN()
	for name, c := range map[string]*lab.TableData{"none": nil, "empty": {}, "one row": spectrum(1, 527), "ragged": ragged, "NaN": nan} {
		if _, err := spectrumPNG("x", c, nil); lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNiceTicks(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		want   string
	}{
		{400, 800, "400 500 600 700 800"}, {515.6, 550.4, "520 525 530 535 540 545 550"}, {-0.03, 0.59, "0.0 0.1 0.2 0.3 0.4 0.5"},
		{526.4, 527.9, "526.4 526.6 526.8 527.0 527.2 527.4 527.6 527.8"}, {0, 1e-9, "0 2e-10 4e-10 6e-10 8e-10 1e-09"}, {3, 3, "3"}, {4, 3, "4"}, {math.NaN(), 1, "NaN"},
	} {
		var labels []string
		for _, k := range (niceTicks{}).Ticks(c.lo, c.hi) {
			labels = append(labels, k.Label)
		}
		if got := strings.Join(labels, " "); got != c.want {
			t.Errorf("%v to %v: %q, want %q", c.lo, c.hi, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		lo := rapid.Float64Range(-1e6, 1e6).Draw(t, "lo")
		hi := lo + math.Pow(10, rapid.Float64Range(-3, 6).Draw(t, "span"))
		ticks := niceTicks{}.Ticks(lo, hi)
		if len(ticks) < 3 || len(ticks) > 12 {
			t.Fatalf("%d ticks from %v to %v", len(ticks), lo, hi)
		}
		for _, k := range ticks {
			if k.Value < lo || k.Value > hi {
				t.Fatalf("%v is outside %v to %v", k.Value, lo, hi)
			}
		}
	})
}

func TestWhatIsTooLargeIsNotDrawn(t *testing.T) {
	far := campaign()[:2]
	far[0].Measured["peak"] = lab.NumberValue(lab.Q(1e308, "nm"))
	if _, err := campaignPNG(far, 527); lab.KindOf(err) != lab.KindInvalid {
		t.Error(err)
	}
	s := spectrum(4, 527)
	s.Data[1][0], s.Data[1][1] = 1e308, -1e308
	if _, err := spectrumPNG("x", s, nil); lab.KindOf(err) != lab.KindInvalid {
		t.Error(err)
	}
}
