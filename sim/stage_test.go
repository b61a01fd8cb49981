package sim

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"math"
	"testing"
	"time"

	"labgate/lab"

	"pgregory.net/rapid"
)

func moveTo(w *World, x, y, z float64) error {
	_, err := w.Do("stage", "xyz", "move", map[string]lab.Value{"x": quantity(x, "mm"), "y": quantity(y, "mm"), "z": quantity(z, "mm")})
	return err
}

func TestStageArrives(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := NewDemo(1, start)
		var moves int
		for range rapid.IntRange(1, 6).Draw(r, "moves") {
			to := map[Axis]int64{}
			for a := X; a <= Z; a++ {
				lo, hi := w.Stage().Range(a)
				if rapid.Bool().Draw(r, "with") {
					to[a] = rapid.Int64Range(lo, hi).Draw(r, "to")
				}
			}
			if err := w.Stage().Move(to); err != nil {
				r.Fatal(err)
			}
			if len(to) > 0 {
				moves++
			}
			before := w.Stage().axes
			for i := 0; w.Stage().Busy(); i++ {
				run(w, Tick)
				for k, a := range w.Stage().axes {
					if v := math.Abs(a.at-before[k].at) / dt; v > stageSpeed+0.4 {
						r.Fatalf("axis %d moves at %v mm/s", k, v)
					}
				}
				before = w.Stage().axes
				if i > 1000 {
					r.Fatalf("never arrives: %+v", w.Stage().axes)
				}
			}
			for a, steps := range to {
				if w.Stage().Position(a) != steps || w.Stage().Target(a) != steps {
					r.Fatalf("axis %d is at %d, sent to %d", a, w.Stage().Position(a), steps)
				}
			}
		}
		if w.Count("stage").Moves != moves {
			r.Fatalf("%+v, %d moves", w.Count("stage"), moves)
		}
	})
}

func TestStageTakesItsTime(t *testing.T) {
	w := NewDemo(1, start)
	if err := moveTo(w, 6, 0, 1.2); err != nil {
		t.Fatal(err)
	}
	run(w, ms(900))
	if !read(t, w, "stage", "xyz", "moving").Bool {
		t.Error("6 mm in 0.9 s")
	}
	run(w, ms(400))
	if read(t, w, "stage", "xyz", "moving").Bool {
		t.Error("6 mm not done in 1.3 s")
	}
	near(t, "travel", w.Count("stage").Travel, 7.2, 0.01)
}

func TestStageHalts(t *testing.T) {
	w := NewDemo(1, start)
	if halted, err := w.Stage().Halt(); halted || err != nil {
		t.Errorf("at rest: %v, %v", halted, err)
	}
	if err := moveTo(w, 10, -10, 3); err != nil {
		t.Fatal(err)
	}
	run(w, ms(500))
	if halted, err := w.Stage().Halt(); !halted || err != nil {
		t.Errorf("in motion: %v, %v", halted, err)
	}
	at := w.Stage().axes
	run(w, time.Second)
	if w.Stage().Busy() || w.Stage().axes != at || at[X].at < 1 || at[X].at > 9 {
		t.Errorf("halted at %+v, then at %+v", at, w.Stage().axes)
	}
	if err := moveTo(w, 0, 0, 0); err != nil { // and goes on from there
		t.Fatal(err)
	}
	run(w, 3*time.Second)
	if w.Stage().Position(X) != 0 {
		t.Error("does not come home")
	}
	if c := w.Count("stage"); c.Moves != 2 || c.Stops != 1 {
		t.Errorf("%+v", c)
	}
}

func TestStageRefuses(t *testing.T) {
	w := NewDemo(1, start)
	for name, err := range map[string]error{
		"too far":                 moveTo(w, 12.1, 0, 0),
		"too high":                moveTo(w, 0, 0, 4.1),
		"finer than it can":       moveTo(w, 0.00001, 0, 0),
		"absurd":                  moveTo(w, 1e300, 0, 0),
		"no such axis":            w.Stage().Move(map[Axis]int64{3: 1}),
		"one axis of two too far": w.Stage().Move(map[Axis]int64{X: 10, Y: 1e7}),
	} {
		t.Run(name, func(t *testing.T) { wantRefused(t, err, ErrOutOfRange) })
	}
	if w.Stage().Busy() || w.Count("stage").Moves != 0 {
		t.Error("it moves")
	}
}

// After a power cycle the controller calls zero wherever it stands.
func TestStageReboot(t *testing.T) {
	w := NewDemo(1, start)
	if err := moveTo(w, 2, 0, 1.2); err != nil {
		t.Fatal(err)
	}
	run(w, 2*time.Second)
	w.Reboot("stage")
	near(t, "x", read(t, w, "stage", "xyz", "x").Num, 0, 0)
	if _, _, z := w.Stage().where(); math.Abs(z-1.2) > 1e-9 {
		t.Errorf("the glass is at z = %v", z)
	}
	if err := moveTo(w, 0, 0, 1.2); err != nil {
		t.Fatal(err)
	}
	run(w, 2*time.Second)
	if _, _, z := w.Stage().where(); math.Abs(z-2.4) > 1e-9 {
		t.Errorf("the glass is at z = %v", z)
	}
}

// droplet is a world with particles in it, and the stage at a place.
func droplet(t *testing.T, x, y, z float64) *World {
	t.Helper()
	w := NewDemo(1, start)
	synthesise(t, w, recipe{70, 0.5, 0.15, 10})
	if err := moveTo(w, x, y, z); err != nil {
		t.Fatal(err)
	}
	run(w, 8*time.Second)
	return w
}

