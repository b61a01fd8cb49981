package main

import (
	"bytes"
	"time"

	"labgate/lab"
)

// world makes the switches of a fault that the simulated instrument itself, or
// its face, acts out.
func world(instrument, name string, args map[string]float64) (on, off func(*faultLab)) {
	return func(l *faultLab) { l.fault(instrument, name, true, args) }, func(l *faultLab) { l.fault(instrument, name, false, nil) }
}

// onWire makes the switches of a fault that a proxy acts out.
func onWire(of func(*faultLab) *proxy, do func(*proxy)) (on, off func(*faultLab)) {
	return func(l *faultLab) { do(of(l)) }, func(l *faultLab) { of(l).heal() }
}

func pumpsWire(l *faultLab) *proxy   { return l.pumps }
func stageWire(l *faultLab) *proxy   { return l.stage }
func reactorWire(l *faultLab) *proxy { return l.reactor }
func cellWire(l *faultLab) *proxy    { return l.cell }
func mqttWire(l *faultLab) *proxy    { return l.mqtts }

func nothing(*faultLab) {}

// faulty makes a row out of a pair of switches.
func faulty(wire, fault, job string, switches func() (on, off func(*faultLab)), r faultRow) faultRow {
	r.wire, r.fault, r.job = wire, fault, job
	r.on, r.off = switches()
	return r
}

// of is world or onWire, not yet called.
func ofWorld(instrument, name string, args map[string]float64) func() (on, off func(*faultLab)) {
	return func() (on, off func(*faultLab)) { return world(instrument, name, args) }
}

func ofWire(of func(*faultLab) *proxy, do func(*proxy)) func() (on, off func(*faultLab)) {
	return func() (on, off func(*faultLab)) { return onWire(of, do) }
}

func once(on func(*faultLab)) func() (on, off func(*faultLab)) {
	return func() (func(*faultLab), func(*faultLab)) { return on, nothing }
}

func seconds(s float64) map[string]float64 { return map[string]float64{"seconds": s} }

// course is what becomes of the command.
type course struct {
	ends    []lab.State // the first outcome is one of these
	settle  bool        // a person may have to say what became of it
	effects []int       // by the world's count, once the run is over
	say     string      // the table's words
}

var (
	refuse   = course{[]lab.State{lab.Confirmed, lab.Refused}, false, []int{0, 1}, "refused while the link is down, with the reason; else done, once"}
	goesOn   = course{[]lab.State{lab.Confirmed}, false, []int{1}, "goes on; confirmed by read-back"}
	waitsFor = course{[]lab.State{lab.Confirmed}, false, []int{1}, "not sent before the link is back; then done, once"}
	doubt    = course{[]lab.State{lab.InDoubt}, true, []int{1}, "in doubt: the link was made anew and the device may have lost its state; a person says what became of it"}
	seen     = course{[]lab.State{lab.Confirmed, lab.Partial, lab.InDoubt}, true, []int{1}, "confirmed where it is seen to its end, else in doubt"}
	failed   = course{[]lab.State{lab.Failed, lab.Confirmed}, false, []int{1}, "failed, where it is not seen to its end; it may be repeated, so nobody is asked"}
	charge   = course{[]lab.State{lab.Failed, lab.Confirmed}, false, []int{0, 1}, "failed, where its result does not come; charged, and not taken again by itself"}
	stands   = course{[]lab.State{lab.Failed, lab.Contradicted}, false, []int{0}, "failed: it was not done in the time that its class allows"}
	no       = course{[]lab.State{lab.Failed, lab.NotSent}, false, []int{0}, "failed, with the device's reason"}
)

// The wires' names in the table.
const (
	serialLine = "serial"
	opcUA      = "OPC UA"
	mqttWires  = "MQTT"
)

var faultRows = append(append(serialRows, opcuaRows...), mqttRows...)

