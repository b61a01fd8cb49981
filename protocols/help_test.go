package protocols_test

import (
	"io/fs"
	"sync"
	"testing"

	"labgate/configs"
	"labgate/lab"
	"labgate/protocols"
)

var demo = sync.OnceValues(func() (*configs.Config, error) {
	folder, err := fs.Sub(configs.Embedded(), "labs/demo")
	if err != nil {
		return nil, err
	}
	return configs.Load(folder, "demo")
})

// demoLab is the demo lab with the real classes.
func demoLab(t testing.TB) *configs.Config {
	t.Helper()
	c, err := demo()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// parse parses a protocol that must be right.
func parse(t testing.TB, text string) *protocols.Protocol {
	t.Helper()
	p, is := protocols.Parse("test.yaml", []byte(text), demoLab(t).Classes)
	if len(is) > 0 {
		t.Fatal(is)
	}
	return p
}

// bind binds a protocol that must fit, to the defaults and what is given.
func bind(t testing.TB, text string, inputs map[string]lab.Value) *protocols.Plan {
	t.Helper()
	p := parse(t, text)
	all, is := p.CheckInputs(inputs)
	if len(is) > 0 {
		t.Fatal(is)
	}
	pl, is := protocols.Bind(p, demoLab(t).Lab, all)
	if len(is) > 0 {
		t.Fatal(is)
	}
	return pl
}

func quantity(v float64, unit string) lab.Value { return lab.NumberValue(lab.Q(v, unit)) }
