package wire

import (
	"time"

	"labgate/sim"
)

// Trouble is what is wrong with one instrument's wire at the moment of one
// message. The zero Trouble is a healthy wire.
//
//	freeze       the device hears nothing, does nothing, says nothing
//	drop         it acts, and its answer is lost
//	delay        its answers come later, in order        (argument seconds, default 0.2)
//	garble       its answer arrives damaged
//	late_reply   its answer comes when the asker has given up; it goes on
//	             answering meanwhile                     (argument seconds, default 1)
//	wrong_reply  its answer is well formed and belongs to something else
//	half_open    the connection looks alive and carries nothing any more.
//	             OPC UA: a new one works. MQTT: until it is switched off. A
//	             serial line has no connections: as drop.
//
// drop, garble, late_reply and wrong_reply take the argument every: with 3,
// every third message suffers. The default is 1.
type Trouble struct {
	Frozen, Drop, Garble, Wrong, HalfOpen bool
	Delay, Late                           time.Duration
}

// most is the longest delay that a fault may ask for.
const most = time.Minute

// TroubleOf looks at an instrument's switches for the message that it is about
// to send. Each call counts as one message.
func (h *Host) TroubleOf(instrument string) Trouble {
	var t Trouble
	h.With(func(w *sim.World) { t = h.trouble(w, instrument) })
	return t
}

func (h *Host) trouble(w *sim.World, instrument string) Trouble {
	t := Trouble{Frozen: w.Frozen(instrument)}
	_, t.HalfOpen = w.FaultOn(instrument, "half_open")
	if args, on := w.FaultOn(instrument, "delay"); on {
		t.Delay = seconds(args, 0.2)
	}
	h.answers[instrument]++
	hit := func(name string) (map[string]float64, bool) {
		args, on := w.FaultOn(instrument, name)
		if every := int(args["every"]); on && every > 1 {
			on = h.answers[instrument]%every == 0
		}
		return args, on
	}
	_, t.Drop = hit("drop")
	_, t.Garble = hit("garble")
	_, t.Wrong = hit("wrong_reply")
	if args, on := hit("late_reply"); on {
		t.Late = seconds(args, 1)
	}
	return t
}

// Frozen reports whether an instrument hears nothing now, and its boot count.
func (h *Host) Frozen(instrument string) (frozen bool, boot int) {
	h.With(func(w *sim.World) { frozen, boot = w.Frozen(instrument), w.Boot(instrument) })
	return frozen, boot
}

// HalfOpen reports whether an instrument's connections carry nothing.
func (h *Host) HalfOpen(instrument string) (on bool) {
	h.With(func(w *sim.World) { _, on = w.FaultOn(instrument, "half_open") })
	return on
}

// seconds reads the argument of that name. What is no time at all is none.
func seconds(args map[string]float64, otherwise float64) time.Duration {
	s, ok := args["seconds"]
	if !ok {
		s = otherwise
	}
	if !(s > 0) {
		return 0
	}
	return min(most, time.Duration(min(s, most.Seconds())*float64(time.Second)))
}

// Garble returns a damaged copy of what was to be sent: the byte in its middle
// is another one.
func Garble(b []byte) []byte {
	out := append([]byte(nil), b...)
	if len(out) > 0 {
		out[len(out)/2] ^= 0x55
	}
	return out
}