var serialRows = []faultRow{
	faulty(serialLine, "the device freezes", "dose", ofWorld("pump_a", "freeze", nil), faultRow{then: doubt, quick: true}),
	faulty(serialLine, "the device freezes", "dose", ofWorld("pump_a", "freeze", nil), faultRow{then: waitsFor, early: true}),
	faulty(serialLine, "half-open (answers never come)", "dose", ofWorld("pump_a", "half_open", nil), faultRow{then: doubt}),
	faulty(serialLine, "every answer is lost", "move", ofWorld("stage", "drop", nil), faultRow{then: failed, quick: true}),
	faulty(serialLine, "every answer is lost", "move", ofWorld("stage", "drop", nil), faultRow{then: waitsFor, early: true}),
	faulty(serialLine, "every third answer is lost", "dose", ofWorld("pump_a", "drop", map[string]float64{"every": 3}), faultRow{then: goesOn, good: true}),
	faulty(serialLine, "answers come 0.2 s late", "dose", ofWorld("pump_a", "delay", seconds(0.2)), faultRow{then: goesOn, good: true}),
	faulty(serialLine, "answers come after the time-out, in order", "dose", ofWorld("pump_a", "delay", seconds(1.5)), faultRow{then: seen}),
	faulty(serialLine, "a late reply while the next question is asked", "dose", ofWorld("pump_a", "late_reply", map[string]float64{"seconds": 0.8, "every": 2}), faultRow{then: seen, good: true}),
	faulty(serialLine, "garbled answers", "dose", ofWorld("pump_a", "garble", nil), faultRow{then: seen, quick: true}),
	faulty(serialLine, "well-formed answers to another question", "dose", ofWorld("pump_a", "wrong_reply", nil), faultRow{then: doubt}),
	faulty(serialLine, "one wrong byte on the cable", "move", ofWire(stageWire, func(p *proxy) { p.spoil.Store(1) }), faultRow{then: goesOn, good: true}),
	faulty(serialLine, "wrong bytes all the time", "move", ofWire(stageWire, func(p *proxy) { p.spoil.Store(1 << 20) }), faultRow{then: failed}),
	faulty(serialLine, "half frames", "move", ofWire(stageWire, func(p *proxy) { p.cut.Store(1 << 20) }), faultRow{then: failed}),
	faulty(serialLine, "every answer twice", "dose", ofWire(pumpsWire, func(p *proxy) { p.twice.Store(1 << 20) }), faultRow{then: seen, good: true}),
	faulty(serialLine, "noise without end", "move", once(func(l *faultLab) { go noise(l) }), faultRow{then: failed, good: true}),
	faulty(serialLine, "nothing passes, then all at once", "dose", ofWire(pumpsWire, func(p *proxy) { p.hold.Store(true) }), faultRow{then: doubt}),
	faulty(serialLine, "the device reboots", "dose", once(func(l *faultLab) { l.fault("pump_a", "reboot", true, nil) }), faultRow{then: doubt, good: true, quick: true}),
	faulty(serialLine, "the port goes, and is back at another path", "dose", portGone, faultRow{then: doubt, quick: true}),
	faulty(serialLine, "the port has a second owner", "move", secondOwner, faultRow{then: goesOn, good: true}),
	faulty(serialLine, "an actuator acknowledges and does nothing", "move", ofWorld("stage", "actuator_dead", nil), faultRow{then: stands, early: true, good: true}),
	faulty(serialLine, "the device refuses", "dose", ofWorld("pump_a", "refuse", nil), faultRow{then: no, early: true, good: true}),
	faulty(serialLine, "a sensor is stuck", "dose", ofWorld("pump_a", "stuck", nil), faultRow{then: seen, good: true}),
	faulty(serialLine, "NaN", "dose", ofWorld("pump_a", "nan", nil), faultRow{then: seen}),
}

// noise says meaningless lines for three seconds.
func noise(l *faultLab) {
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if l.stage.inject([]byte("~~~~~\r\n")) != nil {
			return
		}
	}
}

func portGone() (on, off func(*faultLab)) {
	return func(l *faultLab) { l.pumps.unplug() }, func(l *faultLab) { l.pumps.plug(l) }
}

func secondOwner() (on, off func(*faultLab)) {
	return func(l *faultLab) { l.intrude(l.stage.at()) }, nothing
}

