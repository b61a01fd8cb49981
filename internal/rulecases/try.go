package rulecases

import (
	"strings"
	"time"

	"labgate/internal/strict"
	"labgate/lab"
)

// Decision is what the gate says of one command.
type Decision struct {
	Allow  bool
	Issues lab.Issues // every reason of a refusal
	Inputs []lab.Used // the readings of the rules that were asked
	Rules  []string   // that were asked, or bound it
}

// Set reads "name = value" as a case's given does.
func Set(l *lab.Lab, text string) (Setting, lab.Issues) {
	path, v, ok := strings.Cut(text, "=")
	p := &parser{Decoder: &strict.Decoder{}, lab: l}
	if !ok {
		p.add(lab.Pos{}, "bad_value", "as in room.airflow=0.1m/s", "%q sets nothing", text)
		return Setting{}, p.Issues
	}
	id, spec, err := l.ResolveProperty(strings.TrimSpace(path))
	if err != nil {
		p.add(lab.Pos{}, "unknown_name", "", "%v", err)
		return Setting{}, p.Issues
	}
	s, ok := p.told(lab.Pos{}, id, spec.Type, strings.TrimSpace(v), path)
	if !ok {
		return Setting{}, p.Issues
	}
	return Setting{s}, nil
}

// Setting is what a property is told to be.
type Setting struct{ s setting }

// Property is the one that is set.
func (s Setting) Property() lab.PropertyID { return s.s.id }

// Try asks for one command, with everything healthy but for what is given.
func (r *Runner) Try(given []Setting, text string) (Decision, error) {
	id, args, err := r.lab.ResolveCall(text)
	if err != nil {
		return Decision{}, err
	}
	var list []setting
	for _, g := range given {
		list = append(list, g.s)
	}
	b, err := newBench(r.lab, r.rules, r.nominal, list)
	if err != nil {
		return Decision{}, err
	}
	b.advance(b.now.Add(time.Second))
	b.ask(&step{do: &call{id: id, args: args, text: text}, notAfter: time.Minute})
	d := Decision{Allow: true, Rules: r.rules.For(id)}
	o := b.outcome(b.lastID)
	if o.State == lab.Refused || !o.Accepted {
		d.Allow = false
		d.Issues = b.lastReply.Issues
		if o.Outcome != nil && len(o.Outcome.Issues) > 0 {
			d.Issues = o.Outcome.Issues
		}
	}
	seen := map[string]bool{}
	for _, g := range r.rules.Guards(id) {
		for _, f := range g.Formulas() {
			for _, slot := range f.Program.Slots() {
				p, ok := r.rules.PropertyAt(slot)
				if !ok || seen[p.String()] {
					continue
				}
				seen[p.String()] = true
				d.Inputs = append(d.Inputs, b.used(p))
			}
		}
	}
	return d, nil
}

// used is a property as the engine knows it now.
func (b *bench) used(id lab.PropertyID) lab.Used {
	r := b.core.Engine().Reading(id)
	u := lab.Used{Signal: id.String(), Quality: r.Quality}
	if !r.Received.IsZero() {
		u.AgeMS = float64(r.Age(b.now).Milliseconds())
	}
	if r.Value.Usable() {
		v := r.Value
		u.Value = &v
	}
	if ok, why := r.Fresh(b.now, b.byID[id].maxAge); !ok {
		u.Why = why
	}
	return u
}
