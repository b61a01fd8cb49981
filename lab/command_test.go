package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)

func command() *Command {
	return &Command{ID: "01KCMD", Target: CommandID{"pump_a", "pump", "dose"}, Args: map[string]Value{"volume": NumberValue(Q(0.2, "mL")), "rate": NumberValue(Q(6, "mL/min"))},
		Principal: "planner_1", Run: "01KRUN", Step: "feed", Lease: 7, NotAfter: t0, Samples: []string{"s1"}, Labels: map[string]string{"a": "1", "b": "2"}}
}

// TestHashCoversEverything: a permit for one command fits no other one.
func TestHashCoversEverything(t *testing.T) {
	changes := map[string]func(*Command){
		"nothing": func(*Command) {}, "id": func(c *Command) { c.ID = "01KCMD2" },
		"instrument": func(c *Command) { c.Target.Instrument = "pump_b" }, "component": func(c *Command) { c.Target.Component = "valve" }, "command": func(c *Command) { c.Target.Command = "stop" },
		"a dot moved": func(c *Command) { c.Target.Instrument, c.Target.Component = "pump_a.pump", "" }, "another dot moved": func(c *Command) { c.Target.Component, c.Target.Command = "", "pump.dose" },
		"argument value": func(c *Command) { c.Args["volume"] = NumberValue(Q(0.20000000000000004, "mL")) }, "argument unit": func(c *Command) { c.Args["volume"] = NumberValue(Q(0.2, "L")) },
		"argument kind": func(c *Command) { c.Args["volume"] = TextValue("0.2 mL") }, "argument true": func(c *Command) { c.Args["volume"] = BoolValue(true) }, "argument text true": func(c *Command) { c.Args["volume"] = TextValue("true") },
		"argument integer": func(c *Command) { c.Args["volume"] = IntegerValue(1) }, "argument plain number": func(c *Command) { c.Args["volume"] = NumberValue(Q(1, "1")) },
		"argument name": func(c *Command) { c.Args["v"] = c.Args["volume"]; delete(c.Args, "volume") }, "argument gone": func(c *Command) { delete(c.Args, "volume") }, "argument added": func(c *Command) { c.Args["x"] = BoolValue(false) },
		"arguments swapped": func(c *Command) { c.Args["volume"], c.Args["rate"] = c.Args["rate"], c.Args["volume"] }, "no arguments": func(c *Command) { c.Args = nil },
		"table": func(c *Command) { c.Args["volume"] = table("s", []float64{1, 2}) }, "another table": func(c *Command) { c.Args["volume"] = table("s", []float64{1, 3}) },
		"blob": func(c *Command) { c.Args["volume"] = BlobValue(&BlobRef{Hash: "sha256:00"}) }, "another blob": func(c *Command) { c.Args["volume"] = BlobValue(&BlobRef{Hash: "sha256:01"}) },
		"principal": func(c *Command) { c.Principal = "planner_2" }, "run": func(c *Command) { c.Run = "" }, "campaign": func(c *Command) { c.Campaign = "campaign-8" }, "step": func(c *Command) { c.Step = "feed2" }, "lease": func(c *Command) { c.Lease++ },
		"expiry": func(c *Command) { c.NotAfter = c.NotAfter.Add(1) }, "expiry by a second": func(c *Command) { c.NotAfter = c.NotAfter.Add(time.Second) },
		"expiry by 2^64 ns": func(c *Command) { c.NotAfter = c.NotAfter.Add(math.MaxInt64).Add(math.MaxInt64).Add(2) }, "no expiry": func(c *Command) { c.NotAfter = time.Time{} },
		"sample": func(c *Command) { c.Samples = []string{"s2"} }, "samples": func(c *Command) { c.Samples = []string{"s1", ""} }, "label": func(c *Command) { c.Labels["a"] = "2" }, "no labels": func(c *Command) { c.Labels = nil },
	}
	seen := map[[32]byte]string{{}: "the zero hash"}
	for name, change := range changes {
		c := command()
		change(c)
		h := c.Hash()
		if other, ok := seen[h]; ok {
			t.Errorf("%s has the same hash as %s", name, other)
		}
		seen[h] = name
	}
	if n := reflect.TypeFor[Command]().NumField(); n != 11 {
		t.Errorf("a command has %d fields now: does Hash cover them all?", n)
	}
}

