package twin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"labgate/drivers"
	"labgate/drivers/memory"
	"labgate/gateway"
	"labgate/lab"
	"labgate/safety"
)

// owner serves one address in virtual time: one call at a time, stops first,
// then sends, then what a decision waits for, then the polls that are due. A
// stop breaks off the call under way.
type owner struct {
	g           *gatewayPart
	delays      stream
	instruments []*lab.Instrument
	links       map[string]drivers.Link // by instrument, so that each has its own epoch
	polls       []*poll
	pushes      []*poll // of instruments that send their state by themselves

	stops     []gateway.Lane
	sends     []gateway.Send
	reads     []*read // what decisions wait for
	under     *call
	wakeAt    time.Time
	connected bool

	epochs   map[string]uint64
	silent   map[string]time.Time // instruments that do not answer, until when they are left alone
	failures map[string]int
	answers  map[string]int // messages so far, by instrument
	devices  map[string]*device
}

// call is something on the wire. It begins with before, then the effect
// happens, and after what the effect says the answer is there.
type call struct {
	effect func() time.Duration
	finish func()
	broken func(sent bool) // instead of finish; nil: it can't be broken off
	sent   bool
	over   bool
}

// poll is a set of properties of one instrument with one period.
type poll struct {
	instrument *lab.Instrument
	ids        []lab.PropertyID
	every      time.Duration
	idle       time.Duration // instead of every, where nothing is under way
	next       time.Time
}

// read is a poll's or a decision's question.
type read struct {
	instrument *lab.Instrument
	ids        []lab.PropertyID
	by         time.Time // zero: any time will do
	done       func()    // may be nil
}

// Times of an owner.
const (
	pushed       = 200 * time.Millisecond // how often an instrument that is not polled sends its state
	connecting   = 5 * time.Millisecond   // an instrument's first exchanges
	opcuaCall    = 2 * time.Millisecond
	mqttCall     = 3 * time.Millisecond
	serialCall   = 5 * time.Millisecond // one line and its reply, beside the profile's gap
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 5 * time.Second
	jitter       = 500 * time.Microsecond
)

func newOwner(g *gatewayPart) *owner {
	return &owner{g: g, delays: stream{key: g.t.o.Seed ^ 0x77697265 + uint64(len(g.order))}, links: map[string]drivers.Link{},
		epochs: map[string]uint64{}, silent: map[string]time.Time{}, failures: map[string]int{}, answers: map[string]int{}, devices: map[string]*device{}}
}

// add puts an instrument on the address.
func (o *owner) add(in *lab.Instrument) error {
	d := &device{o: o, in: in}
	o.devices[in.Name] = d
	l, err := memory.Open(memory.Config{Config: drivers.Config{Instruments: []*lab.Instrument{in}, Clock: &o.g.t.clock}, Device: d})
	if err != nil {
		return err
	}
	o.instruments = append(o.instruments, in)
	o.links[in.Name] = l
	byPeriod := map[time.Duration]*poll{}
	for _, m := range in.Profile.Properties {
		p := byPeriod[m.Poll]
		if p == nil {
			p = &poll{instrument: in, every: m.Poll}
			byPeriod[m.Poll] = p
			if m.Poll > 0 {
				o.polls = append(o.polls, p)
			} else {
				p.every = pushed
				o.pushes = append(o.pushes, p)
			}
		}
		p.ids = append(p.ids, lab.PropertyID{Instrument: in.Name, Component: m.Component, Property: m.Property})
	}
	for _, p := range append(slices.Clone(o.polls), o.pushes...) {
		if p.instrument == in {
			p.idle = o.g.idle(p)
		}
	}
	return nil
}

// connect opens the links and asks each instrument who it is.
func (o *owner) connect() {
	o.g.t.after(time.Duration(len(o.instruments))*connecting+o.delays.between(0, jitter), func() {
		o.connected = true
		for _, in := range o.instruments {
			if err := o.links[in.Name].Connect(context.Background()); err != nil {
				o.demote(in, err)
				continue
			}
			o.identify(in)
		}
		for _, p := range o.pushes {
			o.push(p)
		}
		o.work()
	})
}

