package rulecases

import (
	"math"
	"time"

	"labgate/gateway"
	"labgate/lab"
)

// set tells a property what to be from now on.
func (b *bench) set(g setting) {
	s := b.byID[g.id]
	s.told, s.end = false, time.Time{}
	switch {
	case g.word == "frozen":
		b.feedOnly(s) // the last reading that comes
		s.word = "frozen"
	case g.word != "":
		s.word = g.word
	case g.ramp > 0:
		s.word, s.from, s.to, s.began, s.end = "", s.value.Num, g.value.Num, b.now, b.now.Add(g.ramp)
		s.value.Unit = g.value.Unit
	default:
		if s.word != "stuck" && s.word != "frozen" || s.value.Kind != g.value.Kind || s.value != g.value {
			s.word = ""
		}
		s.value = g.value
	}
}

func (b *bench) feedOnly(s *sensor) {
	if r, ok := b.reading(s); ok {
		b.step(gateway.Readings{Samples: []lab.Sample{{ID: s.id, Reading: r}}})
	}
}

// reading is what a sensor says now; false: nothing comes.
func (b *bench) reading(s *sensor) (lab.Reading, bool) {
	if !s.end.IsZero() {
		part := float64(b.now.Sub(s.began)) / float64(s.end.Sub(s.began))
		if part = min(part, 1); part == 1 {
			s.end = time.Time{}
		}
		if s.value.Num = s.from + (s.to-s.from)*part; s.value.Kind == lab.Integer {
			s.value.Num = math.Round(s.value.Num)
		}
	}
	r := lab.Reading{Value: s.value, Quality: lab.Good, Source: b.now, Received: b.now, Epoch: b.epochs[s.id.Instrument]}
	switch s.word {
	case "frozen", "missing":
		return r, false
	case "bad":
		r.Quality = lab.Bad
	case "uncertain":
		r.Quality = lab.Uncertain
	case "nan":
		r.Value.Num = math.NaN()
	case "inf":
		r.Value.Num = math.Inf(1)
	case "stale":
		r.Source = b.now.Add(-s.maxAge - time.Second)
	case "future":
		if s.told {
			return r, false
		}
		s.told = true
		r.Source, r.Received = b.now.Add(time.Hour), b.now.Add(time.Hour)
	case "":
		if s.jitter && r.Value.Kind == lab.Number && b.now.UnixMilli()/100%2 == 0 {
			r.Value.Num += 1e-9 * max(1, math.Abs(r.Value.Num))
		}
	}
	return r, true
}

func (b *bench) samples(ids []lab.PropertyID) []lab.Sample {
	var list []lab.Sample
	for _, id := range ids {
		if s := b.byID[id]; s != nil {
			if r, ok := b.reading(s); ok {
				list = append(list, lab.Sample{ID: id, Reading: r})
			}
		}
	}
	return list
}

// feed lets every sensor speak.
func (b *bench) feed() {
	b.fed = b.now
	list := make([]lab.Sample, 0, len(b.sensors))
	for _, s := range b.sensors {
		if r, ok := b.reading(s); ok {
			list = append(list, lab.Sample{ID: s.id, Reading: r})
		}
	}
	b.step(gateway.Readings{Samples: list})
}
