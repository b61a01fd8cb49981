package configs

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"labgate/lab"
)

var ignoreUnits = cmp.Comparer(func(a, b lab.Unit) bool { return a == b })

// TestDemo looks at what became of each part of the files, by example.
func TestDemo(t *testing.T) {
	c := demo(t)
	pump := c.Lab.Instrument("pump_a")
	if len(c.Lab.Instruments) != 9 || c.Lab.Names()[0] != "reactor" || c.Lab.Names()[8] != "room" {
		t.Fatalf("instruments %v", c.Lab.Names())
	}
	p := pump.Profile
	dose := p.CommandMap("pump", "dose")
	if len(p.Init) != 2 || len(dose.Exchanges) != 4 || dose.EffectAt != 4 || dose.Inputs[1] != (lab.WireInput{Arg: "rate", Unit: lab.Q(0, "mL/min").Unit}) {
		t.Errorf("dose is sent as %+v", dose)
	}
	if stop := p.CommandMap("pump", "stop"); stop.EffectAt != 1 {
		t.Errorf("stop begins its effect at %d", stop.EffectAt)
	}
	running := p.PropertyMap("pump", "running")
	if running.Map["I"] != "true" || running.Map["S"] != "false" || running.Poll != 200*time.Millisecond {
		t.Errorf("running is read as %+v", running)
	}
	if pump.Settings["diameter"].String() != "14.43 mm" || pump.Holds.Concentration.String() != "1 mmol/L" || pump.Link["address"] != "0" {
		t.Errorf("pump_a is %+v", pump)
	}
	if n := len(p.Vectors); n < 8 || p.Errors[0].Match != "?OOR" && len(p.Errors[0].Match) < len(p.Errors[n-1].Match) {
		t.Errorf("%d vectors, errors %v", n, p.Errors)
	}

	wantSafe := []lab.SafeStep{{Command: lab.CommandID{Instrument: "reactor", Component: "jacket", Command: "heat_off"}}, {Command: lab.CommandID{Instrument: "reactor", Component: "vessel", Command: "shut"}}}
	if d := cmp.Diff(wantSafe, c.Lab.Instrument("reactor").Safe); d != "" {
		t.Error(d)
	}
	if q := c.Lab.Instrument("quench"); q.Safe != nil {
		t.Errorf("keep is %v", q.Safe)
	}
	affect := pump.Affects[0]
	if affect.Property.String() != "reactor.vessel.contents" || affect.Command.String() != "pump_a.pump.dose" || !affect.Change.Add || affect.Change.To.Text != "volume" {
		t.Errorf("pump_a affects %+v", affect)
	}
	target := c.Lab.Instrument("reactor").Limits[0]
	if target.Component != "jacket" || target.Name != "heat" || target.Arg != "target" || target.Max.String() != "92 degC" {
		t.Errorf("limit %+v", target)
	}
	if c.StartWithin != DefaultStartWithin || !c.NATS.Embedded || c.Rules == nil {
		t.Errorf("config %+v", c)
	}

	camera := c.Profiles["labgate/mqtt-camera@1"].CommandMap("camera", "capture")
	want := []lab.WireGive{{Name: "frame", Topic: "frame/{id}", Media: "image/png"}, {Name: "sharpness", Pointer: "/result/sharpness"}}
	want[1].Unit = lab.Q(0, "1").Unit
	if d := cmp.Diff(want, camera.Gives, ignoreUnits); d != "" || camera.Inputs[0].Key != "exposure_ms" || camera.ResultWithin != 15*time.Second {
		t.Errorf("capture is %+v %s", camera, d)
	}
}

// TestChanges: the three ways of writing a change, and where their parts stand.
func TestChanges(t *testing.T) {
	c := demo(t)
	changes := func(class, command string) map[string]lab.Change {
		m := map[string]lab.Change{}
		for _, ch := range c.Classes[class].Command(command).Changes {
			m[ch.Property] = ch
		}
		return m
	}
	dose, heat := changes("pump/v1", "dose"), changes("thermostat/v1", "heat")
	if d := dose["dispensed"]; !d.Add || d.To.Text != "volume" {
		t.Errorf("dispensed: %+v", d)
	}
	if s := heat["setpoint"]; s.Add || s.To.Text != "target" {
		t.Errorf("setpoint: %+v", s)
	}
	temp := heat["temperature"]
	if temp.Low.Text != "min(before.temperature, target)" || temp.High.Text != "max(before.temperature, target) + 3 K" || temp.To.Text != "" {
		t.Errorf("temperature: %+v", temp)
	}
	if got := temp.High.Pos.Column - temp.Low.Pos.Column; got != len("min(before.temperature, target), ") {
		t.Errorf("the upper end stands %d columns behind the lower one", got)
	}
}
