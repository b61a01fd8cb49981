package faces

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"labgate/lab"
	"labgate/sim"
)

// mostPlaying is how many scripts may play at once.
const mostPlaying = 16

// Desk is where a person plays a running world: faults, knobs and scripts of
// faults. It owns one goroutine a script that plays. Safe for concurrent use.
type Desk struct {
	host *Host
	ctx  context.Context
	tell func(string) // of each switch, and of one that went wrong

	playing sync.WaitGroup
	free    chan struct{}
}

// NewDesk makes the desk of a world. Its scripts play until ctx is done; tell,
// if any, is told what they do.
func NewDesk(ctx context.Context, h *Host, tell func(string)) *Desk {
	if tell == nil {
		tell = func(string) {}
	}
	return &Desk{host: h, ctx: ctx, tell: tell, free: make(chan struct{}, mostPlaying)}
}

// Wait joins the scripts, after the desk's context is done.
func (d *Desk) Wait() { d.playing.Wait() }

// Answer answers one request, as documented at ServeControl.
func (d *Desk) Answer(request []byte) []byte {
	b, err := json.Marshal(d.handle(request))
	if err != nil { // a result that JSON can't carry
		b, _ = json.Marshal(failure(lab.E("sim: control", "", lab.KindInternal, err)))
	}
	return b
}

func (d *Desk) script(text string) error {
	s, issues := sim.ParseScript("script", text)
	if len(issues) > 0 {
		return lab.E("sim: script", "", lab.KindInvalid, issues)
	}
	return d.Play(s)
}

// Play begins to play a script. It fails where the script names what this
// world has not, or where too many play.
func (d *Desk) Play(s sim.Script) error {
	const op = "sim: script"
	var plan []sim.Switch
	var err error
	d.host.With(func(w *sim.World) { plan, err = s.Plan(w.Faults()) })
	if err != nil {
		return lab.E(op, "", lab.KindInvalid, err)
	}
	select {
	case d.free <- struct{}{}:
	default:
		return lab.E(op, "", lab.KindBusy, fmt.Errorf("%d scripts play already", mostPlaying))
	}
	began := d.host.Now()
	// What is to happen at once has happened when this returns.
	for len(plan) > 0 && plan[0].At == 0 {
		if err := d.turn(plan[0]); err != nil {
			<-d.free
			return err
		}
		plan = plan[1:]
	}
	d.playing.Add(1)
	go func() {
		defer d.playing.Done()
		defer func() { <-d.free }()
		for _, s := range plan {
			if !d.host.Sleep(d.ctx, began.Add(s.At).Sub(d.host.Now())) {
				return
			}
			if err := d.turn(s); err != nil {
				d.tell(err.Error())
			}
		}
	}()
	return nil
}

func (d *Desk) turn(s sim.Switch) (err error) {
	d.host.With(func(w *sim.World) { err = w.Fault(s.Instrument, s.Fault, s.On, s.Args) })
	if err == nil {
		state := "off"
		if s.On {
			state = "on"
		}
		d.tell(fmt.Sprintf("%s %s %s", s.Instrument, s.Fault, state))
	}
	return err
}
