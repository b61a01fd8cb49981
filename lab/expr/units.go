package expr

import (
	"fmt"
	"strings"

	"labgate/lab"
)

// kelvin is the unit of differences of temperatures.
var kelvin = lab.Q(0, "K").Unit

// fits reports whether a dimension can still be written as a unit.
func fits(d lab.Dim) bool {
	for _, e := range []int8{d.L, d.M, d.T, d.I, d.Θ, d.N, d.J, d.A} {
		if e > maxExponent || e < -maxExponent {
			return false
		}
	}
	return true
}

// difference is the dimension of a difference of two values.
func difference(d lab.Dim) lab.Dim {
	d.Point = false
	return d
}

// pick is the unit in which two operands of one dimension meet.
func pick(a, b *node) lab.Unit {
	if a.constant && !b.constant {
		return b.typ.Unit
	}
	return a.typ.Unit
}

// conv brings a number to another unit of its dimension.
func conv(n *node, u lab.Unit) *node {
	if n.typ.Unit == u {
		return n
	}
	w := *n
	w.typ = lab.Type{Kind: lab.Number, Unit: u}
	if n.op == opNumber {
		if q, err := (lab.Quantity{Value: n.num, Unit: n.typ.Unit}).In(u); err == nil {
			w.num, w.unit = q.Value, u
			return &w
		}
	}
	return &node{op: opConv, src: n.src, pos: n.pos, end: n.end, label: n.label, kids: []*node{n}, typ: w.typ,
		constant: n.constant, band: n.band}
}

// baseUnit is the SI base unit of a dimension; degC for absolute temperatures,
// which have no other unit that ParseUnit knows.
func baseUnit(d lab.Dim) lab.Unit {
	switch d {
	case lab.None:
		return lab.One
	case lab.Temperature:
		return lab.DegC
	}
	over, under := "", ""
	for _, p := range []struct {
		e    int8
		name string
	}{{d.M, "kg"}, {d.L, "m"}, {d.T, "s"}, {d.I, "A"}, {d.Θ, "K"}, {d.N, "mol"}, {d.J, "cd"}, {d.A, "rad"}} {
		name := p.name
		if e := max(p.e, -p.e); e > 1 {
			name = fmt.Sprintf("%s%d", name, e)
		}
		switch {
		case p.e > 0 && over != "":
			over += "." + name
		case p.e > 0:
			over = name
		case p.e < 0:
			under += "/" + name
		}
	}
	if over == "" {
		over = "1"
	}
	return lab.Q(0, over+under).Unit
}

// article writes a dimension for people: "a volume".
func article(d lab.Dim) string {
	s := d.String()
	switch {
	case d == lab.None:
		return "a plain number"
	case strings.ContainsAny(s, ".0123456789-") || len(s) < 3 && s != "":
		return "a quantity in " + s
	case strings.IndexByte("aeiou", s[0]) >= 0:
		return "an " + s
	}
	return "a " + s
}
