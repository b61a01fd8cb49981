package configs

import (
	"slices"
	"strings"
	"time"

	"labgate/internal/strict"
)

// Access is an access file: who may ask for what, and what people must approve.
type Access struct {
	Principals []Principal
	Approvals  Approvals
}

// Approvals are the runs that people must approve before they begin: of
// protocols that a principal with inline: needs-approval brings, and of some
// protocols, whoever asks. The zero Approvals name no protocol.
type Approvals struct {
	Inline    Terms
	Protocols map[string]Terms // by name
}

// Terms say how many people of which roles must approve, and within what time.
// Zero values were not given.
type Terms struct {
	Persons int
	By      []Role
	Within  time.Duration
}

// maxPersons is more people than any policy can mean.
const maxPersons = 10

// approvals reads the part of the file, and checks that there is somebody who
// could approve.
func (r reader) approvals(n *strict.Node, ps []Principal) Approvals {
	var a Approvals
	if n == nil {
		return a
	}
	f := r.Map(n, "approvals section", "inline", "protocols")
	if in := f.Get("inline"); in != nil {
		a.Inline = r.terms(in, ps)
	}
	for _, e := range r.entries(f.Get("protocols"), "protocols") {
		if a.Protocols == nil {
			a.Protocols = map[string]Terms{}
		}
		t := r.terms(e.node, ps)
		a.Protocols[e.key] = t
		if len(t.roles()) > 0 && !slices.ContainsFunc(t.roles(), func(x Role) bool { return slices.Contains(a.Inline.roles(), x) }) {
			r.add(e.pos, "no_role", "let them have a role in common", "an inline protocol named %s could be approved by nobody: %s here, %s under inline", e.key, roleNames(t.roles()), roleNames(a.Inline.roles()))
		}
	}
	return a
}

func (r reader) terms(n *strict.Node, ps []Principal) Terms {
	f := r.Map(n, "set of terms", "persons", "by", "within")
	var t Terms
	if p := f.Get("persons"); p != nil {
		before := len(r.Issues)
		v := r.Int(p)
		if (v < 1 || v > maxPersons) && len(r.Issues) == before {
			r.add(p.Pos(), "out_of_bounds", "", "persons is %d; 1 to %d are possible", v, maxPersons)
			v = 1
		}
		t.Persons = int(v)
	}
	if l := f.Get("by"); l != nil {
		for _, e := range r.List(l) {
			if role := Role(r.word(e, "by", string(Scientist), string(Operator), string(Safety))); role != "" && !slices.Contains(t.By, role) {
				t.By = append(t.By, role)
			}
		}
		if len(t.By) == 0 {
			r.add(l.Pos(), "empty", "leave it out for operators and safety officers", "nobody could approve")
			return t
		}
	}
	t.Within = r.positive(f.Get("within"), "within")
	able := 0
	for _, p := range ps {
		if slices.Contains(t.roles(), p.Role) {
			able++
		}
	}
	if need := max(1, t.Persons); able < need {
		r.add(n.Pos(), "too_few_people", "list more, or ask for fewer", "%d must approve, and %d are listed who may (%s)", need, able, roleNames(t.roles()))
	}
	return t
}

// roles are who may approve; by default operators and safety officers.
func (t Terms) roles() []Role {
	if len(t.By) == 0 {
		return []Role{Operator, Safety}
	}
	return t.By
}

func roleNames(roles []Role) string {
	var s []string
	for _, r := range roles {
		s = append(s, string(r))
	}
	return strings.Join(s, " or ")
}