// push is a state that an instrument sends by itself, whatever else is on its
// wire, and again after its period. A silent one sends nothing.
func (o *owner) push(p *poll) {
	in := p.instrument
	_, silent := o.silent[in.Name]
	switch {
	case !o.answering(in):
		if !silent {
			o.demote(in, errors.New("it has not sent its state"))
		}
	case silent:
		o.identify(in)
	default:
		samples, err := o.links[in.Name].Read(context.Background(), in.Name, p.ids)
		if err != nil {
			o.demote(in, err)
			break
		}
		o.g.soon(gateway.Readings{Samples: samples})
	}
	o.g.t.after(o.g.period(p)+o.delays.between(0, jitter), func() { o.push(p) })
}

func (o *owner) identify(in *lab.Instrument) {
	who, err := o.links[in.Name].Identify(context.Background(), in.Name)
	if err == nil && !o.answering(in) {
		err = errors.New("it does not answer")
	}
	if err != nil {
		o.demote(in, err)
		return
	}
	o.epochs[in.Name] = o.links[in.Name].Epoch(in.Name)
	delete(o.silent, in.Name)
	o.failures[in.Name] = 0
	o.g.soon(gateway.LinkUp{Instrument: in.Name, Epoch: o.epochs[in.Name], Identity: strings.Join(strings.Fields(who.Maker+" "+who.Model+" "+who.Serial+" "+who.Version), " ")})
}

// demote leaves an instrument alone for a while.
func (o *owner) demote(in *lab.Instrument, err error) {
	o.failures[in.Name]++
	o.silent[in.Name] = o.g.t.clock.now.Add(min(firstBackoff<<min(o.failures[in.Name], 6), lastBackoff))
	o.g.soon(gateway.LinkLost{Instrument: in.Name, Say: err.Error()})
}

// lane hands over a stop: it goes before everything, and breaks off the call
// under way.
func (o *owner) lane(a gateway.Lane) {
	o.stops = append(o.stops, a)
	if c := o.under; c != nil && c.broken != nil {
		c.over, o.under = true, nil
		c.broken(c.sent)
	}
	o.work()
}

func (o *owner) send(a gateway.Send) {
	o.sends = append(o.sends, a)
	o.work()
}

// refresh asks the instruments of one owner, and says when all have answered,
// or won't in time.
func (o *owner) refresh(ids []lab.PropertyID, by time.Time, done func()) {
	byInstrument := map[string][]lab.PropertyID{}
	for _, id := range ids {
		byInstrument[id.Instrument] = append(byInstrument[id.Instrument], id)
	}
	left := len(byInstrument)
	for _, in := range o.instruments {
		if len(byInstrument[in.Name]) > 0 {
			o.reads = append(o.reads, &read{in, byInstrument[in.Name], by, func() {
				if left--; left == 0 {
					done()
				}
			}})
		}
	}
	o.work()
}

// work begins the next call, or sleeps until a poll is due.
func (o *owner) work() {
	for o.under == nil && o.connected {
		o.checkEpochs()
		switch {
		case len(o.stops) > 0:
			a := o.stops[0]
			o.stops = o.stops[1:]
			o.stop(a)
		case len(o.sends) > 0:
			a := o.sends[0]
			o.sends = o.sends[1:]
			o.exchange(a)
		case len(o.reads) > 0:
			r := o.reads[0]
			o.reads = o.reads[1:]
			o.read(r)
		default:
			p := o.nextPoll()
			if p == nil {
				return
			}
			if _, silent := o.silent[p.instrument.Name]; !silent && o.g.calm() {
				o.glance(p)
				continue
			}
			o.read(&read{instrument: p.instrument, ids: p.ids})
		}
	}
}

// nextPoll is the poll that has been due for longest; nil where none is, and
// then work is called again when one will be.
func (o *owner) nextPoll() *poll {
	now := o.g.t.clock.now
	var first *poll
	for _, p := range o.polls {
		if until, silent := o.silent[p.instrument.Name]; silent && p.next.Before(until) {
			p.next = until
		}
		if first == nil || p.next.Before(first.next) {
			first = p
		}
	}
	if first == nil {
		return nil
	}
	if first.next.After(now) {
		if !o.wakeAt.After(now) || first.next.Before(o.wakeAt) {
			o.wakeAt = first.next
			o.g.t.after(first.next.Sub(now), o.work)
		}
		return nil
	}
	first.next = now.Add(o.g.period(first))
	return first
}

func (o *owner) checkEpochs() {
	for _, in := range o.instruments {
		_, silent := o.silent[in.Name]
		if e, ok := o.epochs[in.Name]; ok && !silent && e != o.links[in.Name].Epoch(in.Name) {
			o.identify(in)
		}
	}
}

