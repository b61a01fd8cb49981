package sim

import (
	"math"
	"time"

	"labgate/lab"
)

// Points of a spectrum, and its ends in nm.
const (
	SpectrumPoints   = 256
	spectrumFrom     = 400.0
	spectrumTo       = 800.0
	integrationTime  = 100 * time.Millisecond
	absorbancePerMM  = 1.25   // at the plasmon peak, for 1 mmol/L and a 5 mm cell
	interbandPerMM   = 0.75   // at 400 nm
	absorbanceNoise  = 0.0015 // each point
	calibrationNoise = 0.10   // nm, of the whole axis, each time
	leastPeak        = 0.03   // absorbance above what surrounds it
)

// Spectrum is one absorbance spectrum, wavelengths and peak in nm.
type Spectrum struct {
	Peak       float64
	Wavelength []float64
	Absorbance []float64
}

// Spectrometer looks through the reactor's window.
type Spectrometer struct {
	w     *World
	noise stream
	until time.Time // busy
}

func newSpectrometer(w *World) *Spectrometer {
	return &Spectrometer{w: w, noise: stream{key: source(w.seed, "spectrometer")}}
}

// Ready reports whether a spectrum can be taken now.
func (s *Spectrometer) Ready() bool { return s.w.flag(s, "spectrometer", "optics", "ready") }

// Take exposes once. The light is counted even where the result holds no peak:
// then the error's cause is ErrNoPeak.
func (s *Spectrometer) Take() (Spectrum, error) {
	dead, err := s.w.gate("spectrum", "spectrometer", "optics")
	if err != nil {
		return Spectrum{}, err
	}
	if s.w.now.Before(s.until) {
		return Spectrum{}, refused("spectrum", "spectrometer", ErrBusy, "")
	}
	s.until = s.w.now.Add(integrationTime)
	var m mixture
	if !dead {
		s.w.counts["spectrometer"].Exposures++
		if s.w.reactor.contents > 0.01 {
			m = s.w.reactor.mixture
		}
	}
	sp := s.expose(&m)
	peak, ok := findPeak(sp.Wavelength, sp.Absorbance)
	if !ok {
		return Spectrum{}, refused("spectrum", "spectrometer", ErrNoPeak, "")
	}
	sp.Peak = peak
	return sp, nil
}

// plasmon is where particles of a diameter absorb most, in nm. Haiss, Thanh,
// Aveyard and Fernig, Anal. Chem. 79 (2007) 4215, lowered by 3 nm so that the
// smallest ones of this vessel come near 515 nm.
func plasmon(diameter float64) float64 { return 509 + 6.53*math.Exp(0.0216*diameter) }

// expose is a Lorentz band at the plasmon, wider for larger and uneven
// particles, over gold's interband absorption.
func (s *Spectrometer) expose(m *mixture) Spectrum {
	sp := Spectrum{Wavelength: make([]float64, SpectrumPoints), Absorbance: make([]float64, SpectrumPoints)}
	d := m.diameter()
	centre := plasmon(math.Min(d, 120))
	half := 32 + 0.22*math.Min(d, 120) + 20*m.spread()
	band, inter := absorbancePerMM*m.metal()*32/half, interbandPerMM*m.metal()
	shift := calibrationNoise * s.noise.normal()
	for i := range SpectrumPoints {
		l := spectrumFrom + (spectrumTo-spectrumFrom)*float64(i)/(SpectrumPoints-1)
		x := (l + shift - centre) / half
		sp.Wavelength[i] = l
		sp.Absorbance[i] = band/(1+x*x) + inter/(1+math.Exp((l-470)/18)) + absorbanceNoise*s.noise.normal()
	}
	return sp
}

// findPeak is the firmware's: smooth over nine points, take the highest
// between 480 and 680 nm, and put a parabola through 17 points around it. It
// finds none where that does not stand out from the red end.
func findPeak(wavelength, absorbance []float64) (float64, bool) {
	const arm, smooth = 8, 4
	best, at := math.Inf(-1), -1
	for i := arm; i < len(absorbance)-arm; i++ {
		if wavelength[i] < 480 || wavelength[i] > 680 {
			continue
		}
		var sum float64
		for j := i - smooth; j <= i+smooth; j++ {
			sum += absorbance[j]
		}
		if mean := sum / (2*smooth + 1); mean > best {
			best, at = mean, i
		}
	}
	var red float64
	for _, a := range absorbance[len(absorbance)-32:] {
		red += a / 32
	}
	if at < 0 || best-red < leastPeak {
		return 0, false
	}
	// Least squares of a + b·x + c·x² on x = −arm … arm.
	var sy, sxy, sxxy, s2, s4 float64
	for x := -arm; x <= arm; x++ {
		f, y := float64(x), absorbance[at+x]
		sy, sxy, sxxy = sy+y, sxy+f*y, sxxy+f*f*y
		s2, s4 = s2+f*f, s4+f*f*f*f
	}
	n := float64(2*arm + 1)
	b, c := sxy/s2, (n*sxxy-s2*sy)/(n*s4-s2*s2)
	if c >= 0 || math.Abs(b/(2*c)) > arm {
		return 0, false
	}
	return wavelength[at] - b/(2*c)*(wavelength[1]-wavelength[0]), true
}

func (s *Spectrometer) reboot() { s.until = time.Time{} }

func (s *Spectrometer) sensors() [][2]string { return [][2]string{{"optics", "ready"}} }

func (s *Spectrometer) raw(component, property string) lab.Value {
	if component == "optics" && property == "ready" {
		return lab.BoolValue(!s.w.now.Before(s.until))
	}
	return lab.Value{}
}

func (s *Spectrometer) commands() []command { return []command{{"optics", "spectrum", nil}} }

func (s *Spectrometer) duration(string, string, map[string]float64) time.Duration {
	return integrationTime
}

func (s *Spectrometer) do(string, string, map[string]float64) (map[string]lab.Value, error) {
	sp, err := s.Take()
	if err != nil {
		return nil, err
	}
	return map[string]lab.Value{
		"peak": number(sp.Peak, unitNM),
		"spectrum": lab.TableValue(&lab.TableData{
			Columns: []lab.Column{{Name: "wavelength", Unit: unitNM}, {Name: "absorbance", Unit: lab.One}},
			Data:    [][]float64{sp.Wavelength, sp.Absorbance},
		}),
	}, nil
}
