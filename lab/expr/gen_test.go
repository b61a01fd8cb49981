package expr

import (
	"fmt"
	"math"
	"strings"
	"time"

	"labgate/lab"
)

// choice draws a number from 0 to n-1: from rapid, from a seeded generator, or
// from the bytes of a fuzz input.
type choice func(n int) int

func one[T any](c choice, of ...T) T { return of[c(len(of))] }

func numberType(unit string) lab.Type {
	return lab.Type{Kind: lab.Number, Unit: lab.Q(0, unit).Unit}
}

// world is the scope of the generated expressions.
var world = MapScope{
	"ta": {0, numberType("degC"), time.Second}, "tb": {1, numberType("degC"), time.Second}, "tc": {2, numberType("degC"), 2 * time.Second},
	"tf": {3, numberType("degF"), time.Second}, "va": {4, numberType("mL"), time.Second}, "vb": {5, numberType("uL"), 0},
	"flow": {6, numberType("mL/min"), time.Second}, "wait": {7, numberType("s"), 0}, "x": {8, numberType("1"), 0},
	"share": {9, numberType("%"), time.Second}, "n": {10, lab.Type{Kind: lab.Integer}, time.Second},
	"on": {11, boolType, time.Second}, "off": {12, boolType, 0},
	"state":       {13, lab.Type{Kind: lab.Enum, Enum: []string{"idle", "execute", "aborted"}}, time.Second},
	"other":       {14, lab.Type{Kind: lab.Enum, Enum: []string{"idle", "execute", "aborted"}}, 0},
	"tripped(gr)": {15, boolType, 0},
	"dk":          {16, numberType("K"), time.Second},
}

const worldSlots = 17

// timed are the numbers that windows may look at, by dimension: their readings
// have times.
var symbols = map[string][]string{
	"temp": {"ta", "tb", "tc", "tf"}, "diff": {"dk"}, "volume": {"va", "vb"}, "flow": {"flow"}, "time": {"wait"}, "none": {"x", "share", "n"},
}

var literals = map[string][]string{
	"temp":   {"80 degC", "20.5 degC", "-5 degC", "176 degF"},
	"diff":   {"5 K", "0.5K", "200 mK"},
	"volume": {"1 mL", "0.3 mL", "250 uL", "1e300 L"},
	"flow":   {"6 mL/min", "1 uL/s"},
	"time":   {"2s", "1 min", "0 s"},
	"none":   {"2", "0.99", "50 %", "0", "1e200"},
}

// gen writes random expressions that are well typed by construction.
type gen struct {
	c       choice
	windows bool
}

var dims = []string{"temp", "diff", "volume", "flow", "time", "none"}

// number writes a number of a dimension.
func (g gen) number(dim string, depth int) string {
	sub := func(d string) string { return g.number(d, depth-1) }
	if depth <= 0 {
		if g.c(3) == 0 {
			return one(g.c, literals[dim]...)
		}
		return one(g.c, symbols[dim]...)
	}
	if g.windows && g.c(5) == 0 {
		if s := g.window(dim, depth); s != "" {
			return s
		}
	}
	switch k := g.c(8); {
	case k == 0:
		return fmt.Sprintf("%s(%s, %s)", one(g.c, "min", "max"), sub(dim), sub(dim))
	case k == 1 && dim != "none":
		return g.voted(dim)
	case k <= 3:
		return sub(dim)
	case dim == "temp":
		return fmt.Sprintf("(%s %s %s)", sub("temp"), one(g.c, "+", "-"), sub("diff"))
	case dim == "diff" && k == 4:
		return fmt.Sprintf("(%s - %s)", sub("temp"), sub("temp"))
	case dim == "time" && k == 4:
		return fmt.Sprintf("(%s / %s)", sub("volume"), sub("flow"))
	case dim == "volume" && k == 4:
		return fmt.Sprintf("(%s * %s)", sub("flow"), sub("time"))
	case dim == "flow" && k == 4:
		return fmt.Sprintf("(%s / %s)", sub("volume"), sub("time"))
	case dim == "none" && k == 4:
		d := one(g.c, "diff", "volume", "flow", "time")
		return fmt.Sprintf("(%s / %s)", sub(d), sub(d))
	case k == 5:
		return one(g.c, "abs(", "-(", "(") + sub(dim) + ")"
	case k == 6:
		return fmt.Sprintf("(%s %s %s)", sub(dim), one(g.c, "*", "/"), g.number("none", depth-1))
	}
	return fmt.Sprintf("(%s %s %s)", sub(dim), one(g.c, "+", "-"), sub(dim))
}

func (g gen) voted(dim string) string {
	within := map[string]string{"temp": "5 K", "diff": "0.5 K", "volume": "300 uL", "flow": "1 mL/min", "time": "1 s"}[dim]
	names := symbols[dim]
	if len(names) < 2 {
		return one(g.c, names...)
	}
	return fmt.Sprintf("voted(2, %s, %s)", within, strings.Join(names, ", "))
}

// window writes rate or mean over readings, which have times.
func (g gen) window(dim string, depth int) string {
	w := one(g.c, "1 s", "500 ms", "2 s")
	switch {
	case dim == "flow":
		return fmt.Sprintf("rate(%s, %s)", g.timed("volume", depth-1), w)
	case dim == "none" && g.c(2) == 0:
		return fmt.Sprintf("(rate(%s, %s) * 1 s)", g.timed("none", depth-1), w)
	case dim == "diff":
		return fmt.Sprintf("(rate(%s, %s) * 1 s)", g.timed("temp", depth-1), w)
	}
	return fmt.Sprintf("mean(%s, %s)", g.timed(dim, depth-1), w)
}

