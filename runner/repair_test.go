package runner_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
	"labgate/runner"
)

// TestRepair: a planner that understands nothing, and only puts the nearest
// value that a verdict names where the verdict says, gets proposals accepted
// that began out of bounds. Their faults are drawn: one input or several, a
// little beyond a bound or far, in another unit of the same dimension, a word
// that is none of the choices, a fraction for a whole number, and values that
// the protocol allows but the lab's rules do not.
func TestRepair(t *testing.T) {
	const proposals, tries = 500, 3
	rnd := rand.New(rand.NewPCG(1, 2))
	accepted, left := 0, map[string]int{}
	o := newOffice(t)
	for n := range proposals {
		p := o.opts.Library[rnd.IntN(len(o.opts.Library))]
		for len(p.Inputs) == 0 {
			p = o.opts.Library[rnd.IntN(len(o.opts.Library))]
		}
		inputs := outOfBounds(rnd, p)
		v := o.repaired(fmt.Sprint("r", n), p, inputs, tries)
		if v.Decision == messages.AcceptedDecision {
			accepted++
			continue
		}
		left[v.Issues[0].Code]++
		if len(left) < 5 {
			t.Logf("%s %v: %v", p.Name, inputs, v.Issues)
		}
	}
	t.Logf("%d of %d accepted within %d tries; left: %v", accepted, proposals, tries, left)
	if accepted < proposals*9/10 {
		t.Errorf("only %d of %d", accepted, proposals)
	}
}

// repaired proposes, and puts every nearest value in its place, up to a number
// of repairs. It returns the last verdict.
func (o *office) repaired(key string, p *protocols.Protocol, inputs map[string]lab.Value, tries int) messages.Verdict {
	o.Helper()
	for try := range tries + 1 {
		given, err := json.Marshal(inputs)
		if err != nil {
			o.Fatal(err)
		}
		o.core = runner.New(o.opts) // the queue is another test's matter
		o.propose("planner_1", proposal(fmt.Sprint(key, "-", try), p.Name+"@"+p.Version, string(given[1:len(given)-1])))
		v := o.verdicts[len(o.verdicts)-1]
		if try == 0 && v.Decision == messages.AcceptedDecision {
			o.Errorf("%s: %s was accepted as it was", p.Name, given)
		}
		if v.Decision == messages.AcceptedDecision || try == tries {
			return v
		}
		for _, i := range v.Issues {
			if name, ok := strings.CutPrefix(i.Path, "inputs."); ok && i.Nearest != nil {
				inputs[name] = *i.Nearest
			}
		}
	}
	return messages.Verdict{}
}

// outOfBounds are inputs of which at least one is not allowed.
func outOfBounds(rnd *rand.Rand, p *protocols.Protocol) map[string]lab.Value {
	inputs := map[string]lab.Value{}
	bad := rnd.IntN(len(p.Inputs))
	for i, in := range p.Inputs {
		if i != bad && rnd.IntN(3) > 0 {
			if in.Default == nil && in.Min != nil {
				inputs[in.Name] = *in.Min
			}
			continue
		}
		inputs[in.Name] = beyond(rnd, in)
	}
	return inputs
}

// beyond is a value outside an input's bounds.
func beyond(rnd *rand.Rand, p protocols.Input) lab.Value {
	by := []float64{1e-3, 0.1, 1, 30, 1e4}[rnd.IntN(5)]
	if p.Type.Kind == lab.Integer {
		by = math.Ceil(by)
	}
	switch {
	case p.Type.Kind == lab.Enum:
		return lab.TextValue("something else")
	case p.Max != nil && (p.Min == nil || rnd.IntN(2) == 0):
		v := *p.Max
		v.Num += by * max(1, math.Abs(v.Num))
		return v
	case p.Min != nil:
		v := *p.Min
		v.Num -= by * max(1, math.Abs(v.Num))
		return v
	}
	return lab.TextValue("nonsense")
}
