package expr

// Truth is three-valued. The zero Truth is Unknown: what nobody established
// is not known.
type Truth uint8

// The values of a condition.
const (
	Unknown Truth = iota
	False
	True
)

var truthNames = [...]string{"unknown", "false", "true"}

// String is the truth value as written in messages.
func (t Truth) String() string {
	if int(t) < len(truthNames) {
		return truthNames[t]
	}
	return truthNames[Unknown]
}

// Not is the negation; the negation of Unknown is Unknown.
func (t Truth) Not() Truth {
	switch t {
	case False:
		return True
	case True:
		return False
	}
	return Unknown
}

func truthOf(b bool) Truth {
	if b {
		return True
	}
	return False
}

// Truths is a set of truth values: those that a condition may take.
type Truths uint8

func setOf(ts ...Truth) Truths {
	var s Truths
	for _, t := range ts {
		s |= 1 << t
	}
	return s
}

// anyTruth holds all three.
const anyTruth Truths = 1<<Unknown | 1<<False | 1<<True

// Has reports whether t is in the set.
func (s Truths) Has(t Truth) bool { return s&(1<<t) != 0 }

// Prospect says how a condition fares over all readings within given ranges.
// The zero Prospect is Maybe.
type Prospect uint8

// The prospects. Always and Never exclude Unknown: "never" is known to be
// False for every reading, not merely never True.
const (
	Maybe Prospect = iota
	Never
	Always
)

// String is the prospect as written in messages.
func (p Prospect) String() string {
	switch p {
	case Never:
		return "never"
	case Always:
		return "always"
	}
	return "maybe"
}

func (s Truths) prospect() Prospect {
	switch s {
	case 1 << True:
		return Always
	case 1 << False:
		return Never
	}
	return Maybe
}

func (s Truths) not() Truths {
	r := s & (1 << Unknown)
	if s.Has(True) {
		r |= 1 << False
	}
	if s.Has(False) {
		r |= 1 << True
	}
	return r
}

// combine is the set of f(a, b) for all members.
func (s Truths) combine(o Truths, f func(a, b Truth) Truth) Truths {
	var r Truths
	for a := Unknown; a <= True; a++ {
		for b := Unknown; b <= True; b++ {
			if s.Has(a) && o.Has(b) {
				r |= 1 << f(a, b)
			}
		}
	}
	return r
}

func and(a, b Truth) Truth {
	switch {
	case a == False || b == False:
		return False
	case a == True && b == True:
		return True
	}
	return Unknown
}

func or(a, b Truth) Truth { return and(a.Not(), b.Not()).Not() }

// same is the equality of two conditions.
func same(a, b Truth) Truth {
	if a == Unknown || b == Unknown {
		return Unknown
	}
	return truthOf(a == b)
}