func (g gen) timed(dim string, depth int) string {
	s := one(g.c, symbols[dim]...)
	switch {
	case g.c(3) == 0 && len(symbols[dim]) > 1 && dim != "none":
		return g.voted(dim)
	case g.c(3) == 0 && depth > 0:
		return g.window(dim, 0)
	case g.c(3) == 0 && dim != "none":
		return fmt.Sprintf("min(%s, %s)", s, one(g.c, symbols[dim]...))
	}
	return s
}

// truth writes a condition.
func (g gen) truth(depth int) string {
	if depth <= 0 {
		switch g.c(8) {
		case 0:
			return one(g.c, "true", "false")
		case 1:
			return "tripped(gr)"
		case 2:
			return fmt.Sprintf("state %s %s", one(g.c, "==", "!="), one(g.c, "idle", "execute", "other"))
		case 3:
			return fmt.Sprintf("quality(%s) %s %s", one(g.c, "ta", "on", "state", "x"), one(g.c, "==", "!="), one(g.c, "good", "bad", "uncertain"))
		}
		return one(g.c, "on", "off")
	}
	sub := func() string { return g.truth(depth - 1) }
	switch g.c(10) {
	case 9:
		return fmt.Sprintf("age(%s) %s %s", one(g.c, symbols[one(g.c, dims...)]...), one(g.c, "<", ">="), one(g.c, "150 ms", "1 s", "2 s"))
	case 0:
		return "not (" + sub() + ")"
	case 1:
		return fmt.Sprintf("(%s and %s and %s)", sub(), sub(), sub())
	case 2:
		return fmt.Sprintf("(%s or %s)", sub(), sub())
	case 3:
		return fmt.Sprintf("vote(%d, %s, %s, %s)", 1+g.c(3), sub(), sub(), sub())
	case 4:
		return fmt.Sprintf("((%s) %s (%s))", sub(), one(g.c, "==", "!="), sub())
	case 5:
		if g.windows {
			if one(g.c, "held", "stuck") == "stuck" {
				return fmt.Sprintf("stuck_for(%s, %s)", one(g.c, symbols[one(g.c, dims...)]...), one(g.c, "500 ms", "1 s", "2 s"))
			}
			return fmt.Sprintf("held(%s or off, %s)", sub(), one(g.c, "500 ms", "1 s", "2 s"))
		}
	}
	d := one(g.c, dims...)
	return fmt.Sprintf("%s %s %s", g.number(d, depth-1), one(g.c, "<", "<=", ">", ">=", "==", "!="), g.number(d, depth-1))
}

// root writes a condition or a number.
func (g gen) root(depth int) string {
	if g.c(3) == 0 {
		return g.number(one(g.c, dims...), depth)
	}
	return g.truth(depth)
}

// grid is the step of all times in generated histories.
const grid = 50 * time.Millisecond

var epoch0 = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// reading draws a reading for a symbol: mostly good, often not.
func drawReading(c choice, s Symbol, now time.Time) lab.Reading {
	r := lab.Reading{Value: drawValue(c, s.Type), Quality: lab.Good, Received: now.Add(-time.Duration(c(4)) * grid), Epoch: 1}
	if c(4) == 0 {
		r.Source = r.Received.Add(-time.Duration(c(6)) * grid)
	}
	switch c(24) {
	case 0:
		r.Quality = lab.Bad
	case 1:
		r.Quality = lab.Uncertain
	case 2:
		r.Received = now.Add(-5 * time.Second)
	case 3:
		r.Received = now.Add(time.Duration(c(30)) * grid)
	case 4:
		r = lab.Reading{}
	case 5:
		r.Value = one(c, lab.BoolValue(true), lab.TextValue("idle"), lab.EnumValue("gone"), lab.IntegerValue(3), lab.NumberValue(lab.Q(3, "kg")))
	}
	return r
}

func drawValue(c choice, t lab.Type) lab.Value {
	switch t.Kind {
	case lab.Bool:
		return lab.BoolValue(c(2) == 0)
	case lab.Enum:
		return lab.EnumValue(one(c, t.Enum...))
	case lab.Integer:
		return lab.IntegerValue(int64(one(c, 0, 1, 2, 5, -3, 1<<53)))
	}
	v := one(c, 0, 1, 2, 5, 80, 80.5, 82, 84, 20.5, 0.3, 0.1, -5, 300, math.Copysign(0, -1))
	if c(12) == 0 {
		v = one(c, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, -1e300, 5e-324)
	}
	u := t.Unit
	switch {
	case c(10) > 0:
	case u == lab.DegC:
		u = lab.Q(0, "degF").Unit
	case u.Dim() == lab.None:
		u = lab.Percent
	case u.Dim() == lab.Q(0, "mL").Unit.Dim():
		u = lab.Q(0, "L").Unit
	}
	return lab.NumberValue(lab.Quantity{Value: v, Unit: u})
}

func drawSlots(c choice, now time.Time) []lab.Reading {
	slots := make([]lab.Reading, worldSlots)
	for i := range slots {
		slots[i] = drawReading(c, bySlot[i], now)
	}
	return slots
}

var bySlot = func() map[int]Symbol {
	m := map[int]Symbol{}
	for _, s := range world {
		m[s.Slot] = s
	}
	return m
}()
