package planner

import (
	"math"

	"labgate/lab"
)

// The protocol this planner runs, and the names of its inputs and outputs.
const (
	protocolName    = "gold-nanoparticles"
	protocolVersion = "1.2.0"

	inRatio       = "ratio"
	inTemperature = "temperature"
	inVolume      = "volume"
	outPeak       = "peak"
)

// The grids. A pump takes a volume of at most four digits, so volume times
// ratio must be a whole number of uL: 0.15 mL times steps of 0.02 is 3 uL.
const (
	volumeML        = 0.15
	ratioSteps      = 50 // a unit: steps of 0.02
	temperatureStep = 2  // a degC: steps of 0.5 degC
)

var (
	degC       = lab.DegC
	millilitre = lab.Q(0, "mL").Unit
	nanometre  = lab.Q(0, "nm").Unit
	inputUnits = map[string]lab.Unit{inRatio: lab.One, inTemperature: degC, inVolume: millilitre}
)

// setting is a place to measure at.
type setting struct {
	ratio       float64 // 1
	temperature float64 // degC
	volume      float64 // mL
}

func (s setting) inputs() map[string]lab.Quantity {
	return map[string]lab.Quantity{inRatio: {Value: s.ratio, Unit: lab.One}, inTemperature: {Value: s.temperature, Unit: degC}, inVolume: {Value: s.volume, Unit: millilitre}}
}

// with sets one input, given in its own unit.
func (s setting) with(name string, v float64) setting {
	switch name {
	case inRatio:
		s.ratio = v
	case inTemperature:
		s.temperature = v
	case inVolume:
		s.volume = v
	}
	return s
}

// get reads one input in its own unit.
func (s setting) get(name string) float64 {
	return map[string]float64{inRatio: s.ratio, inTemperature: s.temperature, inVolume: s.volume}[name]
}

// bound is an inclusive range of one input, in its own unit.
type bound struct{ min, max float64 }

// space is where experiments may be proposed. It starts with the protocol's
// own bounds; refusals tighten it.
type space struct {
	ratio, temperature bound
	volume             float64
}

// wide are the bounds that normalise: the protocol's own.
var wide = space{ratio: bound{0.2, 2}, temperature: bound{40, 92}, volume: volumeML}

// normalise maps a setting to 0…1 an axis. The ratio is taken by its
// logarithm: particle size follows it roughly as a power (Frens, 1973).
func normalise(s setting) [2]float64 {
	return [2]float64{
		math.Log(s.ratio/wide.ratio.min) / math.Log(wide.ratio.max/wide.ratio.min),
		(s.temperature - wide.temperature.min) / (wide.temperature.max - wide.temperature.min),
	}
}

// candidates are all settings on the grid, in a fixed order. A ratio whose
// volume the pump's wire can't carry exactly is none.
func (sp space) candidates() []setting {
	const slack = 1e-9 // 0.2 times 50 is no whole number in binary
	var out []setting
	for r := math.Ceil(sp.ratio.min*ratioSteps - slack); r <= sp.ratio.max*ratioSteps+slack; r++ {
		uL := 1000 * sp.volume * r / ratioSteps
		if math.Abs(uL-math.Round(uL)) > 1e-6 {
			continue
		}
		for t := math.Ceil(sp.temperature.min*temperatureStep - slack); t <= sp.temperature.max*temperatureStep+slack; t++ {
			out = append(out, setting{r / ratioSteps, t / temperatureStep, sp.volume})
		}
	}
	return out
}

// tighten learns from a refusal: a value beyond the nearest legal one is never
// proposed again.
func (sp *space) tighten(name string, got, nearest float64) {
	b := map[string]*bound{inRatio: &sp.ratio, inTemperature: &sp.temperature}[name]
	switch {
	case name == inVolume:
		sp.volume = nearest
	case b == nil:
	case got > nearest:
		b.max = min(b.max, nearest)
	case got < nearest:
		b.min = max(b.min, nearest)
	}
}

// spread places the i-th experiment (from 0) of the first, exploring ones: the
// additive recurrence of the plastic number, which fills the square evenly
// however many are drawn (Roberts, 2018), from a start that the seed gives.
// The outer tenth of each axis is left to the optimiser.
func (sp space) spread(seed uint64, i int) [2]float64 {
	const a0, a1 = 0.7548776662466927, 0.5698402909980532 // 1/p and 1/p² of p³ = p + 1
	s0, s1 := mix(seed), mix(seed+1)
	at := func(start uint64, a float64) float64 {
		_, f := math.Modf(float64(start>>11)/(1<<53) + a*float64(i+1))
		return 0.1 + 0.8*f
	}
	return [2]float64{at(s0, a0), at(s1, a1)}
}

// mix is the finaliser of splitmix64: near seeds give far starts.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
