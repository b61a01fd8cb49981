package expr

import (
	"labgate/lab"
)

// truth compiles a condition.
func (c *compiler) truth(n *node) truthFn {
	switch n.op {
	case opBool:
		t := truthOf(n.text == "true")
		return func(*State, *Env) Truth { return t }
	case opName:
		i, r := n.ref, &c.p.refs[n.ref]
		return func(_ *State, e *Env) Truth {
			rd := e.reading(i, r.slot)
			if ok, _ := r.usable(e, rd); !ok {
				return Unknown
			}
			return truthOf(rd.Value.Bool)
		}
	case opNot:
		f := c.truth(n.kids[0])
		return func(st *State, e *Env) Truth { return f(st, e).Not() }
	case opAnd, opOr, opVote:
		return c.several(n)
	case opStuck:
		return c.stuck(n)
	case opHeld:
		return c.held(n)
	}
	return c.comparison(n)
}

func (c *compiler) several(n *node) truthFn {
	fs := make([]truthFn, len(n.kids))
	for i, k := range n.kids {
		fs[i] = c.truth(k)
	}
	if n.op == opVote {
		need := n.need
		return func(st *State, e *Env) Truth {
			yes, no := 0, 0
			for _, f := range fs {
				switch f(st, e) {
				case True:
					yes++
				case False:
					no++
				}
			}
			switch {
			case yes >= need:
				return True
			case len(fs)-no < need:
				return False
			}
			return Unknown
		}
	}
	end, other := False, True // the answer that settles it, the answer if all agree
	if n.op == opOr {
		end, other = True, False
	}
	return func(st *State, e *Env) Truth {
		r := other
		for _, f := range fs {
			switch f(st, e) {
			case end:
				return end
			case Unknown:
				r = Unknown
			}
		}
		return r
	}
}

func (c *compiler) held(n *node) truthFn {
	i, p, d := n.win, c.p, int64(n.span)
	f := c.truth(n.kids[0])
	return func(st *State, e *Env) Truth {
		now := f(st, e)
		if now != True {
			return now
		}
		if !st.of(p) || !st.started {
			return Unknown
		}
		return st.wins[i].held(int64(e.Now.Sub(st.base)), d)
	}
}

func (c *compiler) stuck(n *node) truthFn {
	i, p, d := n.win, c.p, int64(n.span)
	f := c.span(n.kids[0])
	return func(st *State, e *Env) Truth {
		if s := f(st, e); !s.known() {
			return Unknown
		}
		if !st.of(p) || !st.started {
			return Unknown
		}
		w := &st.wins[i]
		return truthOf(w.have && w.newest-w.changed >= d)
	}
}

func (c *compiler) comparison(n *node) truthFn {
	a, b := n.kids[0], n.kids[1]
	switch {
	case a.typ.Kind == lab.Bool:
		x, y, ne := c.truth(a), c.truth(b), n.op == opNE
		return func(st *State, e *Env) Truth {
			t := same(x(st, e), y(st, e))
			if ne {
				return t.Not()
			}
			return t
		}
	case a.typ.Kind == lab.Enum:
		x, y, ne := c.word(a), c.word(b), n.op == opNE
		return func(st *State, e *Env) Truth {
			i, j := x(st, e), y(st, e)
			if i < 0 || j < 0 {
				return Unknown
			}
			return truthOf((i == j) != ne)
		}
	case n.band:
		x, y, o := c.span(a), c.span(b), n.op
		return func(st *State, e *Env) Truth { return x(st, e).compare(o, y(st, e)).settle() }
	}
	return compareNumbers(n.op, c.number(a), c.number(b))
}

// compareNumbers has a closure for each operator: the engine spends its time
// here.
func compareNumbers(o op, a, b numberFn) truthFn {
	known := func(x, y float64, yes bool) Truth {
		if x != x || y != y {
			return Unknown
		}
		return truthOf(yes)
	}
	switch o {
	case opLT:
		return func(st *State, e *Env) Truth { x, y := a(st, e), b(st, e); return known(x, y, x < y) }
	case opLE:
		return func(st *State, e *Env) Truth { x, y := a(st, e), b(st, e); return known(x, y, x <= y) }
	case opGT:
		return func(st *State, e *Env) Truth { x, y := a(st, e), b(st, e); return known(x, y, x > y) }
	case opGE:
		return func(st *State, e *Env) Truth { x, y := a(st, e), b(st, e); return known(x, y, x >= y) }
	case opEQ:
		return func(st *State, e *Env) Truth { x, y := a(st, e), b(st, e); return known(x, y, x == y) }
	case opNE:
		return func(st *State, e *Env) Truth { x, y := a(st, e), b(st, e); return known(x, y, x != y) }
	}
	return func(*State, *Env) Truth { return Unknown }
}