func capture(t *testing.T, w *World, exposure float64) (Frame, *image.Gray) {
	t.Helper()
	f, err := w.Camera().Capture(exposure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(f.PNG))
	if err != nil {
		t.Fatal(err)
	}
	g, ok := img.(*image.Gray)
	if !ok || g.Bounds() != image.Rect(0, 0, FramePixels, FramePixels) {
		t.Fatalf("%T %v", img, img.Bounds())
	}
	run(w, time.Duration(exposure*1e6)+ms(100))
	return f, g
}

func TestFocusCurve(t *testing.T) {
	w := droplet(t, 0, 0, 1.2)
	best, _ := capture(t, w, 20)
	line, top, at := "", 0.0, 0.0
	before := 0.0
	for _, um := range []float64{1000, 1100, 1150, 1180, 1190, 1195, 1198, 1200, 1202, 1205, 1210, 1220, 1250, 1300, 1400} {
		if err := moveTo(w, 0, 0, um/1000); err != nil {
			t.Fatal(err)
		}
		run(w, 2*time.Second)
		f, _ := capture(t, w, 20)
		line += fmt.Sprintf(" %g:%.2f", um, f.Sharpness)
		if um <= 1200 && f.Sharpness < before*0.9 || um > 1202 && f.Sharpness > before*1.1 {
			t.Errorf("sharpness %.2f after %.2f at z = %v um", f.Sharpness, before, um)
		}
		if before = f.Sharpness; f.Sharpness > top {
			top, at = f.Sharpness, um
		}
	}
	t.Log("sharpness by z, um:" + line)
	if math.Abs(at-1200) > 3 || best.Sharpness < 0.8*top {
		t.Errorf("best focus at %v um, %.2f; at 1.2 mm %.2f", at, top, best.Sharpness)
	}
	if far := before; far > top/5 {
		t.Errorf("far out of focus it is still %.2f, of %.2f", far, top)
	}
}

func TestCameraSeesWhatIsThere(t *testing.T) {
	w := droplet(t, 0, 0, 1.2)
	here, img := capture(t, w, 20)
	if here.Particles < 10 {
		t.Errorf("%d particles", here.Particles)
	}
	again, img2 := capture(t, w, 20)
	if again.Particles != here.Particles || bytes.Equal(img.Pix, img2.Pix) {
		t.Error("the same place has the same particles and other noise")
	}
	if err := moveTo(w, 0.02, 0, 1.2); err != nil { // 40 pixels along x
		t.Fatal(err)
	}
	run(w, time.Second)
	_, moved := capture(t, w, 20)
	if same, other := alike(img, moved, 40), alike(img, moved, 0); same < 0.5 || other > 0.3 {
		t.Errorf("moved by 40 pixels: likeness %.2f shifted, %.2f unshifted", same, other)
	}
	must(t, w, "reactor", "vessel", "drain", nil)
	run(w, 2*time.Second)
	empty, _ := capture(t, w, 20)
	if empty.Particles >= here.Particles/2 {
		t.Errorf("%d particles without gold, %d with it", empty.Particles, here.Particles)
	}
}

// alike is the correlation of two frames, one shifted along x.
func alike(a, b *image.Gray, shift int) float64 {
	var n, sa, sb, saa, sbb, sab float64
	for y := range FramePixels {
		for x := range FramePixels - shift {
			p, q := float64(a.Pix[y*FramePixels+x+shift]), float64(b.Pix[y*FramePixels+x])
			n, sa, sb, saa, sbb, sab = n+1, sa+p, sb+q, saa+p*p, sbb+q*q, sab+p*q
		}
	}
	return (sab/n - sa*sb/n/n) / math.Sqrt((saa/n-sa*sa/n/n)*(sbb/n-sb*sb/n/n))
}

func TestExposure(t *testing.T) {
	w := NewDemo(1, start)
	brightness := func(ms float64) (mean, noise float64) {
		_, img := capture(t, w, ms)
		var s, ss float64
		for _, p := range img.Pix {
			s, ss = s+float64(p), ss+float64(p)*float64(p)
		}
		n := float64(len(img.Pix))
		return s / n, math.Sqrt(ss/n - s*s/n/n)
	}
	short, grain := brightness(5)
	long, coarse := brightness(20)
	if long < 3*short || long > 5*short {
		t.Errorf("mean grey %v at 5 ms, %v at 20 ms", short, long)
	}
	if grain/short < coarse/long {
		t.Error("a longer exposure is not less noisy")
	}
	if full, _ := brightness(500); full < 254 {
		t.Errorf("mean grey %v at 500 ms", full)
	}
	for _, bad := range []float64{0, -1, math.NaN(), 10001} {
		_, err := w.Camera().Capture(bad)
		wantRefused(t, err, ErrOutOfRange)
	}
	if _, err := w.Camera().Capture(100); err != nil {
		t.Fatal(err)
	}
	if !read(t, w, "camera", "camera", "exposing").Bool {
		t.Error("not exposing")
	}
	_, err := w.Camera().Capture(100)
	wantRefused(t, err, ErrBusy)
	run(w, ms(200))
	out := must(t, w, "camera", "camera", "capture", args("exposure", "20 ms"))
	f := out["frame"].Blob
	if f.Media != "image/png" || f.Size != len(f.Bytes) || f.Hash != lab.HashText(f.Bytes) || f.Meta["pixel_um"] != "0.5" {
		t.Errorf("%+v", f)
	}
	if c := w.Count("camera").Exposures; c != 5 {
		t.Errorf("%d exposures", c)
	}
}