// begin puts a call on the wire.
func (o *owner) begin(before time.Duration, c *call) {
	o.under = c
	o.g.t.after(before+o.delays.between(0, jitter), func() {
		if c.over {
			return
		}
		c.sent = true
		o.g.t.after(c.effect(), func() {
			if c.over {
				return
			}
			c.over, o.under = true, nil
			c.finish()
			o.work()
		})
	})
}

// wire is how long n questions take on an instrument's wire.
func wire(in *lab.Instrument, n int) time.Duration {
	switch in.Profile.Link.Kind {
	case lab.LinkSerial:
		return time.Duration(n) * (serialCall + in.Profile.Link.Gap)
	case lab.LinkMQTT:
		return mqttCall
	}
	return opcuaCall
}

// stop sends one stop.
func (o *owner) stop(a gateway.Lane) {
	target := a.Order.Target()
	in := o.instrument(target.Instrument)
	var done gateway.LaneDone
	o.begin(wire(in, 1), &call{
		effect: func() time.Duration {
			o.devices[in.Name].order = a.Order
			r, err := o.links[in.Name].Stop(context.Background(), a.Order)
			o.devices[in.Name].order = nil
			o.trace(fmt.Sprintf("stop %s: acked %v%s", target, r.Acked, sayErr(err)))
			done = gateway.LaneDone{ID: a.ID, Acked: r.Acked, Err: err}
			return o.answer(in, 0)
		},
		finish: func() { o.g.soon(done); o.lookSoon(in) },
	})
}

// exchange sends one command, and stores what it returned before it says so.
func (o *owner) exchange(a gateway.Send) {
	target := a.Command.Target
	in := o.instrument(target.Instrument)
	messages := 1
	if m := in.Profile.CommandMap(target.Component, target.Command); m != nil {
		messages = max(1, m.EffectAt)
	}
	done := gateway.Exchanged{Command: a.Command.ID}
	o.begin(wire(in, messages), &call{
		effect: func() time.Duration {
			o.devices[in.Name].permit = a.Permit
			r, err := o.links[in.Name].Exchange(context.Background(), &a.Command, a.Permit)
			o.devices[in.Name].permit = nil
			o.trace(fmt.Sprintf("exchange %s %s: acked %v%s", target, a.Command.ID, r.Acked, sayErr(err)))
			done.Acked, done.Values, done.Sent, done.Err = r.Acked, o.store(r.Values), r.Sent, err
			return o.answer(in, o.g.t.world.Duration(target.Instrument, target.Component, target.Command, a.Command.Args))
		},
		finish: func() { o.g.soon(done); o.lookSoon(in) },
		broken: func(sent bool) {
			e := gateway.Exchanged{Command: a.Command.ID, Err: lab.Ef("twin: exchange", in.Name, lab.KindNotSent, "broken off by a stop")}
			if sent {
				e.Sent, e.Err = done.Sent, lab.Ef("twin: exchange", in.Name, lab.KindOutcomeUnknown, "broken off by a stop")
			}
			o.g.soon(e)
			o.lookSoon(in)
		},
	})
}

// answer is how long the device needs from the effect to its answer. One that
// does not answer is waited for.
func (o *owner) answer(in *lab.Instrument, takes time.Duration) time.Duration {
	d := o.devices[in.Name]
	late := d.late
	d.late = 0
	if o.g.t.world.Frozen(in.Name) {
		return max(late, in.Profile.Link.ReplyWithin, firstBackoff)
	}
	return takes + late + o.delays.between(0, jitter)
}

// answering reports whether an instrument says anything at all.
func (o *owner) answering(in *lab.Instrument) bool {
	_, open := o.g.t.world.FaultOn(in.Name, "half_open")
	return !open && !o.g.t.world.Frozen(in.Name)
}

// store keeps the bytes of blobs and names them by their content.
func (o *owner) store(values map[string]lab.Value) map[string]lab.Value {
	for n, v := range values {
		if v.Kind != lab.Blob || v.Blob == nil {
			continue
		}
		hash := lab.HashText(v.Blob.Bytes)
		o.g.t.blobs[hash] = v.Blob.Bytes
		v.Blob = &lab.BlobRef{Hash: hash, Media: v.Blob.Media, Size: len(v.Blob.Bytes), Meta: v.Blob.Meta}
		values[n] = v
	}
	return values
}

