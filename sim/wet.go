package sim

import "time"

// NewWet makes the wet bench at rest: a burette of 0.1 mol/L sodium hydroxide over
// a beaker with 20 mL of acetic acid on a stirred hotplate with a pH probe, a
// feeder over a flask on a balance, and a jacketed crystalliser with a turbidity
// probe. How strong the acid is, how far the feeder's stroke is off, and how far
// the crystalliser's solution can be undercooled, the seed says.
func NewWet(seed uint64, start time.Time) *World {
	w := newWorld(seed, start, "burette", "hotplate", "ph", "feeder", "balance", "crystalliser", "turbidity")
	beaker, flask := newBeaker(w), &flask{}
	burette := newPump(w, "burette", beaker, liquid{base: 100, temperature: roomTemperature})
	feeder := newPump(w, "feeder", flask, liquid{temperature: roomTemperature})
	feeder.stroke = 1 + 0.04*(unit(mix(source(seed, "feeder.stroke")))-0.5) // within 2 %
	hotplate := newPlate(w, "hotplate", plate{lag: 200, least: 20, most: 90, ambient: true})
	beaker.plate = hotplate
	crystalliser := newPlate(w, "crystalliser", plate{lag: 90, least: 5, most: 90})
	slurry := newSlurry(w, crystalliser)
	w.devices = map[string]device{
		"burette": burette, "hotplate": hotplate, "ph": newPH(w, beaker),
		"feeder": feeder, "balance": newBalance(w, flask),
		"crystalliser": crystalliser, "turbidity": newTurbidity(w, slurry),
	}
	w.bodies = []body{burette, feeder, flask, hotplate, beaker, crystalliser, slurry}
	return w
}
