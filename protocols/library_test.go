package protocols_test

import (
	"cmp"
	"io/fs"
	"testing"
	"time"

	"labgate/configs"
	"labgate/lab"
	"labgate/protocols"
)

// The library's files check clean, bind with their defaults to the labs that
// they name (demo where they name none), and fit their own budgets even at worst.
func TestLibrary(t *testing.T) {
	files := protocols.Library()
	if len(files) < 2 {
		t.Fatalf("%d files", len(files))
	}
	for name, data := range files {
		t.Run(name, func(t *testing.T) {
			p, issues := protocols.Parse(name, data, demoLab(t).Classes, protocols.Files(files))
			if len(issues) > 0 {
				t.Fatal(issues)
			}
			pl := bindTo(t, p, labNamed(t, p.Lab))
			if p.Name+".yaml" != name {
				t.Errorf("the protocol is named %s", p.Name)
			}
			t.Logf("expected %s, worst %s, %d exposures, %d commands, %v", pl.Bill.Expected, pl.Bill.Worst, pl.Bill.Exposures, pl.Bill.Commands, pl.Bill.Consumption)
			if pl.Bill.Worst > p.Budget.Time {
				t.Errorf("at worst it takes %s; its budget is %s", pl.Bill.Worst, p.Budget.Time)
			}
			if pl.Bill.Expected < time.Second || pl.Bill.Expected > pl.Bill.Worst {
				t.Errorf("expected %s of %s", pl.Bill.Expected, pl.Bill.Worst)
			}
			t.Log(pl.Limits(), pl.AllReads(), pl.Instruments)
		})
	}
}

// labNamed is a built-in lab.
func labNamed(t testing.TB, name string) *lab.Lab {
	t.Helper()
	name = cmp.Or(name, "demo")
	sub, err := fs.Sub(configs.Embedded(), "labs/"+name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := configs.Load(sub, name)
	if err != nil {
		t.Fatal(err)
	}
	return c.Lab
}

// bindTo binds a protocol with its defaults.
func bindTo(t testing.TB, p *protocols.Protocol, l *lab.Lab) *protocols.Plan {
	t.Helper()
	inputs, issues := p.CheckInputs(nil)
	if len(issues) > 0 {
		t.Fatal(issues)
	}
	pl, issues := protocols.Bind(p, l, inputs)
	if len(issues) > 0 {
		t.Fatal(issues)
	}
	return pl
}