// lookSoon makes the polls of an instrument due: what was done is wanted now.
func (o *owner) lookSoon(in *lab.Instrument) {
	for _, p := range o.polls {
		if p.instrument == in {
			p.next = o.g.t.clock.now
		}
	}
}

// read asks one instrument. One that is silent is asked again who it is, once
// its pause is over.
func (o *owner) read(r *read) {
	done := func() {
		if r.done != nil {
			r.done()
		}
	}
	now := o.g.t.clock.now
	if until, silent := o.silent[r.instrument.Name]; silent {
		if !now.Before(until) {
			o.identify(r.instrument)
		}
		if _, still := o.silent[r.instrument.Name]; still {
			done()
			return
		}
	}
	if !r.by.IsZero() && !now.Before(r.by) {
		done()
		return
	}
	var samples []lab.Sample
	var err error
	o.begin(wire(r.instrument, len(r.ids)), &call{
		effect: func() time.Duration {
			samples, err = o.links[r.instrument.Name].Read(context.Background(), r.instrument.Name, r.ids)
			if o.g.t.world.Frozen(r.instrument.Name) {
				return o.answer(r.instrument, 0)
			}
			d := o.devices[r.instrument.Name]
			late := d.late
			d.late = 0
			return late
		},
		finish: func() {
			if len(samples) > 0 {
				o.g.soon(gateway.Readings{Samples: samples})
			}
			if err != nil || allBad(samples) {
				o.demote(r.instrument, fmt.Errorf("none of its %d properties could be read", len(r.ids)))
			}
			done()
		},
		broken: func(bool) { done() },
	})
}

// glance is read where nothing waits for the wire: it takes no time.
func (o *owner) glance(p *poll) {
	samples, err := o.links[p.instrument.Name].Read(context.Background(), p.instrument.Name, p.ids)
	if len(samples) > 0 {
		o.g.soon(gateway.Readings{Samples: samples})
	}
	if err != nil || allBad(samples) {
		o.demote(p.instrument, fmt.Errorf("none of its %d properties could be read", len(p.ids)))
	}
}

func allBad(samples []lab.Sample) bool {
	for _, s := range samples {
		if s.Reading.Quality != lab.Bad {
			return false
		}
	}
	return len(samples) > 0
}

func (o *owner) instrument(name string) *lab.Instrument {
	for _, in := range o.instruments {
		if in.Name == name {
			return in
		}
	}
	return nil
}

func (o *owner) trace(what string) { o.g.t.trace.line(o.g.t.clock.now, "wire", "=", what) }

// device is one instrument of the world behind a memory link, with what is
// wrong with its wire.
type device struct {
	o      *owner
	in     *lab.Instrument
	late   time.Duration // by how much the answer to the call under way is late
	permit *safety.Permit
	order  *safety.Order
}

// Read implements memory.Device. A silent device is a bad sample, as it is on
// a line that others share.
func (d *device) Read(id lab.PropertyID) (lab.Value, error) {
	say, _, late := d.o.trouble(d.in)
	d.late = max(d.late, late)
	if say != "" {
		return lab.Value{}, errors.New(say)
	}
	return d.o.g.t.world.Read(id.Instrument, id.Component, id.Property)
}

// Do implements memory.Device. Nobody can tell what a device did whose answer
// did not come.
func (d *device) Do(cmd *lab.Command) (map[string]lab.Value, error) {
	say, heard, late := d.o.trouble(d.in)
	d.late = late
	t := d.o.g.t
	touched := Touched{Command: *cmd, Permit: d.permit, Order: d.order, Before: t.world.Count(d.in.Name)}
	var values map[string]lab.Value
	if heard {
		values, touched.Err = t.world.Do(cmd.Target.Instrument, cmd.Target.Component, cmd.Target.Command, cmd.Args)
	}
	touched.After = t.world.Count(d.in.Name)
	err := touched.Err
	if say != "" {
		values, err = nil, lab.Ef("twin: do", d.in.Name, lab.KindOutcomeUnknown, say)
	}
	if heard {
		t.watched("wire", touched)
	}
	return values, err
}

// Epoch implements memory.Device: it counts power cycles.
func (d *device) Epoch() uint64 { return uint64(d.o.g.t.world.Boot(d.in.Name) - 1) }