var opcuaRows = []faultRow{
	faulty(opcUA, "the server freezes", "coat", ofWorld("cell", "freeze", nil), faultRow{then: doubt, quick: true}),
	faulty(opcUA, "the server freezes", "heat", ofWorld("reactor", "freeze", nil), faultRow{then: waitsFor, early: true}),
	faulty(opcUA, "half-open", "coat", ofWorld("cell", "half_open", nil), faultRow{then: doubt, good: true}),
	faulty(opcUA, "half-open for good; a new connection works", "coat", once(func(l *faultLab) { l.cell.halfOpen() }), faultRow{then: doubt, good: true}),
	faulty(opcUA, "the connection is reset", "coat", once(func(l *faultLab) { l.cell.reset() }), faultRow{then: doubt, good: true, quick: true}),
	faulty(opcUA, "the connection is reset", "heat", once(func(l *faultLab) { l.reactor.reset() }), faultRow{then: refuse, early: true, good: true}),
	faulty(opcUA, "the server is gone, and is back", "coat", ofWire(cellWire, func(p *proxy) { p.refuse.Store(true); p.reset() }), faultRow{then: doubt}),
	faulty(opcUA, "the server is gone, and is back", "heat", ofWire(reactorWire, func(p *proxy) { p.refuse.Store(true); p.reset() }), faultRow{then: waitsFor, early: true}),
	faulty(opcUA, "every answer is lost", "coat", ofWorld("cell", "drop", nil), faultRow{then: doubt}),
	faulty(opcUA, "answers come 0.2 s late", "coat", ofWorld("cell", "delay", seconds(0.2)), faultRow{then: goesOn, good: true}),
	faulty(opcUA, "answers come after the time-out", "coat", ofWorld("cell", "delay", seconds(2)), faultRow{then: doubt}),
	faulty(opcUA, "late replies, others between them", "coat", ofWorld("cell", "late_reply", map[string]float64{"seconds": 1.5, "every": 3}), faultRow{then: doubt}),
	faulty(opcUA, "garbled answers", "coat", ofWorld("cell", "garble", nil), faultRow{then: doubt}),
	faulty(opcUA, "answers to another question", "coat", ofWorld("cell", "wrong_reply", nil), faultRow{then: doubt}),
	faulty(opcUA, "a wrong byte on the cable", "coat", ofWire(cellWire, func(p *proxy) { p.spoil.Store(1) }), faultRow{then: seen, good: true}),
	faulty(opcUA, "half a frame, then silence", "coat", ofWire(cellWire, func(p *proxy) { p.cut.Store(1 << 20) }), faultRow{then: doubt}),
	faulty(opcUA, "a chunk comes twice", "coat", ofWire(cellWire, func(p *proxy) { p.twice.Store(3) }), faultRow{then: seen, good: true}),
	faulty(opcUA, "nothing passes, then all at once", "coat", ofWire(cellWire, func(p *proxy) { p.hold.Store(true) }), faultRow{then: doubt}),
	faulty(opcUA, "garbage for ever", "coat", once(func(l *faultLab) { go flood(l, l.cell) }), faultRow{then: doubt, good: true}),
	faulty(opcUA, "the server reboots, its state lost", "coat", once(func(l *faultLab) { l.fault("cell", "reboot", true, nil) }), faultRow{then: doubt, good: true}),
	faulty(opcUA, "an actuator acknowledges and does nothing", "heat", ofWorld("reactor", "actuator_dead.jacket", nil), faultRow{then: stands, early: true, good: true}),
	faulty(opcUA, "the server refuses", "heat", ofWorld("reactor", "refuse.jacket", nil), faultRow{then: no, early: true, good: true}),
	faulty(opcUA, "a sensor is stuck", "coat", ofWorld("cell", "stuck", nil), faultRow{then: seen, good: true}),
	faulty(opcUA, "NaN", "heat", ofWorld("reactor", "nan", nil), faultRow{then: failed}),
}

// flood sends garbage until nobody takes it.
func flood(l *faultLab, p *proxy) {
	junk := bytes.Repeat([]byte{0xa5}, 4096)
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		_ = p.inject(junk) // a connection that was given up
	}
}