func TestHashIsStable(t *testing.T) {
	want := command().Hash()
	for i := range 50 { // maps are walked in another order each time
		c := command()
		for k := range 20 {
			c.Args[fmt.Sprint("x", k)] = IntegerValue(int64(k))
		}
		for k := range 20 {
			delete(c.Args, fmt.Sprint("x", k))
		}
		if got := c.Hash(); got != want {
			t.Fatalf("round %d: %x, want %x", i, got, want)
		}
	}
	c := command()
	c.NotAfter = c.NotAfter.In(time.FixedZone("", 3600)) // the same moment
	if c.Hash() != want {
		t.Error("the hash depends on the time zone")
	}
}

// TestNoHash: what has no exact form has the zero hash, which no permit fits.
func TestNoHash(t *testing.T) {
	for name, change := range map[string]func(*Command){
		"argument": func(c *Command) { c.Args["x"] = TextValue("\xff") }, "argument name": func(c *Command) { c.Args["\xff"] = BoolValue(true) }, "id": func(c *Command) { c.ID = "\xc3" },
		"step": func(c *Command) { c.Step = "\xed\xa0\x80" }, "sample": func(c *Command) { c.Samples[0] = "\xff" }, "label": func(c *Command) { c.Labels["\xfe"] = "" },
		"column": func(c *Command) {
			v := table("s", []float64{1})
			v.Table.Columns[0].Name = "\xff"
			c.Args["x"] = v
		},
		"blob": func(c *Command) { c.Args["x"] = BlobValue(&BlobRef{Hash: "\xff"}) },
	} {
		c := command()
		change(c)
		if c.Hash() != [32]byte{} {
			t.Errorf("%s that is not UTF-8 has a hash", name)
		}
	}
}

func TestStates(t *testing.T) {
	final := map[State]bool{Confirmed: true, Partial: true, Contradicted: true, Failed: true, NotSent: true, Resolved: true, Refused: true, Superseded: true}
	for s := Accepted; s <= Superseded; s++ {
		b, err := s.MarshalText()
		var back State
		if err != nil || back.UnmarshalText(b) != nil || back != s {
			t.Errorf("%s came back as %s", s, back)
		}
		if s.Final() != final[s] {
			t.Errorf("%s: final is %v", s, s.Final())
		}
		if (Outcome{State: s}).OK() != (s == Confirmed) {
			t.Errorf("%s: ok", s)
		}
	}
	for _, text := range []string{"", "confirmedd", "Confirmed", "confirmed "} {
		s := Confirmed
		if err := s.UnmarshalText([]byte(text)); err != nil || s != InDoubt {
			t.Errorf("%q is %s", text, s)
		}
	}
	if State(200).String() != "in_doubt" || Quality(200).String() != "bad" || Effect(200).String() != "effectful" || Kind(200).String() != "internal" || TypeKind(200).String() != "missing" {
		t.Error("what has no name must read as the most careful one")
	}
}

func TestKinds(t *testing.T) {
	for k := KindInternal; int(k) < len(kindNames); k++ {
		b, err := k.MarshalText()
		var back Kind
		if err != nil || back.UnmarshalText(b) != nil || back != k {
			t.Errorf("%s came back as %s", k, back)
		}
		if wrapped := fmt.Errorf("more: %w", E("op", "", k, nil)); KindOf(wrapped) != k {
			t.Errorf("%s: got %s", k, KindOf(wrapped))
		}
	}
	k := KindDenied
	if err := k.UnmarshalText([]byte("nonsense")); err != nil || k != KindInternal {
		t.Error(k)
	}
	if KindOf(nil) != KindInternal || KindOf(errors.New("x")) != KindInternal {
		t.Error("an error without a kind is not the worst one")
	}
	inner := Ef("b", "", KindBusy, "full")
	if outer := E("a", "pump_a", KindDenied, inner); KindOf(outer) != KindDenied || !errors.Is(outer, inner) || outer.Error() != "a: pump_a: denied: b: busy: full" {
		t.Errorf("%v, %s", outer, KindOf(outer))
	}
	if got := E("drivers/serial: exchange", "", KindOutcomeUnknown, nil).Error(); got != "drivers/serial: exchange: outcome unknown" {
		t.Error(got)
	}
	if got := KindOf(errors.Join(errors.New("x"), E("op", "", KindExpired, nil))); got != KindExpired {
		t.Error(got)
	}
}

func TestEffects(t *testing.T) {
	for e := Effectful; e <= Safe; e++ {
		if got, ok := ParseEffect(e.String()); !ok || got != e {
			t.Errorf("%s: %s, %v", e, got, ok)
		}
	}
	if e, ok := ParseEffect("harmless"); ok || e != Effectful {
		t.Errorf("%s, %v", e, ok)
	}
	var zero CommandSpec
	if zero.Effect != Effectful {
		t.Error("the zero effect is not the most careful one")
	}
}

