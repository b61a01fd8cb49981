package twin_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"labgate/internal/twin"
	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
	"labgate/safety/preflight"
)

// randomPlan is a protocol of random steps on the demo lab. It first waits until what it will
// change is where it is at rest, so that preflight knows where it begins.
func randomPlan(t *rapid.T) string {
	var b strings.Builder
	b.WriteString(`protocol: random
version: 1.0.0
roles:
  reactor: {is: [thermostat/v1, stirrer/v1]}
  gold:    {is: pump/v1, holds: {substance: HAuCl4}}
  citrate: {is: pump/v1, holds: {substance: trisodium citrate}}
  stage:   {is: stage/v1}
steps:
  - {wait: {until: abs(reactor.temperature - 25 degC) < 2 K and abs(gold.dispensed) < 1 uL and abs(citrate.dispensed) < 1 uL, timeout: 10 s}}
  - {do: reactor.stir, with: {speed: 400 rpm}}
`)
	randomSteps(t, &b, "  ", 3, 2)
	b.WriteString("finally:\n  - {do: gold.stop}\n  - {do: citrate.stop}\n  - {do: reactor.heat_off}\n  - {do: stage.halt}\n")
	return b.String()
}

func randomSteps(t *rapid.T, b *strings.Builder, in string, most, deep int) {
	for range rapid.IntRange(1, most).Draw(t, "steps") {
		kind := rapid.IntRange(0, 6).Draw(t, "kind")
		if deep == 0 && kind > 3 {
			kind -= 4
		}
		switch kind {
		case 0, 1, 2:
			fmt.Fprintf(b, "%s- {%s}\n", in, randomDo(t, kind))
		case 3:
			fmt.Fprintf(b, "%s- {wait: {for: %d ms}}\n", in, rapid.IntRange(1, 4000).Draw(t, "pause"))
		case 4:
			fmt.Fprintf(b, "%s- repeat: {max: %d}\n%s  steps:\n", in, rapid.IntRange(2, 4).Draw(t, "max"), in)
			randomSteps(t, b, in+"    ", 2, deep-1)
		case 5:
			fmt.Fprintf(b, "%s- if: reactor.temperature > %d degC\n%s  then:\n", in, rapid.IntRange(20, 60).Draw(t, "over"), in)
			randomSteps(t, b, in+"    ", 2, deep-1)
			fmt.Fprintf(b, "%s  else:\n", in)
			randomSteps(t, b, in+"    ", 2, deep-1)
		case 6:
			fmt.Fprintf(b, "%s- parallel:\n%s    - {%s}\n%s    - {%s}\n", in, in, randomDo(t, 0), in, randomDo(t, 1+rapid.IntRange(0, 1).Draw(t, "beside")))
		}
	}
}

func randomDo(t *rapid.T, kind int) string {
	switch kind {
	case 0:
		return fmt.Sprintf("do: reactor.heat, with: {target: %d degC}", rapid.IntRange(28, 90).Draw(t, "target"))
	case 1:
		return fmt.Sprintf("do: %s.dose, with: {volume: %d uL, rate: %d mL/min}", rapid.SampledFrom([]string{"gold", "citrate"}).Draw(t, "pump"),
			rapid.IntRange(50, 450).Draw(t, "volume"), rapid.IntRange(4, 15).Draw(t, "rate"))
	}
	at := rapid.IntRange(-9, 9)
	return fmt.Sprintf("do: stage.move, with: {x: %d mm, y: %d mm, z: %d mm}", at.Draw(t, "x"), at.Draw(t, "y"), rapid.IntRange(0, 3).Draw(t, "z"))
}

// tolerance is by how much a reading may be off: a sensor's noise, and what the
// class calls there (done_when) though it is not exactly there. Commands
// declare what they aim at.
var tolerance = map[string]lab.Quantity{
	"temperature": lab.Q(0.3, "K"), "speed": lab.Q(20, "rpm"),
	"x": lab.Q(2, "um"), "y": lab.Q(2, "um"), "z": lab.Q(2, "um"),
}

