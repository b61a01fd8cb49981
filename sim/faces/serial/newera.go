package serial

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"labgate/sim"
)

// The New Era NE-1000 in its basic mode.
//
//	command   [address] command CR      spaces and case do not matter
//	answer    STX address(2) status [data] ETX
//	status    I infusing, W withdrawing, S stopped, P paused; A?x an alarm,
//	          which takes the place of one answer, and of the command
//	data      ? not understood, ?NA not applicable now, ?OOR out of range
//
// A number has at most four digits, at most three of them after the point.
const (
	stx      = 0x02
	etx      = 0x03
	firmware = "NE1000V3.93"
)

// rateUnit is how the pump writes rates: volume and time.
type rateUnit struct {
	name  string
	perML float64 // how many of them are 1 mL/min
}

var rateUnits = []rateUnit{{"UM", 1000}, {"MM", 1}, {"UH", 60000}, {"MH", 60}}

// pumps is a multi-drop line of pumps; the index is the address.
type pumps struct{ at []*newEra }

// newEra is what a pump keeps about its own wire.
type newEra struct {
	instrument string
	rate       rateUnit
	ml         bool // volumes in mL, otherwise in µL
}

func newPumps(instruments ...string) *pumps {
	p := &pumps{}
	for _, n := range instruments {
		p.at = append(p.at, &newEra{instrument: n, rate: rateUnits[1], ml: true})
	}
	return p
}

func (p *pumps) answer(w *sim.World, command []byte, tooLong bool) answer {
	s := strings.ToUpper(strings.ReplaceAll(string(command), " ", ""))
	address, digits := 0, 0
	for digits < 2 && digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
		address = 10*address + int(s[digits]-'0')
		digits++
	}
	if address >= len(p.at) {
		return answer{} // nobody lives there
	}
	d := p.at[address]
	pump := w.Pump(d.instrument)
	if pump == nil || w.Frozen(d.instrument) {
		return answer{}
	}
	if letter, alarm := pump.TakeAlarm(); alarm {
		return answer{d.instrument, frame(address, "A?"+string(letter))}
	}
	data := "?"
	if !tooLong {
		data = d.do(pump, s[digits:])
	}
	return answer{d.instrument, frame(address, string(pump.Status())+data)}
}

// mistaken comes from the next address.
func (p *pumps) mistaken(a answer) []byte {
	out := append([]byte(nil), a.data...)
	if len(out) >= 4 {
		address := (int(out[1]-'0')*10 + int(out[2]-'0') + 1) % max(1, len(p.at))
		copy(out[1:3], fmt.Sprintf("%02d", address))
	}
	return out
}

func frame(address int, data string) []byte {
	return append(fmt.Appendf([]byte{stx}, "%02d%s", address, data), etx)
}

// do acts on a command without its address and returns the answer's data.
func (d *newEra) do(p *sim.Pump, s string) string {
	if s == "" {
		return ""
	}
	name := s
	if len(s) > 3 {
		name = s[:3]
	}
	arg := strings.TrimPrefix(s, name)
	switch name {
	case "DIA":
		return d.diameter(p, arg)
	case "RAT":
		return d.rates(p, arg)
	case "VOL":
		return d.volume(p, arg)
	case "DIR":
		return d.direction(p, arg)
	case "CLD":
		switch arg {
		case "INF", "WDR":
			return refusal(p.ClearDispensed(arg == "INF"))
		}
		return "?"
	}
	if arg != "" {
		return "?"
	}
	switch name {
	case "RUN":
		return refusal(p.Run())
	case "STP":
		return refusal(p.Stop())
	case "DIS":
		infused, withdrawn := p.Dispensed()
		return "I" + d.writeVolume(infused) + "W" + d.writeVolume(withdrawn) + d.volumeUnit()
	case "VER":
		return firmware
	}
	return "?"
}

func (d *newEra) diameter(p *sim.Pump, arg string) string {
	if arg == "" {
		return writeNumber(p.Diameter())
	}
	mm, bad := readNumber(arg)
	if bad != "" {
		return bad
	}
	if r := refusal(p.SetDiameter(mm)); r != "" {
		return r
	}
	d.ml = mm > 14 // the manual's default; VOL ML and VOL UL say otherwise
	return ""
}

func (d *newEra) rates(p *sim.Pump, arg string) string {
	if arg == "" {
		rate := p.RateSet()
		if p.Running() {
			rate = p.Rate()
		}
		return writeNumber(rate*d.rate.perML) + d.rate.name
	}
	unit := d.rate
	for _, u := range rateUnits {
		if n, ok := strings.CutSuffix(arg, u.name); ok {
			unit, arg = u, n
			break
		}
	}
	rate, bad := readNumber(arg)
	if bad != "" {
		return bad
	}
	if unit != d.rate && p.Running() {
		return "?NA" // another number is allowed while it runs, another unit is not
	}
	if r := refusal(p.SetRate(rate / unit.perML)); r != "" {
		return r
	}
	d.rate = unit
	return ""
}

func (d *newEra) volume(p *sim.Pump, arg string) string {
	switch arg {
	case "":
		return d.writeVolume(p.VolumeSet()) + d.volumeUnit()
	case "ML", "UL":
		if p.Running() {
			return "?NA"
		}
		d.ml = arg == "ML"
		return ""
	}
	v, bad := readNumber(arg)
	if bad != "" {
		return bad
	}
	if !d.ml {
		v /= 1000
	}
	return refusal(p.SetVolume(v))
}

func (d *newEra) direction(p *sim.Pump, arg string) string {
	switch arg {
	case "":
		if p.Infusing() {
			return "INF"
		}
		return "WDR"
	case "INF":
		return refusal(p.SetDirection(true))
	case "WDR":
		return refusal(p.SetDirection(false))
	case "REV":
		return refusal(p.SetDirection(!p.Infusing()))
	}
	return "?"
}

func (d *newEra) volumeUnit() string {
	if d.ml {
		return "ML"
	}
	return "UL"
}

func (d *newEra) writeVolume(ml float64) string {
	if d.ml {
		return writeNumber(ml)
	}
	return writeNumber(ml * 1000)
}

// refusal is how the pump says that it will not.
func refusal(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, sim.ErrOutOfRange):
		return "?OOR"
	}
	return "?NA"
}

// readNumber reads the pump's numbers. Letters and signs are not understood;
// more digits than the pump has are out of range.
func readNumber(s string) (v float64, bad string) {
	digits, decimals, point := 0, 0, false
	for _, c := range s {
		switch {
		case c == '.' && !point:
			point = true
		case c >= '0' && c <= '9':
			digits++
			if point {
				decimals++
			}
		default:
			return 0, "?"
		}
	}
	if digits == 0 {
		return 0, "?"
	}
	if digits > 4 || decimals > 3 {
		return 0, "?OOR"
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, "?"
	}
	return v, ""
}

// writeNumber writes four digits, at most three of them after the point. A
// sensor that is broken has none to show.
func writeNumber(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "NAN"
	}
	v = math.Max(0, v) // it has no sign to show either
	for decimals := 3; decimals >= 1; decimals-- {
		if s := strconv.FormatFloat(v, 'f', decimals, 64); len(s) <= 5 {
			return s
		}
	}
	return strconv.FormatFloat(math.Min(v, 9999), 'f', 0, 64)
}
