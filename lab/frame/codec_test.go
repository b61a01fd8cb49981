package frame_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"labgate/drivers/drivertest"
	"labgate/lab"
	"labgate/lab/frame"
)

func pump() *lab.Instrument {
	return &lab.Instrument{Name: "pump_a", Profile: drivertest.SyringePump(), Link: map[string]string{"port": "p", "address": "0"},
		Settings: map[string]lab.Value{"diameter": lab.NumberValue(lab.Q(14.43, "mm"))}}
}

func stage() *lab.Instrument {
	return &lab.Instrument{Name: "stage", Profile: drivertest.StageController(), Link: map[string]string{"port": "s"}}
}

func bind(t testing.TB, in *lab.Instrument) *frame.Bound {
	t.Helper()
	c, issues := frame.Compile(in.Profile)
	if len(issues) > 0 {
		t.Fatal(issues)
	}
	b, err := c.Bind(in, in.Link)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func command(in *lab.Instrument, comp, name string, args map[string]lab.Value) *lab.Command {
	return &lab.Command{ID: "c1", Target: lab.CommandID{Instrument: in.Name, Component: comp, Command: name}, Args: args}
}

func args(pairs ...any) map[string]lab.Value {
	m := map[string]lab.Value{}
	for i := 0; i < len(pairs); i += 2 {
		q, err := lab.ParseQuantity(pairs[i+1].(string))
		if err != nil {
			panic(err)
		}
		m[pairs[i].(string)] = lab.NumberValue(q)
	}
	return m
}

func TestEncode(t *testing.T) {
	cases := []struct {
		in      *lab.Instrument
		comp    string
		command string
		args    map[string]lab.Value
		want    []string
		effect  int
	}{
		{pump(), "pump", "dose", args("volume", "0.15 mL", "rate", "6 mL/min"), []string{"00DIRINF\r", "00VOL0.15\r", "00RAT6MM\r", "00RUN\r"}, 4},
		{pump(), "pump", "dose", args("volume", "150 uL", "rate", "0.1 mL/s"), []string{"00DIRINF\r", "00VOL0.15\r", "00RAT6MM\r", "00RUN\r"}, 4},
		{pump(), "pump", "stop", nil, []string{"00STP\r"}, 1},
		{stage(), "xyz", "move", args("x", "0 mm", "y", "-0.5 mm", "z", "1.2 mm"), []string{"M X=0 Y=-5000 Z=12000\r"}, 1},
		{stage(), "xyz", "halt", nil, []string{"\\\r"}, 1},
	}
	for _, c := range cases {
		p, err := bind(t, c.in).Encode(command(c.in, c.comp, c.command, c.args))
		if err != nil {
			t.Errorf("%s: %v", c.command, err)
			continue
		}
		var got []string
		for _, s := range p.Steps {
			got = append(got, string(s.Send))
		}
		if strings.Join(got, "|") != strings.Join(c.want, "|") || p.EffectAt != c.effect {
			t.Errorf("%s: %q at %d, want %q at %d", c.command, got, p.EffectAt, c.want, c.effect)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	limited := pump()
	twelve := lab.Q(12.34, "mL")
	limited.Limits = []lab.Limit{{Component: "pump", Name: "dose", Arg: "volume", Max: &twelve}}
	cases := []struct {
		in      *lab.Instrument
		command string
		args    map[string]lab.Value
		want    string // every refused value with what is offered
	}{
		{pump(), "dose", args("volume", "12.345 mL", "rate", "6 mL/min"), "volume=12.345 mL near 12.35 mL"},
		{limited, "dose", args("volume", "12.345 mL", "rate", "6 mL/min"), "volume=12.345 mL near 12.34 mL"},
		{pump(), "dose", args("volume", "0.0004 mL", "rate", "6 mL/min"), "volume=0.0004 mL near 0.001 mL"},
		{pump(), "dose", args("volume", "12345 mL", "rate", "1.23456 mL/min"), "volume=12345 mL near 9999 mL, rate=1.23456 mL/min near 1.235 mL/min"},
		{stage(), "move", args("x", "0.00001 mm", "y", "0 mm", "z", "0.00123 mm"), "x=1e-05 mm near 0.0001 mm, z=0.00123 mm near 0.0012 mm"},
	}
	for _, c := range cases {
		cmd := command(c.in, c.in.Profile.Components[0].Name, c.command, c.args)
		err := frame.Encodable(c.in, cmd)
		var refused frame.Refusal
		if lab.KindOf(err) != lab.KindInvalid || !errors.As(err, &refused) {
			t.Errorf("%s %v: %v", c.command, c.args, err)
			continue
		}
		var got []string
		for i, e := range refused {
			got = append(got, fmt.Sprintf("%s=%s near %s", e.Name, e.Got, e.Nearest))
			if is := refused.Issues()[i]; is.Path != "args."+e.Name || !is.Repairable || is.Nearest != e.Nearest {
				t.Errorf("issue %+v", is)
			}
			cmd.Args[e.Name] = *e.Nearest
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.command, strings.Join(got, ", "), c.want)
		}
		if err := frame.Encodable(c.in, cmd); err != nil {
			t.Errorf("what was offered is refused: %v", err)
		}
	}
}

func TestEncodeInvalid(t *testing.T) {
	b := bind(t, pump())
	for name, cmd := range map[string]*lab.Command{
		"argument rate is missing":                        command(pump(), "pump", "dose", args("volume", "1 mL")),
		"speed is no argument of dose":                    command(pump(), "pump", "dose", args("volume", "1 mL", "rate", "1 mL/min", "speed", "1 rpm")),
		"has no command pump.fly":                         command(pump(), "pump", "fly", nil),
		"argument volume: volume is 0 mL":                 command(pump(), "pump", "dose", args("volume", "0 mL", "rate", "1 mL/min")),
		"argument volume: 1 mm is a length, not a volume": command(pump(), "pump", "dose", args("volume", "1 mm", "rate", "1 mL/min")),
		"NaN is not a finite number":                      command(pump(), "pump", "dose", map[string]lab.Value{"volume": lab.NumberValue(lab.Q(math.NaN(), "mL")), "rate": args("r", "1 mL/min")["r"]}),
		"argument volume: true is a bool":                 command(pump(), "pump", "dose", map[string]lab.Value{"volume": lab.BoolValue(true), "rate": args("r", "1 mL/min")["r"]}),
	} {
		if _, err := b.Encode(cmd); lab.KindOf(err) != lab.KindInvalid || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %s", err, name)
		}
	}
}

func TestBindRefuses(t *testing.T) {
	c, issues := frame.Compile(drivertest.SyringePump())
	if issues != nil {
		t.Fatal(issues)
	}
	for want, change := range map[string]func(*lab.Instrument){
		"setting diameter is missing":                         func(in *lab.Instrument) { in.Settings = nil },
		"14.433 mm can't be sent":                             func(in *lab.Instrument) { in.Settings["diameter"] = lab.NumberValue(lab.Q(14.433, "mm")) },
		"setting diameter: 1 s is a time, not a length (mm)":  func(in *lab.Instrument) { in.Settings["diameter"] = lab.NumberValue(lab.Q(1, "s")) },
		`address "": a whole number of at most 2 characters`:  func(in *lab.Instrument) { in.Link = nil },
		`address "100": a whole number of at most 2`:          func(in *lab.Instrument) { in.Link = map[string]string{"address": "100"} },
		`address "x": a whole number of at most 2`:            func(in *lab.Instrument) { in.Link = map[string]string{"address": "x"} },
		`address "1.5": a whole number of at most 2`:          func(in *lab.Instrument) { in.Link = map[string]string{"address": "1.5"} },
		`address "0\rX": a whole number of at most 2`:         func(in *lab.Instrument) { in.Link = map[string]string{"address": "0\rX"} },
		`address "00000000000000000001": a whole number of a`: func(in *lab.Instrument) { in.Link = map[string]string{"address": "00000000000000000001"} },
	} {
		in := pump()
		change(in)
		_, err := c.Bind(in, in.Link)
		if lab.KindOf(err) != lab.KindInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestDecode(t *testing.T) {
	b := bind(t, pump())
	ask := func(name string) frame.Step {
		s, ok := b.Ask("pump", name)
		if !ok {
			t.Fatal(name)
		}
		return s
	}
	p, err := b.Encode(command(pump(), "pump", "dose", args("volume", "1 mL", "rate", "1 mL/min")))
	if err != nil {
		t.Fatal(err)
	}
	vol, run := p.Steps[1], p.Steps[3]
	cases := []struct {
		step  frame.Step
		frame string
		want  string
	}{
		{ask("dispensed"), "00SI1.500W0.000ML", "ok"},
		{ask("running"), "00I", "ok"},
		{ask("dispensed"), "01SI1.500W0.000ML", "not ours"},
		{ask("dispensed"), "00SI1.500W0.000UL", "mismatch"},
		{ask("dispensed"), "00S", "mismatch"},
		{ask("dispensed"), "", "not ours"},
		{ask("running"), "00A?R", "device_reset alarm"},
		{vol, "00S", "ok"},
		{vol, "00S?OOR", "out_of_range"},
		{vol, "00S?", "not_recognised"},
		{vol, "00S?XYZ", "not_recognised"},
		{vol, "00A?S", "stalled alarm"},
		{vol, "00SS", "mismatch"},
		{run, "00I", "ok"},
		{run, "00S", "mismatch"},
		{run, "00I?NA", "not_applicable"},
		{run, "00A?R", "device_reset alarm"},
		{run, "01A?R", "not ours"},
	}
	for _, c := range cases {
		_, err := b.Decode(c.step, []byte(c.frame))
		if got := say(err); got != c.want {
			t.Errorf("%q for %q: %s, want %s", c.frame, c.step.Send, got, c.want)
		}
	}
	if e, ok := b.Alarm([]byte("00A?R")); !ok || !e.Alarm || e.Name != frame.Reset {
		t.Errorf("alarm %v %v", e, ok)
	}
	if e, ok := b.Alarm([]byte("01A?R")); ok {
		t.Errorf("another's alarm is taken: %v", e)
	}
}

func say(err error) string {
	var dev *frame.DeviceError
	var mis *frame.MismatchError
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, frame.ErrNotOurs):
		return "not ours"
	case errors.As(err, &mis):
		return "mismatch"
	case errors.As(err, &dev) && dev.Alarm:
		return dev.Name + " alarm"
	case errors.As(err, &dev):
		return dev.Name
	}
	return err.Error()
}

func TestStageErrors(t *testing.T) {
	b := bind(t, stage())
	s, ok := b.Ask("xyz", "x")
	if !ok {
		t.Fatal("x")
	}
	for in, want := range map[string]string{":A 12000": "ok", ":N-1": "unknown_command", ":N-21": "halted", ":N-2": "unknown_axis", ":N-10": "mismatch", ":N-4": "out_of_range"} {
		if _, err := b.Decode(s, []byte(in)); say(err) != want {
			t.Errorf("%q: %s, want %s", in, say(err), want)
		}
	}
	a, err := b.Decode(s, []byte(":A 12000"))
	if err != nil {
		t.Fatal(err)
	}
	if v, err := b.Value("xyz", "x", a); err != nil || v.String() != "1.2 mm" {
		t.Errorf("x = %s, %v", v, err)
	}
}

func vectors() (pump, stage []lab.Vector) {
	mm := func(s string) lab.Value { return args("v", s)["v"] }
	pump = []lab.Vector{
		{Name: "dispensed", Send: "00DIS\r", Reply: "\x0200SI1.500W0.000ML\x03", Expect: map[string]lab.Value{"dispensed": mm("1.5 mL")}},
		{Name: "in another unit", Send: "00DIS\r", Reply: "\x0200SI1.500W0.000ML\x03", Expect: map[string]lab.Value{"pump.dispensed": mm("1500 uL")}},
		{Name: "infusing", Send: "00\r", Reply: "\x0200I\x03", Expect: map[string]lab.Value{"running": lab.BoolValue(true)}},
		{Name: "rate", Send: "00RAT\r", Reply: "\x0200S6.000MM\x03", Expect: map[string]lab.Value{"rate": mm("6 mL/min")}},
		{Name: "dose", Do: "dose", Args: args("volume", "0.15 mL", "rate", "6 mL/min"), Sends: []string{"00DIRINF\r", "00VOL0.15\r", "00RAT6MM\r", "00RUN\r"}},
		{Name: "five digits", Do: "dose", Args: args("volume", "12.345 mL", "rate", "6 mL/min"), Error: "refused"},
		{Name: "for ever", Do: "dose", Args: args("volume", "0.0004 mL", "rate", "6 mL/min"), Error: "refused"},
		{Name: "range", Send: "00VOL0.15\r", Reply: "\x0200S?OOR\x03", Error: "out_of_range"},
		{Name: "reset", Send: "00RUN\r", Reply: "\x0200A?R\x03", Error: "device_reset"},
		{Name: "stop", Do: "stop", Sends: []string{"00STP\r"}},
	}
	stage = []lab.Vector{
		{Name: "x", Send: "W X\r", Reply: ":A 12000\r\n", Expect: map[string]lab.Value{"x": mm("1.2 mm")}},
		{Name: "moving", Send: "/\r", Reply: "B\r\n", Expect: map[string]lab.Value{"moving": lab.BoolValue(true)}},
		{Name: "move", Do: "move", Args: args("x", "0 mm", "y", "-0.5 mm", "z", "1.2 mm"), Sends: []string{"M X=0 Y=-5000 Z=12000\r"}},
		{Name: "too fine", Do: "move", Args: args("x", "0.00001 mm", "y", "0 mm", "z", "0 mm"), Error: "refused"},
		{Name: "range", Send: "M X=99999999 Y=0 Z=0\r", Reply: ":N-4\r\n", Error: "out_of_range"},
		{Name: "halted", Send: "\\\r", Reply: ":N-21\r\n", Error: "halted"},
	}
	return pump, stage
}

func TestVectors(t *testing.T) {
	p, s := vectors()
	for _, c := range []struct {
		profile *lab.Profile
		vectors []lab.Vector
	}{{drivertest.SyringePump(), p}, {drivertest.StageController(), s}} {
		for _, v := range c.vectors {
			if err := frame.RunVector(c.profile, v); err != nil {
				t.Errorf("%s: %s: %v", c.profile.Name, v.Name, err)
			}
		}
	}
}

// A vector that is wrong fails, and says why.
func TestVectorsThatFail(t *testing.T) {
	for want, v := range map[string]lab.Vector{
		"dispensed is 1.5 mL, not 1.6 mL":                     {Send: "00DIS\r", Reply: "\x0200SI1.500W0.000ML\x03", Expect: args("dispensed", "1.6 mL")},
		`dispensed is asked with "00DIS\r", not "00DIS"`:      {Send: "00DIS", Reply: "\x0200SI1.500W0.000ML\x03", Expect: args("dispensed", "1.5 mL")},
		"is not exactly one frame":                            {Send: "00DIS\r", Reply: "00S", Expect: args("dispensed", "1.5 mL")},
		"it expects nothing":                                  {Send: "00DIS\r", Reply: "\x0200S\x03"},
		"the reply means out_of_range, not stalled":           {Send: "00VOL1\r", Reply: "\x0200S?OOR\x03", Error: "stalled"},
		"the reply is no error of the device":                 {Send: "00VOL1\r", Reply: "\x0200S\x03", Error: "stalled"},
		`nothing in the profile sends "00FLY\r"`:              {Send: "00FLY\r", Reply: "\x0200S?\x03", Error: "not_recognised"},
		`it sends ["00STP\r"], not ["00STOP\r"]`:              {Do: "stop", Sends: []string{"00STOP\r"}},
		"it is to be refused, and would send":                 {Do: "dose", Args: args("volume", "1 mL", "rate", "1 mL/min"), Error: "refused"},
		"the wire carries a number of at most 4 digits in mL": {Do: "dose", Args: args("volume", "1.2345 mL", "rate", "1 mL/min"), Sends: []string{"x"}},
		"fly is in 0 components":                              {Do: "fly", Sends: []string{"x"}},
		"it needs sends":                                      {Do: "stop"},
		"it needs send and reply, or do":                      {Name: "empty"},
	} {
		if err := frame.RunVector(drivertest.SyringePump(), v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestCompileReportsEverything(t *testing.T) {
	p := drivertest.SyringePump()
	p.Link.SendEnd, p.Link.ReplyEnd, p.Link.Baud, p.Link.ReplyWithin = "CRR", nil, 0, 0
	p.Init[0].Send = "{addr:02d}DIA{diametre:4g}"
	p.Properties[0].Exchange.Reply = "{addr:02d}{value}{unit}"
	p.Properties[1].Unit = lab.Second
	p.Properties[2].Map = map[string]string{"I": "yes", "A?R": "false"}
	p.Commands[0].EffectAt = 5
	p.Commands[0].Exchanges[1].Send = "{addr:02d}VOL{rate}"
	p.Commands[1].Command = "halt"
	p.Errors = append(p.Errors, lab.ErrorMap{Match: "?", Name: "again"}, lab.ErrorMap{})
	p.Properties = append(p.Properties, p.Properties[1])
	c, issues := frame.Compile(p)
	if c != nil {
		t.Error("it compiled")
	}
	all := issues.Error()
	for _, want := range []string{
		`send_end: "CRR" is no end of a line`, "reply: a reply has an end", "baud is 0", "reply_within is not set",
		"{diametre} is no argument, no setting and not addr (did you mean {diameter}?)",
		"nobody can tell where {value} ends and {unit} begins",
		"property pump.dispensed is a volume (mL); s is a time",
		`"I" means "yes", which is not bool`, `"A?R" is a value and the error device_reset`,
		"effect_at is 5; it has 4 exchanges",
		"{rate} is a number and needs a format", "its argument volume is never sent",
		"command pump.halt is in no class of this profile",
		`errors: "?" stands there twice`, `errors: "" means ""`,
		"property pump.dispensed stands there twice",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if t.Failed() {
		t.Log(all)
	}
}

// Whatever volume and rate are asked for: what is sent carries exactly those
// numbers, or nothing is sent.
func TestEncodeIsExact(t *testing.T) {
	in := pump()
	b := bind(t, in)
	rapid.Check(t, func(t *rapid.T) {
		ml := rapid.OneOf(rapid.Float64Range(0.0001, 20), rapid.Map(rapid.IntRange(1, 20000), func(n int) float64 { return float64(n) * 0.001 })).Draw(t, "mL")
		unit := rapid.SampledFrom([]string{"mL", "uL", "L"}).Draw(t, "unit")
		v, err := lab.Q(ml, "mL").In(lab.Q(0, unit).Unit)
		if err != nil {
			t.Fatal(err)
		}
		cmd := command(in, "pump", "dose", map[string]lab.Value{"volume": lab.NumberValue(v), "rate": lab.NumberValue(lab.Q(1, "mL/min"))})
		p, err := b.Encode(cmd)
		if err != nil {
			var refused frame.Refusal
			if !errors.As(err, &refused) || refused[0].Nearest == nil {
				t.Fatal(err)
			}
			return
		}
		var sent float64
		if _, err := fmt.Sscanf(string(p.Steps[1].Send), "00VOL%f\r", &sent); err != nil {
			t.Fatal(err)
		}
		if math.Abs(sent-ml) > 1e-9*ml || sent == 0 {
			t.Fatalf("%v mL is sent as %q", ml, p.Steps[1].Send)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"00SI1.500W0.000ML", "00I", "00A?R", "00S?OOR", "01S", ":A 12000", ":N-4", "", "\x00"} {
		f.Add([]byte(s))
	}
	pumps, stages := bind(f, pump()), bind(f, stage())
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, name := range []string{"rate", "dispensed", "running"} {
			decode(t, pumps, "pump", name, in)
		}
		for _, name := range []string{"x", "moving"} {
			decode(t, stages, "xyz", name, in)
		}
	})
}

func decode(t *testing.T, b *frame.Bound, comp, name string, in []byte) {
	s, ok := b.Ask(comp, name)
	if !ok {
		t.Fatal(name)
	}
	a, err := b.Decode(s, in)
	if err != nil {
		return
	}
	if v, err := b.Value(comp, name, a); err == nil && !v.Usable() {
		t.Fatalf("%q gives %v for %s", in, v, name)
	}
	if comp == "pump" && !strings.HasPrefix(string(in), "00") {
		t.Fatalf("%q is another's", in)
	}
}

func BenchmarkEncode(b *testing.B) {
	in := pump()
	bound := bind(b, in)
	cmd := command(in, "pump", "dose", args("volume", "0.15 mL", "rate", "6 mL/min"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bound.Encode(cmd); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	bound := bind(b, pump())
	s, _ := bound.Ask("pump", "dispensed")
	reply := []byte("00SI1.500W0.000ML")
	b.ReportAllocs()
	for b.Loop() {
		a, err := bound.Decode(s, reply)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := bound.Value("pump", "dispensed", a); err != nil {
			b.Fatal(err)
		}
	}
}