var mqttRows = []faultRow{
	faulty(mqttWires, "the device freezes", "shot", ofWorld("camera", "freeze", nil), faultRow{then: charge, lasts: 8 * time.Second}),
	faulty(mqttWires, "the device freezes", "shot", ofWorld("camera", "freeze", nil), faultRow{then: charge, early: true}),
	faulty(mqttWires, "the device is half-open", "shot", ofWorld("camera", "half_open", nil), faultRow{then: charge}),
	faulty(mqttWires, "the connection to the broker is half-open", "shot", once(func(l *faultLab) { l.mqtts.halfOpen() }), faultRow{then: charge}),
	faulty(mqttWires, "the connection to the broker is reset", "shot", once(func(l *faultLab) { l.mqtts.reset() }), faultRow{then: charge, good: true, quick: true}),
	faulty(mqttWires, "the broker is gone, and is back", "shot", ofWire(mqttWire, func(p *proxy) { p.refuse.Store(true); p.reset() }), faultRow{then: charge, lasts: 6 * time.Second}),
	faulty(mqttWires, "the broker is gone, and is back", "shot", ofWire(mqttWire, func(p *proxy) { p.refuse.Store(true); p.reset() }), faultRow{then: waitsFor, early: true}),
	faulty(mqttWires, "the acknowledgement is lost", "shot", ofWorld("camera", "drop", nil), faultRow{then: charge, good: true}),
	faulty(mqttWires, "messages come 0.2 s late", "shot", ofWorld("camera", "delay", seconds(0.2)), faultRow{then: goesOn, good: true, quick: true}),
	faulty(mqttWires, "states come older than their max_age", "shot", ofWorld("camera", "delay", seconds(5)), faultRow{then: charge, lasts: 6 * time.Second}),
	faulty(mqttWires, "late acknowledgements", "shot", ofWorld("camera", "late_reply", seconds(1)), faultRow{then: charge, good: true}),
	faulty(mqttWires, "garbled payloads", "shot", ofWorld("camera", "garble", nil), faultRow{then: charge, good: true, lasts: 6 * time.Second, quick: true}),
	faulty(mqttWires, "an acknowledgement of another command", "shot", ofWorld("camera", "wrong_reply", nil), faultRow{then: charge, good: true}),
	faulty(mqttWires, "a wrong byte on the cable", "shot", ofWire(mqttWire, func(p *proxy) { p.spoil.Store(1) }), faultRow{then: charge, good: true}),
	faulty(mqttWires, "half a packet, then silence", "shot", ofWire(mqttWire, func(p *proxy) { p.cut.Store(1 << 20) }), faultRow{then: charge, lasts: 6 * time.Second}),
	faulty(mqttWires, "a packet comes twice", "shot", ofWire(mqttWire, func(p *proxy) { p.twice.Store(3) }), faultRow{then: charge, good: true}),
	faulty(mqttWires, "nothing passes, then all at once", "shot", ofWire(mqttWire, func(p *proxy) { p.hold.Store(true) }), faultRow{then: charge, lasts: 6 * time.Second}),
	faulty(mqttWires, "the device reboots", "shot", once(func(l *faultLab) { l.fault("camera", "reboot", true, nil) }), faultRow{then: charge, good: true}),
	faulty(mqttWires, "a payload of 10 MB", "shot", once(func(l *faultLab) { l.publish("demo/camera/state", bytes.Repeat([]byte("x"), 10<<20)) }), faultRow{then: charge, good: true}),
	faulty(mqttWires, "a retained command lies on the command topic", "shot", once(retained), faultRow{then: goesOn, early: true, good: true, quick: true}),
	faulty(mqttWires, "the device refuses", "shot", ofWorld("camera", "refuse", nil), faultRow{then: no, early: true, good: true, quick: true}),
	faulty(mqttWires, "an actuator acknowledges and does nothing", "shot", ofWorld("camera", "actuator_dead", nil), faultRow{then: charge, early: true, good: true}),
}

// retained leaves a command of yesterday with the broker.
func retained(l *faultLab) {
	l.retain("demo/camera/command", `{"id":"01OLD","command":"capture","args":{"exposure_ms":10}}`)
}
