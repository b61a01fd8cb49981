package mqtt

import (
	"errors"
	"time"

	"labgate/lab"
	"labgate/sim"
)

// outcome is what an instrument made of a command, to be told later.
type outcome struct {
	after time.Duration
	frame []byte // camera: the picture
	ack   ack
}

// instrument is what differs from device to device.
type instrument struct {
	name   string
	serial string
	state  func(w *sim.World) map[string]any
	do     func(w *sim.World, c command) outcome
}

// processing is what the devices' own computers need after an exposure.
const processing = 50 * time.Millisecond

// instruments lists who speaks MQTT.
func instruments() []instrument {
	return []instrument{
		{"spectrometer", "LGS-2048-0117", spectrometerState, takeSpectrum},
		{"camera", "LGC-256-0042", cameraState, capture},
		{"room", "LGR-1-0001", roomState, func(_ *sim.World, c command) outcome {
			return refuse(c, 0, errors.New("unknown command"))
		}},
	}
}

func spectrometerState(w *sim.World) map[string]any {
	return map[string]any{"ready": w.Spectrometer().Ready()}
}

func takeSpectrum(w *sim.World, c command) outcome {
	if c.Command != "spectrum" {
		return refuse(c, 0, errors.New("unknown command"))
	}
	if err := c.none(); err != nil {
		return refuse(c, 0, err)
	}
	after := w.Duration("spectrometer", "optics", "spectrum", nil) + processing
	s, err := w.Spectrometer().Take()
	if errors.Is(err, sim.ErrNoPeak) {
		return refuse(c, after, err) // it has looked, and found none
	}
	if err != nil {
		return refuse(c, 0, err)
	}
	return outcome{after: after, ack: ack{ID: c.ID, OK: true, Result: map[string]any{
		"peak_nm": s.Peak, "wavelength_nm": s.Wavelength, "absorbance": s.Absorbance,
	}}}
}

func cameraState(w *sim.World) map[string]any {
	return map[string]any{"exposing": w.Camera().Exposing()}
}

func capture(w *sim.World, c command) outcome {
	if c.Command != "capture" {
		return refuse(c, 0, errors.New("unknown command"))
	}
	ms, err := c.number("exposure_ms")
	if err != nil {
		return refuse(c, 0, err)
	}
	f, err := w.Camera().Capture(ms)
	if err != nil {
		return refuse(c, 0, err)
	}
	after := w.Duration("camera", "camera", "capture", map[string]lab.Value{"exposure": lab.NumberValue(lab.Q(ms, "ms"))})
	return outcome{after: after, frame: f.PNG, ack: ack{ID: c.ID, OK: true, Result: map[string]any{
		"sharpness": finite(f.Sharpness), "pixel_um": f.PixelUM, "media": "image/png", "bytes": len(f.PNG),
	}}}
}

func roomState(w *sim.World) map[string]any {
	r := w.Room()
	return map[string]any{
		"door_closed": r.DoorClosed(), "emergency": r.Emergency(),
		"airflow_m_s": finite(r.Airflow()), "oxygen_percent": finite(r.Oxygen()),
	}
}

// words are what a device says when it will not.
var words = []struct {
	cause error
	say   string
}{
	{sim.ErrNoPeak, "no peak"}, {sim.ErrBusy, "busy"}, {sim.ErrOutOfRange, "out of range"},
	{sim.ErrNotApplicable, "not applicable"}, {sim.ErrRefused, "refused"}, {sim.ErrReset, "reset"},
}

func refuse(c command, after time.Duration, err error) outcome {
	say := err.Error()
	for _, w := range words {
		if errors.Is(err, w.cause) {
			say = w.say
		}
	}
	return outcome{after: after, ack: ack{ID: c.ID, Error: say}}
}
