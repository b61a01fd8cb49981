package protocols_test

import (
	"testing"
	"time"

	"labgate/protocols"
)

// The library's files check clean, bind to the demo lab with their defaults,
// and fit their own budgets even at worst.
func TestLibrary(t *testing.T) {
	files := protocols.Library()
	if len(files) < 2 {
		t.Fatalf("%d files", len(files))
	}
	for name, data := range files {
		t.Run(name, func(t *testing.T) {
			pl := bind(t, string(data), nil)
			p := pl.Protocol
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
