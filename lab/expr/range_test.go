package expr

import (
	"testing"

	"labgate/lab"
)

// A range of choices or of a bool is its single values, the unknown one too;
// numbers are not taken apart.
func TestEach(t *testing.T) {
	p, err := Compile(lab.Source{Text: "a == b"}, MapScope{"a": {Slot: 0, Type: lab.Type{Kind: lab.Bool}}, "b": {Slot: 1, Type: lab.Type{Kind: lab.Bool}}})
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		r    Range
		want []Truths // of a == true
	}{
		"bool":         {EitherWay(), []Truths{setOf(False), setOf(True)}},
		"or unknown":   {EitherWay().OrUnknown(), []Truths{setOf(False), setOf(True), setOf(Unknown)}},
		"one":          {Exactly(lab.BoolValue(true)), []Truths{setOf(True)}},
		"number":       {between(1, 2, "s"), nil},
		"nothing told": {Range{}, nil},
	} {
		each := c.r.Each()
		if len(each) != len(c.want) {
			t.Errorf("%s: %d values, %d wanted", what, len(each), len(c.want))
			continue
		}
		for i, r := range each {
			if got := p.TruthsOver([]Range{r, Exactly(lab.BoolValue(true))}); got != c.want[i] {
				t.Errorf("%s: value %d gives %b, not %b", what, i, got, c.want[i])
			}
		}
	}
	if each := OneOf("idle", "busy").OrUnknown().Each(); len(each) != 3 || each[2].Covers(OneOf("idle")) {
		t.Errorf("choices: %v", each)
	}
}