// kept watches one property in the twin: from where it is when the run is
// accepted, or from anywhere within its proved interval, it never leaves what
// these two span.
type kept struct {
	preflight.Reach
	low, up float64 // in SI base units
	inside  int     // how often it was looked at
}

func (k *kept) base(t *rapid.T, w *twin.Twin) float64 {
	v, err := w.World().Read(k.Property.Instrument, k.Property.Component, k.Property.Property)
	if err != nil {
		t.Fatalf("%s: %v", k.Property, err)
	}
	return v.Quantity().Base()
}

func watch(t *rapid.T, w *twin.Twin, reach []preflight.Reach) []*kept {
	var list []*kept
	for _, r := range reach {
		k := &kept{Reach: r}
		off := tolerance[r.Property.Property].Base() + 1e-9*(1+abs(r.Low.Base())+abs(r.Up.Base()))
		start := k.base(t, w)
		k.low, k.up = min(r.Low.Base()-off, start), max(r.Up.Base()+off, start)
		list = append(list, k)
	}
	return list
}

func abs(x float64) float64 { return max(x, -x) }

// Random plans go through preflight and through the twin: nothing that is
// simulated is ever outside its proved interval.
func TestNothingLeavesItsProvedInterval(t *testing.T) {
	o, err := demo()
	if err != nil {
		t.Fatal(err)
	}
	checks := "300"
	if os.Getenv("LABGATE_HEAVY") != "" {
		checks = "5000"
	}
	if err := flag.Set("rapid.checks", checks); err != nil {
		t.Fatal(err)
	}
	prove := preflight.With(o.Rules)
	plans, ran, looked := 0, 0, map[lab.PropertyID]int{}
	rapid.Check(t, func(t *rapid.T) {
		text := randomPlan(t)
		p, issues := protocols.Parse("random.yaml", []byte(text), o.Classes)
		if len(issues) > 0 {
			t.Fatalf("%v\n%s", issues, text)
		}
		plan, issues := protocols.Bind(p, o.Lab, nil)
		if len(issues) > 0 {
			t.Fatalf("%v\n%s", issues, text)
		}
		plans++
		said := prove(plan)
		if len(said.Refused) > 0 {
			return
		}
		list := followed(t, o, rapid.Uint64().Draw(t, "seed"), text, said.Reach, plan.Bill.Worst+time.Minute)
		ran++
		for _, k := range list {
			looked[k.Property] += k.inside
		}
	})
	t.Logf("%d plans, %d of them ran; looked at: %v", plans, ran, looked)
	if ran*4 < plans {
		t.Errorf("only %d of %d plans ran: that shows little", ran, plans)
	}
	if want := (lab.PropertyID{Instrument: "reactor", Component: "jacket", Property: "temperature"}); looked[want] == 0 {
		t.Errorf("%s was never looked at", want)
	}
}

// followed runs a plan on a twin of its own until it has stopped, looking at
// every property with a proved interval after every event.
func followed(t *rapid.T, o *twin.Options, seed uint64, text string, reach []preflight.Reach, limit time.Duration) []*kept {
	opts := *o
	opts.Seed, opts.Quiet = seed, true
	w, err := twin.New(opts)
	if err == nil {
		err = w.Run(ready, 5*time.Second)
	}
	if err != nil {
		t.Fatal(err)
	}
	list := watch(t, w, reach)
	w.Submit("planner", inline("random", text))
	run := ""
	err = w.Run(func(w *twin.Twin) bool {
		for _, k := range list {
			k.inside++
			if x := k.base(t, w); !(x >= k.low && x <= k.up) {
				t.Fatalf("%s is %v in the twin; proved: %s to %s\n%s", k.Property, lab.Quantity{Value: k.Low.Unit.FromBase(x), Unit: k.Low.Unit}, k.Low, k.Up, text)
			}
		}
		if v := w.Verdicts("planner"); run == "" && len(v) > 0 {
			if v[0].Decision != messages.AcceptedDecision {
				t.Fatalf("preflight found nothing, the runner says %+v\n%s", v[0], text)
			}
			run = v[0].Run
		}
		_, ok := w.Stopped(run)
		return run != "" && ok
	}, limit)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return list
}
