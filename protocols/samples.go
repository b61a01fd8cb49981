package protocols

import (
	"strings"

	"labgate/internal/strict"
	"labgate/lab"
)

// MaxSamples bounds the samples of one protocol.
const MaxSamples = 1000

// Sample is one thing that is made or measured. Its id travels with the
// commands and the measurements that name it.
type Sample struct {
	Name  string
	Lot   string // where it comes from
	About string
	Pos   lab.Pos
}

// Sampled is what a step says of the sample that it is about.
type Sampled struct {
	Name string // declared; empty: that of the iteration
	Pos  lab.Pos

	text string
	slot int
}

// samples reads the samples: a list of names, or a map from names to lots.
func (r *parser) samples(n *strict.Node) {
	add := func(name string, at lab.Pos) *Sample {
		r.name("sample", name, at)
		if have := r.p.Sample(name); have != nil {
			r.add(at, "duplicate", "leave it out", "sample %q is there already, at %s", clip(name), have.Pos)
		}
		r.p.Samples = append(r.p.Samples, Sample{Name: name, Pos: at})
		return &r.p.Samples[len(r.p.Samples)-1]
	}
	switch {
	case n == nil:
	case n.IsList():
		for _, e := range r.list(n, "samples", MaxSamples) {
			before := len(r.Issues)
			if name := r.Text(e); len(r.Issues) == before {
				add(name, e.Pos())
			}
		}
	default:
		for _, e := range r.entries(n, "samples", MaxSamples) {
			s := add(e.key, e.pos)
			f := r.Map(e.node, "sample", "lot", "about")
			s.Lot, s.About = r.text(f.Get("lot"), "lot", maxText), r.text(f.Get("about"), "about", maxAbout)
		}
	}
	if n != nil && n.Kind() != strict.Scalar && len(r.p.Samples) == 0 && len(r.Issues) == 0 {
		r.add(n.Pos(), "empty", "leave it out", "samples names nothing")
	}
}

// Sample finds a sample; nil where there is none.
func (p *Protocol) Sample(name string) *Sample {
	for i := range p.Samples {
		if p.Samples[i].Name == name {
			return &p.Samples[i]
		}
	}
	return nil
}

func (p *Protocol) sampleNames() []string {
	names := make([]string, len(p.Samples))
	for i := range p.Samples {
		names[i] = p.Samples[i].Name
	}
	return names
}

// sampled reads which sample a step is about.
func (r *parser) sampled(n *strict.Node) *Sampled {
	if n == nil {
		return nil
	}
	before := len(r.Issues)
	text := r.Text(n)
	if len(r.Issues) > before {
		return nil
	}
	return &Sampled{Pos: n.Pos(), text: text, slot: -1}
}

// judged reads what a pass, a reject or a rework says.
func (r *parser) judged(s *Step, f *strict.Fields, n *strict.Node) {
	s.Sample = r.sampled(n)
	because := f.Require("because")
	if s.Text = strings.TrimSpace(r.text(because, "because", maxAbout)); because != nil && because.Kind() == strict.Scalar && s.Text == "" {
		r.add(because.Pos(), "empty", "say what was found", "because says nothing")
	}
}

// checkSample finds the sample that a step names: a declared one, or a value of
// a repeat around it.
func (r *parser) checkSample(s *Step, at *place) {
	x := s.Sample
	if x == nil {
		return
	}
	sc := &scope{r: r, at: at}
	if it := sc.item([]string{x.text}); it != nil {
		if it.Values[0].Kind != lab.Enum {
			r.add(x.Pos, "wrong_type", "over: {"+it.Name+": samples}", "%s is %s; a sample is wanted", x.text, kinds[it.Values[0].Kind])
		}
		x.slot = it.slot
		return
	}
	if r.p.Sample(x.text) == nil {
		hint := r.near(x.text, r.p.sampleNames())
		if len(r.p.Samples) == 0 {
			hint = "name it at the top of the file: samples: [" + clip(x.text) + "]"
		}
		r.add(x.Pos, "unknown_name", hint, "there is no sample %q", clip(x.text))
		return
	}
	x.Name = x.text
}

// SampleOf is the sample that a step is about now; nil where it names none.
func (v *Values) SampleOf(s *Step) *Sample {
	if s.Sample == nil {
		return nil
	}
	name := s.Sample.Name
	if s.Sample.slot >= 0 {
		name = v.env.Slots[s.Sample.slot].Value.Text
	}
	return v.plan.Protocol.Sample(name)
}
