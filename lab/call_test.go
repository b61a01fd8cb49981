package lab

import "testing"

func TestParseCall(t *testing.T) {
	for _, c := range []struct {
		in   string
		path string
		args int
	}{
		{"pump_a.dose(volume = 5 mL, rate = 1 mL/min)", "pump_a.dose", 2},
		{" stage.xyz.halt ", "stage.xyz.halt", 0},
		{"stage.halt()", "stage.halt", 0},
		{"lamp.set(on=true)", "lamp.set", 1},
	} {
		got, err := ParseCall(c.in)
		if err != nil || got.Path != c.path || len(got.Args) != c.args {
			t.Errorf("%s: %+v, %v", c.in, got, err)
		}
	}
	for in, want := range map[string]string{
		"":                `"" is no call: write instrument.command(argument = value, …)`,
		"Pump.dose":       `"Pump.dose" is no call: write instrument.command(argument = value, …)`,
		"a.b(x = 1":       `"a.b(x = 1": one closing bracket is wanted, at the end`,
		"a.b(x = 1) c":    `"a.b(x = 1) c": one closing bracket is wanted, at the end`,
		"a.b(x)":          `"a.b(x)": "x" is no argument; write name = value`,
		"a.b(x = 1, x=2)": `"a.b(x = 1, x=2)": argument x comes twice`,
	} {
		if _, err := ParseCall(in); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
}

func FuzzParseCall(f *testing.F) {
	for _, s := range []string{"pump_a.dose(volume = 5 mL, rate = 1 mL/min)", "a.b", "a.b(", "a.b(x=)", "a.b(x=1,)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCall(s)
		if err == nil && (c.Path == "" || len(c.Args) > maxCall) {
			t.Fatalf("%+v", c)
		}
	})
}
