package analysis

import (
	"fmt"
	"math"
	"regexp"
	"strings"

	"labgate/internal/strict"
)

// limit widens each bound by a tenth, and to twice as much.
func (m *mutator) limit(f *strict.Fields) {
	m.wider("max", f.Get("max"), +1, false)
	m.wider("min", f.Get("min"), -1, false)
	m.wider("step", f.Get("step"), +1, false)
	for _, key := range []string{"min", "max", "step", "change", "total"} {
		if f.Get(key) != nil {
			m.dropBound(f, key)
		}
	}
	m.window("change", f.Get("change"))
	m.window("total", f.Get("total"))
	if t := f.Get("together"); t != nil {
		if e, ok := m.doc.dropKey(f, "together"); ok {
			m.add(Loosened, "together", "together: true", "each alone", "a case that splits the amount over two of the commands", nil, e)
		}
	}
}

func (m *mutator) dropBound(f *strict.Fields, key string) {
	if e, ok := m.doc.dropKey(f, key); ok {
		m.add(Dropped, key, f.Get(key).Text(), "nothing", "a case beyond "+key, nil, e)
	}
}

// wider moves a bound outwards. A count moves by whole numbers.
func (m *mutator) wider(key string, n *strict.Node, dir float64, count bool) {
	if n == nil {
		return
	}
	for _, k := range []struct {
		name string
		by   float64
	}{{"tenth", 0.1}, {"double", 1}} {
		m.number(Moved, key+"."+k.name, n, func(v float64) float64 { return v + dir*away(v, k.by, count) }, "a case just beyond "+key+" "+n.Text())
	}
}

// away is a part of a number; of 0, that part of five.
func away(v, part float64, count bool) float64 {
	d := part * math.Abs(v)
	if v == 0 {
		d = 5 * part
	}
	if count {
		d = math.Max(1, math.Ceil(d))
	}
	return d
}

// window widens "40 K per 10 min": more of it, or in less time.
func (m *mutator) window(key string, n *strict.Node) {
	s := m.doc.scalar(n)
	if s == nil {
		return
	}
	amount, per, ok := strings.Cut(s.text, " per ")
	if !ok {
		return
	}
	for _, k := range []struct {
		name string
		by   float64
	}{{"tenth", 1.1}, {"double", 2}} {
		to := scaled(amount, func(v float64) float64 { return k.by * v })
		m.add(Moved, key+"."+k.name, amount, to, "a case just beyond "+key+" "+s.text, nil, s.edit(0, len(amount), to))
	}
	start := len(amount) + len(" per ")
	start += len(s.text[start:]) - len(strings.TrimLeft(s.text[start:], " "))
	shorter := scaled(per, func(v float64) float64 { return v / 2 })
	m.add(Loosened, key+".per", per, shorter, "a case whose parts are almost "+strings.TrimSpace(per)+" apart", nil, s.edit(start, len(s.text), shorter))
}

var budgetForm = regexp.MustCompile(`^\s*(sum|count)\s*\((.*)\)\s*per\s+(.*?)\s*$`)

// budget lets more be used, forgets commands, and counts for less.
func (m *mutator) budget(f *strict.Fields) {
	s := m.doc.scalar(f.Get("budget"))
	if s == nil {
		return
	}
	parts := budgetForm.FindStringSubmatchIndex(s.text)
	if parts == nil {
		return
	}
	m.wider("max", f.Get("max"), +1, s.text[parts[2]:parts[3]] == "count")
	terms := split(s.text, parts[4], parts[5])
	for i, t := range terms {
		if len(terms) < 2 {
			break
		}
		e := s.edit(t[0], terms[min(i+1, len(terms)-1)][0], "") // with the comma after it
		if i > 0 {
			e = s.edit(terms[i-1][1], t[1], "") // with the one before it
		}
		m.add(Dropped, fmt.Sprintf("term.%d", i+1), s.text[t[0]:t[1]], "nothing", "a case that uses it up with this command", nil, e)
	}
	if scope := s.text[parts[6]:parts[7]]; scope != "command" {
		m.add(Loosened, "per", scope, "command", "a case that uses it up with two commands", nil, s.edit(parts[6], parts[7], "command"))
	}
}

// split cuts a list at the commas that stand outside brackets, without the
// blanks around.
func split(text string, from, to int) [][2]int {
	var list [][2]int
	depth, start := 0, from
	cut := func(end int) {
		a, b := start, end
		for a < b && blank(text[a]) {
			a++
		}
		for b > a && blank(text[b-1]) {
			b--
		}
		list = append(list, [2]int{a, b})
		start = end + 1
	}
	for i := from; i < to; i++ {
		switch text[i] {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				cut(i)
			}
		}
	}
	cut(to)
	return list
}
