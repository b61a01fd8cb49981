package serial

import (
	"bytes"
	"math"
	"regexp"
	"testing"
	"time"

	"pgregory.net/rapid"

	"labgate/sim"
)

var (
	pumpFrame  = regexp.MustCompile(`^\x02[0-9]{2}(A\?[A-Z]|[IWSPTU](\?|\?NA|\?OOR|[0-9A-Z.]*))\x03$`)
	stageFrame = regexp.MustCompile(`^(B|N|:A[^\r\n]*|:N-[0-9]+)\r\n$`)
)

// feed gives a stream of bytes to a device as a line does.
func feed(d device, w *sim.World, in []byte) (answers [][]byte) {
	var s splitter
	for _, c := range in {
		if command, tooLong, ok := s.next(c); ok {
			if a := d.answer(w, command, tooLong); len(a.data) > 0 {
				answers = append(answers, a.data)
			}
		}
	}
	return answers
}

func FuzzPumps(f *testing.F) {
	for _, s := range []string{"00DIS\r", "00RUN\r", "01RAT6MM\r01VOL0.15\r01RUN\r", "\r\r\n", "00VOL12.345\r", "02DIRWDR\r", "\x0200\x03\r", "9\r99\r999\r", "00CLDINF\r00*\r"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		w := sim.NewDemo(1, time.Unix(1_700_000_000, 0))
		answers := feed(newPumps("pump_a", "pump_b", "quench"), w, in)
		for _, a := range answers {
			if !pumpFrame.Match(a) {
				t.Errorf("%q was answered with %q", in, a)
			}
		}
		if n := bytes.Count(in, []byte("\r")); len(answers) > n {
			t.Errorf("%d answers to %d commands", len(answers), n)
		}
	})
}

func FuzzStage(f *testing.F) {
	for _, s := range []string{"W X\r", "M X=0 Y=-5000 Z=12000\r", "/\r", "\\\r", "R X=9223372036854775807\r", "M X==\r", "V\r", "M X=1 X=2\r"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		w := sim.NewDemo(1, time.Unix(1_700_000_000, 0))
		answers := feed(&controller{}, w, in)
		for _, a := range answers {
			if !stageFrame.Match(a) {
				t.Errorf("%q was answered with %q", in, a)
			}
		}
		if n := bytes.Count(in, []byte("\r")); len(answers) != n {
			t.Errorf("%d answers to %d commands", len(answers), n)
		}
	})
}

func TestNumbersHaveFourDigits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Float64Range(0, 9999).Draw(t, "v")
		s := writeNumber(v)
		back, bad := readNumber(s)
		if bad != "" {
			t.Fatalf("%v is written as %q, which the pump itself would refuse: %s", v, s, bad)
		}
		if math.Abs(back-v) > math.Max(0.0005, v*0.0005)*1.001 {
			t.Fatalf("%v is written as %q", v, s)
		}
	})
	for _, c := range []struct {
		v    float64
		want string
	}{{0, "0.000"}, {1.5, "1.500"}, {9.9996, "10.00"}, {14.43, "14.43"}, {999.96, "1000"}, {1e9, "9999"}, {-1, "0.000"}, {math.NaN(), "NAN"}} {
		if got := writeNumber(c.v); got != c.want {
			t.Errorf("%v: %q, want %q", c.v, got, c.want)
		}
	}
}