func TestIssues(t *testing.T) {
	var is Issues
	if is.Err() != nil || is.Error() != "" {
		t.Error("no issue is an error")
	}
	is.Add(Pos{"b.yaml", 1, 1}, "x", "", "third")
	is.Add(Pos{"a.yaml", 2, 5}, "x", "", "second, %d", 1)
	is.Add(Pos{"a.yaml", 2, 5}, "x", "do that", "second, %d", 2)
	is.Add(Pos{"a.yaml", 2, 4}, "x", "", "first")
	is.Add(Pos{}, "x", "", "nowhere")
	is.Add(Pos{File: "c.yaml"}, "x", "", "somewhere in it")
	is.Sort()
	want := "nowhere\na.yaml:2:4: first\na.yaml:2:5: second, 1\na.yaml:2:5: second, 2 (do that)\nb.yaml:1:1: third\nc.yaml: somewhere in it"
	if got := is.Err().Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	b, err := json.Marshal(is)
	if err != nil {
		t.Fatal(err)
	}
	var back Issues
	if err := json.Unmarshal(b, &back); err != nil || back.Error() != want {
		t.Errorf("%s came back as\n%v, %v", b, back, err)
	}
	if strings.Contains(string(b), "Pos") || !strings.Contains(string(b), `"line":2,"column":5`) {
		t.Errorf("%s", b)
	}
}

func TestFresh(t *testing.T) {
	v, at := NumberValue(Q(20, "degC")), func(d time.Duration) time.Time { return t0.Add(d) }
	for _, c := range []struct {
		name string
		r    Reading
		max  time.Duration
		why  string
	}{
		{"now", Reading{Value: v, Quality: Good, Source: t0, Received: t0}, time.Second, ""},
		{"as old as allowed", Reading{Value: v, Quality: Good, Received: at(-time.Second)}, time.Second, ""},
		{"a nanosecond older", Reading{Value: v, Quality: Good, Received: at(-time.Second - 1)}, time.Second, "stale"},
		{"old at its source", Reading{Value: v, Quality: Good, Source: at(-time.Minute), Received: t0}, time.Second, "stale"},
		{"its source is ahead", Reading{Value: v, Quality: Good, Source: at(time.Hour), Received: t0}, time.Second, ""},
		{"its source is ahead, it is old", Reading{Value: v, Quality: Good, Source: at(time.Hour), Received: at(-2 * time.Second)}, time.Second, "stale"},
		{"received a little ahead", Reading{Value: v, Quality: Good, Received: at(time.Second)}, time.Second, ""},
		{"received in the future", Reading{Value: v, Quality: Good, Received: at(time.Second + 1)}, time.Hour, "from the future"},
		{"both in the future", Reading{Value: v, Quality: Good, Source: at(time.Hour), Received: at(time.Hour)}, time.Hour, "from the future"},
		{"no times", Reading{Value: v, Quality: Good}, 1<<63 - 2, "stale"},
		{"only a source time", Reading{Value: v, Quality: Good, Source: t0}, time.Hour, "stale"},
		{"no age allowed, now", Reading{Value: v, Quality: Good, Received: t0}, 0, ""},
		{"no age allowed", Reading{Value: v, Quality: Good, Received: at(-1)}, 0, "stale"},
		{"negative age allowed", Reading{Value: v, Quality: Good, Received: t0}, -1, "stale"},
		{"ages ago", Reading{Value: v, Quality: Good, Received: time.Unix(-1<<40, 0)}, time.Hour, "stale"},
		{"uncertain", Reading{Value: v, Quality: Uncertain, Received: t0}, time.Second, "uncertain"},
		{"bad", Reading{Value: v, Received: t0}, time.Second, "bad"},
		{"a quality that is none", Reading{Value: v, Quality: 77, Received: t0}, time.Second, "bad"},
		{"NaN", Reading{Value: NumberValue(Q(math.NaN(), "K")), Quality: Good, Received: t0}, time.Second, "not finite"},
		{"zero", Reading{}, 1<<63 - 1, "missing"},
		{"nothing, of good quality", Reading{Quality: Good, Received: t0}, time.Second, "missing"},
	} {
		if ok, why := c.r.Fresh(t0, c.max); why != c.why || ok != (why == "") {
			t.Errorf("%s: %v, %q; want %q", c.name, ok, why, c.why)
		}
	}
	for q := Bad; q <= Good; q++ {
		b, err := q.MarshalText()
		var back Quality
		if err != nil || back.UnmarshalText(b) != nil || back != q {
			t.Errorf("%s came back as %s", q, back)
		}
	}
	q := Good
	if err := q.UnmarshalText([]byte("GOOD")); err != nil || q != Bad {
		t.Error(q)
	}
}
