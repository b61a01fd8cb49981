package lab

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// A permit is checked against this hash right before the first byte, with the
// stop path waiting behind: it costs no garbage.
func TestHashAllocatesNothing(t *testing.T) {
	c := command()
	if n := testing.AllocsPerRun(100, func() { c.Hash() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Texts that are cut at other places make other commands, though put end to
// end they are the same.
func TestHashKeepsTextsApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "ab", "\x00", "1", "true", "x\x01"}), 6, 6)
		make := func(x []string) *Command {
			return &Command{ID: x[0], Principal: x[1], Run: x[2], Samples: x[3:4], Labels: map[string]string{x[4]: x[5]},
				Args: map[string]Value{x[4]: TextValue(x[3]), x[0]: TextValue(x[1])}}
		}
		a, b := texts.Draw(t, "a"), texts.Draw(t, "b")
		same := true
		for i := range a {
			same = same && a[i] == b[i]
		}
		if (make(a).Hash() == make(b).Hash()) != same {
			t.Fatalf("%q and %q: the hashes are the same", a, b)
		}
	})
}

func TestHashOfEqualAmounts(t *testing.T) {
	a, b := command(), command()
	a.Args["volume"], b.Args["volume"] = NumberValue(Quantity{0, Second}), NumberValue(Quantity{math.Copysign(0, -1), Second})
	if a.Hash() != b.Hash() {
		t.Error("-0 and 0 are one amount")
	}
}

func BenchmarkHash(b *testing.B) {
	c := command()
	b.ReportAllocs()
	for b.Loop() {
		c.Hash()
	}
}
