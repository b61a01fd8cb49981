package expr_test

import (
	"fmt"
	"strings"
	"testing"

	"labgate/lab/expr"

	"pgregory.net/rapid"
)

var spotNames = map[expr.SpotKind]string{expr.SpotCompare: "compare", expr.SpotJoin: "join", expr.SpotOperand: "part", expr.SpotName: "name",
	expr.SpotValue: "value", expr.SpotNumber: "number", expr.SpotSpan: "span", expr.SpotNeed: "need"}

// TestSpots: each spot as kind, sense and text.
func TestSpots(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"a > 5 K", "compare+[>] value+[a] number-[5 K]"},
		{"5 K >= a", "compare+[>=] number+[5 K] value-[a]"},
		{"not (a < 5 K)", "compare-[<] value+[a] number-[5 K]"},
		{"a == idle", "compare+[==] value0[a] value0[idle]"},
		{"a and not b", "join+[and] part+[a] name+[a] part+[not b] name-[b]"},
		{"a or (b and c)", "join+[or] part+[a] name+[a] part+[(b and c)] join+[and] part+[b] name+[b] part+[c] name+[c]"},
		{"held(a > -5 degC, 10 s)", "compare+[>] value+[a] number-[-5 degC] span-[10 s]"},
		{"stuck_for(a, 10 s)", "value0[a] span-[10 s]"},
		{"vote(2, a, b > 1)", "need-[2] name+[a] compare+[>] value+[b] number-[1]"},
		{"rate(a, 2 s) > 3 K/s", "compare+[>] value0[a] span0[2 s] number-[3 K/s]"},
		{"mean(a, 2 s) > 3 K", "compare+[>] value+[a] span0[2 s] number-[3 K]"},
		{"voted(2, 5 K, a, b) > 3 degC", "compare+[>] need0[2] span0[5 K] value+[a] value+[b] number-[3 degC]"},
		{"a - b + 2 < 4 * c", "compare+[<] value-[a] value+[b] number-[2] number0[4] value+[c]"},
		{"a / 2 < b / c", "compare+[<] value-[a] number0[2] value0[b] value0[c]"},
		{"abs(a - 20 degC) < 5 K", "compare+[<] value0[a] number0[20 degC] number+[5 K]"},
		{"max(a, -b) > 5", "compare+[>] value+[a] value-[b] number-[5]"},
		{"age(a) < 5 s and quality(a) == good", "join+[and] part+[age(a) < 5 s] compare+[<] number+[5 s] part+[quality(a) == good] compare+[==] value0[good]"},
		{"not tripped(g)", ""},
		{"a", "name+[a]"},
		{"a +", ""},
		{"", ""},
	} {
		var got []string
		for _, s := range expr.Spots(c.text) {
			sense := map[int]string{1: "+", 0: "0", -1: "-"}[s.Sense]
			got = append(got, fmt.Sprintf("%s%s[%s]", spotNames[s.Kind], sense, s.Text))
			at := c.text[s.Pos:s.End]
			if s.Kind == expr.SpotOperand && !strings.Contains(at, s.Text) || s.Kind != expr.SpotOperand && at != s.Text {
				t.Errorf("%s: at %d to %d stands %q, not %q", c.text, s.Pos, s.End, at, s.Text)
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.text, s, c.want)
		}
	}
}

// TestSpotsOfAnything: any text has spots within itself, or none.
func TestSpotsOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOf(rapid.SampledFrom([]string{"a", "b.c", "5 K", "(", ")", "and", "or", "not", ">", "==", "+", "-", "*", "/", ",", "held", "vote", "2", "ü", "\n"})).Draw(t, "words")
		text := strings.Join(words, " ")
		for _, s := range expr.Spots(text) {
			if s.Pos < 0 || s.End < s.Pos || s.End > len(text) {
				t.Fatalf("%q: %+v", text, s)
			}
		}
	})
}
