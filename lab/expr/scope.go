package expr

import (
	"fmt"
	"time"

	"labgate/lab"
)

// Symbol is what a name stands for: a slot of the caller's readings, with the
// type that its values have.
type Symbol struct {
	Slot   int
	Type   lab.Type
	MaxAge time.Duration // older readings are unknown; 0: never stale (an argument, an input)
}

// Scope resolves names at load. Its errors are shown to people as they are:
// they say what is wrong, with a did-you-mean.
type Scope interface {
	// Lookup finds a dotted name: "reactor.jacket.temperature".
	Lookup(name string) (Symbol, error)
	// Tripped finds the bool slot that tells whether a group is latched.
	Tripped(group string) (slot int, err error)
}

// Definer may be implemented by a Scope whose names can also stand for an
// expression: an interlock's signal. The definition is checked in the same
// scope, and its errors carry the definition's position. A definition that
// leads back to itself is an error.
type Definer interface {
	Define(name string) (src lab.Source, ok bool)
}

// MapScope is a Scope over a map. The slot of tripped(group) is the symbol
// named "tripped(group)".
type MapScope map[string]Symbol

// Lookup finds a name of the map.
func (m MapScope) Lookup(name string) (Symbol, error) {
	if s, ok := m[name]; ok {
		return s, nil
	}
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	return Symbol{}, fmt.Errorf("%s: no such name%s", name, didYouMean(name, names))
}

// Tripped finds the symbol "tripped(group)".
func (m MapScope) Tripped(group string) (int, error) {
	if s, ok := m["tripped("+group+")"]; ok {
		return s.Slot, nil
	}
	return 0, fmt.Errorf("%s: no such trip group", group)
}

func didYouMean(s string, candidates []string) string {
	if n := lab.Nearest(s, candidates); n != "" {
		return "; did you mean " + n + "?"
	}
	return ""
}
