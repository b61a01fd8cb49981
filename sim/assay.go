package sim

import (
	"fmt"
	"math"
	"time"

	"labgate/lab"
)

// The assay: a plate of 96 wells with cells, a dispenser that adds a compound to
// a well, and a reader that measures how many cells there are by their
// absorbance.
//
//	effect  E(c) = 1/(1 + (c/EC50)^h)
//	growth  A(t) = A0 + (A1·E(c) − A0·(1−E(c))/2)·(1 − exp(−t/τ))
//
// EC50 and the Hill slope h come from the seed, and each well differs a little.
const (
	Wells       = 96
	wellVolume  = 100.0 // uL
	stock       = 1000  // umol/L
	startCells  = 0.10  // absorbance
	fullCells   = 0.90
	growthTime  = 3600.0 // s, τ
	wellSpread  = 0.03   // from well to well
	readerNoise = 0.004
	mostShot    = 50.0 // uL at once
)

// NewAssay makes the plate with its dispenser and its reader.
func NewAssay(seed uint64, start time.Time) *World {
	w := newWorld(seed, start, "dispenser", "reader")
	p := &plate96{w: w, born: start.Round(0), key: source(seed, "plate")}
	p.ec50 = 2 * math.Pow(10, unit(mix(p.key))) // 2 to 20 umol/L
	p.hill = 0.9 + 0.6*unit(mix(p.key+1))
	w.devices = map[string]device{"dispenser": &dispenser{w: w, plate: p}, "reader": &reader{w: w, plate: p}}
	return w
}

// plate96 is what stands between the two.
type plate96 struct {
	w          *World
	born       time.Time
	key        uint64
	ec50, hill float64
	added      [Wells]float64 // uL of compound
}

// absorbance of a well now.
func (p *plate96) absorbance(well int) float64 {
	c := stock * p.added[well] / (wellVolume + p.added[well])
	effect := 1 / (1 + math.Pow(c/p.ec50, p.hill))
	grown := 1 - math.Exp(-p.w.now.Sub(p.born).Seconds()/growthTime)
	own := 1 + wellSpread*normalAt(p.key, uint64(well))
	return own * (startCells + (fullCells*effect-startCells*(1-effect)/2)*grown)
}

func well(args map[string]float64) (int, error) {
	n := int(args["well"])
	if n < 1 || n > Wells {
		return 0, fmt.Errorf("%w: well %d of %d", ErrOutOfRange, n, Wells)
	}
	return n - 1, nil
}

// dispenser adds a volume to a well at once, and counts all of it.
type dispenser struct {
	w     *World
	plate *plate96
	total float64 // uL, as its counter says
}

func (d *dispenser) reboot() { d.total = 0 }

func (d *dispenser) sensors() [][2]string { return [][2]string{{"head", "dispensed"}} }

func (d *dispenser) raw(component, property string) lab.Value {
	if component == "head" && property == "dispensed" {
		return number(d.total, unitUL)
	}
	return lab.Value{}
}

func (d *dispenser) commands() []command {
	return []command{{"head", "dispense", []param{{"well", lab.One, lab.Integer}, {"volume", unitUL, lab.Number}}}, {"head", "stop", nil}}
}

func (d *dispenser) duration(_, name string, _ map[string]float64) time.Duration {
	return map[string]time.Duration{"dispense": 300 * time.Millisecond}[name]
}

func (d *dispenser) do(_, name string, args map[string]float64) (map[string]lab.Value, error) {
	dead, err := d.w.gate(name, "dispenser", "head")
	if err != nil || name == "stop" {
		return nil, err
	}
	n, err := well(args)
	if v := args["volume"]; err == nil && !(v > 0 && v <= mostShot) {
		err = fmt.Errorf("%w: %v uL; above 0, at most %v", ErrOutOfRange, v, mostShot)
	}
	if err != nil {
		return nil, lab.E("sim: dispense", "dispenser", lab.KindDeviceRefused, err)
	}
	if !dead {
		d.plate.added[n] += args["volume"]
		d.total += args["volume"]
		c := d.w.counts["dispenser"]
		c.Doses, c.DosesDone, c.Dispensed = c.Doses+1, c.DosesDone+1, c.Dispensed+args["volume"]/1000
	}
	return nil, nil
}

// reader measures one well.
type reader struct {
	w     *World
	plate *plate96
	reads uint64
}

func (r *reader) reboot() {}

func (r *reader) sensors() [][2]string { return [][2]string{{"optics", "ready"}} }

func (r *reader) raw(component, property string) lab.Value {
	if component == "optics" && property == "ready" {
		return lab.BoolValue(true)
	}
	return lab.Value{}
}

func (r *reader) commands() []command {
	return []command{{"optics", "read", []param{{"well", lab.One, lab.Integer}}}}
}

func (r *reader) duration(string, string, map[string]float64) time.Duration {
	return 200 * time.Millisecond
}

func (r *reader) do(_, name string, args map[string]float64) (map[string]lab.Value, error) {
	dead, err := r.w.gate(name, "reader", "optics")
	if err != nil {
		return nil, err
	}
	n, err := well(args)
	if err != nil {
		return nil, lab.E("sim: read", "reader", lab.KindDeviceRefused, err)
	}
	a := 0.0 // the shutter stays shut
	if r.reads++; !dead {
		r.w.counts["reader"].Exposures++
		a = r.plate.absorbance(n)
	}
	return map[string]lab.Value{"absorbance": number(math.Max(0, a+readerNoise*normalAt(r.plate.key^golden, r.reads)), lab.One)}, nil
}
