package sim

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"math"
	"strconv"
	"time"

	"labgate/lab"
)

// The microscope camera. Defocus blurs a point to
//
//	σ² = σ0² + (NA·Δz/n)²
//
// and each pixel is Poisson(QE·t·flux + dark) + read noise, clipped to 8 bits.
const (
	FramePixels  = 256
	pixelSize    = 0.5     // µm
	aperture     = 0.10    // NA
	medium       = 1.0     // n
	bestBlur     = 0.6     // µm, σ0
	bestFocus    = 1.2003  // mm, of the stage's z
	focusDrift   = 0.0002  // mm, slow and both ways
	mostTilt     = 0.004   // mm a mm: how far the slide may lean in x and in y, by the seed
	fluxPerMS    = 600.0   // electrons a ms from the bright background
	fullWell     = 30000.0 // electrons, 255
	darkPerMS    = 0.2     // electrons
	readNoise    = 20.0    // electrons
	spotCell     = 12.0    // µm: one candidate place for a particle in each such square
	mostBlur     = 60.0    // pixels; beyond it the field is even
	leastExposed = 0.01    // ms
	mostExposed  = 10000.0 // ms
)

// Frame is one picture: an 8-bit grey PNG of FramePixels square.
type Frame struct {
	PNG       []byte
	Sharpness float64 // mean squared Laplacian over squared mean, times 1000
	PixelUM   float64 // µm a pixel, on the sample
	Particles int     // in the field, sharp or not
}

// Camera looks at a droplet of what is in the reactor, on the stage.
type Camera struct {
	w     *World
	noise stream
	field uint64 // where the particles of a droplet lie
	lean  [2]float64
	until time.Time
}

func newCamera(w *World) *Camera {
	k := source(w.seed, "camera.field")
	lean := [2]float64{mostTilt * (2*unit(mix(k+1)) - 1), mostTilt * (2*unit(mix(k+2)) - 1)}
	return &Camera{w: w, noise: stream{key: source(w.seed, "camera")}, field: k, lean: lean}
}

// Exposing reports whether a picture is being taken.
func (c *Camera) Exposing() bool { return c.w.flag(c, "camera", "camera", "exposing") }

// Capture exposes once, for a time in ms. The frame shows the instant at which
// the exposure began.
func (c *Camera) Capture(exposure float64) (Frame, error) {
	dead, err := c.w.gate("capture", "camera", "camera")
	if err != nil {
		return Frame{}, err
	}
	if !(exposure >= leastExposed && exposure <= mostExposed) {
		return Frame{}, refused("capture", "camera", ErrOutOfRange, fmt.Sprintf("%v ms; %v to %v", exposure, leastExposed, mostExposed))
	}
	if c.w.now.Before(c.until) {
		return Frame{}, refused("capture", "camera", ErrBusy, "")
	}
	c.until = c.w.now.Add(exposureTime(exposure))
	light := fluxPerMS
	if dead {
		light = 0 // the shutter stays shut
	} else {
		c.w.counts["camera"].Exposures++
	}
	object, particles := c.object()
	img := c.expose(object, light, exposure)
	var buf bytes.Buffer
	enc := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := enc.Encode(&buf, img); err != nil {
		return Frame{}, lab.E("sim: capture", "camera", lab.KindInternal, err)
	}
	return Frame{PNG: buf.Bytes(), Sharpness: sharpness(img), PixelUM: pixelSize, Particles: particles}, nil
}

// BestFocus is the stage's z, in mm, at which the slide is sharp at x and y.
func (c *Camera) BestFocus(x, y float64) float64 { return bestFocus + c.lean[0]*x + c.lean[1]*y }

func exposureTime(ms float64) time.Duration {
	return time.Duration(ms*float64(time.Millisecond)) + 50*time.Millisecond // and the readout
}

// object is the fraction of light that each point lets through, blurred by the
// distance from focus. Its particles lie still on the glass: the stage's x and
// y choose which of them are seen.
func (c *Camera) object() ([]float64, int) {
	x, y, z := c.w.stage.where()
	d, share := 0.0, 0.10 // dust
	if m := &c.w.reactor.mixture; c.w.reactor.contents > 0.01 && m.metal() > 0.005 {
		d = m.diameter()
		share += math.Min(0.6, 0.1*math.Log10(math.Max(1, m.mu[0]/1e8)))
	}
	object := make([]float64, FramePixels*FramePixels)
	for i := range object {
		object[i] = 1
	}
	left, top := x*1000-FramePixels*pixelSize/2, y*1000-FramePixels*pixelSize/2
	particles := 0
	for i := math.Floor(left / spotCell); i*spotCell < left+FramePixels*pixelSize; i++ {
		for j := math.Floor(top / spotCell); j*spotCell < top+FramePixels*pixelSize; j++ {
			h := mix(c.field ^ mix(uint64(int64(i))+golden*uint64(int64(j))))
			if unit(h) > share {
				continue
			}
			px := (i+unit(mix(h+1)))*spotCell - left
			py := (j+unit(mix(h+2)))*spotCell - top
			depth := math.Min(0.9, (0.25+0.006*d)*(0.7+0.6*unit(mix(h+3))))
			if spot(object, px/pixelSize, py/pixelSize, depth) {
				particles++
			}
		}
	}
	away := (z - c.BestFocus(x, y) - focusDrift*math.Sin(float64(c.w.tick)*dt/300)) * 1000
	blur(object, math.Sqrt(bestBlur*bestBlur+math.Pow(aperture*away/medium, 2))/pixelSize)
	return object, particles
}

// spot darkens a disc of three pixels' radius.
func spot(object []float64, x, y, depth float64) bool {
	seen := false
	for j := int(y) - 4; j <= int(y)+4; j++ {
		for i := int(x) - 4; i <= int(x)+4; i++ {
			if i < 0 || j < 0 || i >= FramePixels || j >= FramePixels {
				continue
			}
			dx, dy := float64(i)-x, float64(j)-y
			if dx*dx+dy*dy <= 9 {
				object[j*FramePixels+i] *= 1 - depth
				seen = true
			}
		}
	}
	return seen
}

// blur is a Gaussian of σ pixels, as three box filters in each direction;
// beyond mostBlur everything becomes its mean.
func blur(img []float64, sigma float64) {
	if sigma > mostBlur {
		var sum float64
		for _, v := range img {
			sum += v
		}
		for i := range img {
			img[i] = sum / float64(len(img))
		}
		return
	}
	line, out := make([]float64, FramePixels), make([]float64, FramePixels)
	// Three boxes of width w have variance (w²−1)/4; a fractional width is a
	// box whose end pixels count in part.
	arm := (math.Sqrt(1+4*sigma*sigma) - 1) / 2
	for range 3 {
		boxLines(img, line, out, arm, FramePixels, 1)
		boxLines(img, line, out, arm, 1, FramePixels)
	}
}

// boxLines filters every line of the image in one direction, with a box that
// reaches arm pixels (and a part) either way, mirrored at the edges.
func boxLines(img, line, out []float64, arm float64, step, stride int) {
	whole := int(arm)
	part := arm - float64(whole)
	norm := 1 / (2*arm + 1)
	at := func(i int) float64 {
		if i < 0 {
			i = -i - 1
		}
		if i >= FramePixels {
			i = 2*FramePixels - 1 - i
		}
		return line[i]
	}
	for k := range FramePixels {
		for i := range FramePixels {
			line[i] = img[k*step+i*stride]
		}
		var sum float64
		for i := -whole; i <= whole; i++ {
			sum += at(i)
		}
		for i := range FramePixels {
			out[i] = (sum + part*(at(i-whole-1)+at(i+whole+1))) * norm
			sum += at(i+whole+1) - at(i-whole)
		}
		for i := range FramePixels {
			img[k*step+i*stride] = out[i]
		}
	}
}

// expose counts electrons. A Poisson number of mean λ is taken as a normal one
// of variance λ: at these counts they differ by less than a grey level.
func (c *Camera) expose(object []float64, light, ms float64) *image.Gray {
	img := image.NewGray(image.Rect(0, 0, FramePixels, FramePixels))
	for i, t := range object {
		mean := light*ms*t + darkPerMS*ms
		e := mean + math.Sqrt(mean+readNoise*readNoise)*c.noise.normal()
		img.Pix[i] = uint8(math.Max(0, math.Min(255, math.Round(e/fullWell*255))))
	}
	return img
}

// sharpness is the mean squared Laplacian of pixel pairs' sums, relative to
// the mean: high for crisp edges, near the noise for an even field.
func sharpness(img *image.Gray) float64 {
	const half = FramePixels / 2
	small := make([]float64, half*half)
	var mean float64
	for j := range half {
		for i := range half {
			p := 2*j*FramePixels + 2*i
			v := float64(img.Pix[p]) + float64(img.Pix[p+1]) + float64(img.Pix[p+FramePixels]) + float64(img.Pix[p+FramePixels+1])
			small[j*half+i] = v
			mean += v / (half * half)
		}
	}
	if mean < 4 {
		return 0
	}
	var sum float64
	for j := 1; j < half-1; j++ {
		for i := 1; i < half-1; i++ {
			k := j*half + i
			l := 4*small[k] - small[k-1] - small[k+1] - small[k-half] - small[k+half]
			sum += l * l
		}
	}
	return 1000 * sum / ((half - 2) * (half - 2)) / (mean * mean)
}

func (c *Camera) reboot() { c.until = time.Time{} }

func (c *Camera) sensors() [][2]string { return [][2]string{{"camera", "exposing"}} }

func (c *Camera) raw(component, property string) lab.Value {
	if component == "camera" && property == "exposing" {
		return lab.BoolValue(c.w.now.Before(c.until))
	}
	return lab.Value{}
}

func (c *Camera) commands() []command {
	return []command{{"camera", "capture", []param{{"exposure", unitMillis, lab.Number}}}}
}

func (c *Camera) duration(_, _ string, args map[string]float64) time.Duration {
	if e := args["exposure"]; e >= leastExposed && e <= mostExposed {
		return exposureTime(e)
	}
	return 0
}

func (c *Camera) do(_, _ string, args map[string]float64) (map[string]lab.Value, error) {
	f, err := c.Capture(args["exposure"])
	if err != nil {
		return nil, err
	}
	return map[string]lab.Value{
		"frame": lab.BlobValue(&lab.BlobRef{
			Hash: lab.HashText(f.PNG), Media: "image/png", Size: len(f.PNG), Bytes: f.PNG,
			Meta: map[string]string{"pixel_um": strconv.FormatFloat(f.PixelUM, 'f', -1, 64)},
		}),
		"sharpness": number(f.Sharpness, lab.One),
	}, nil
}
