package dst

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"labgate/gateway"
	"labgate/internal/twin"
	"labgate/lab"
)

// happening is something that is done to the laboratory at a moment.
type happening struct {
	after time.Duration // since the start
	kind  string        // for the coverage table
	say   string
	do    func(s *simulation, r *rand.Rand)
}

// plan decides what will happen.
func (s *simulation) plan() []happening {
	r := draw(s.seed, 3)
	var list []happening
	list = append(list, s.proposals(r)...)
	list = append(list, s.visits(r)...)
	n := 0
	if !chance(r, 1, 12) { // now and then nothing goes wrong
		n = 1 + r.IntN(5)
	}
	if chance(r, 1, 8) {
		n += r.IntN(12)
	}
	for range n {
		list = append(list, s.mishap(r))
	}
	slices.SortStableFunc(list, func(a, b happening) int { return int(a.after - b.after) })
	return list
}

// mishaps are the kinds of what goes wrong, and how often each is drawn.
var mishaps = []struct {
	weight int
	make   func(s *simulation, r *rand.Rand) happening
}{
	{10, stormy}, {3, partition}, {8, killSoon}, {5, killAtMoment}, {3, pause}, {2, otherRules}, {3, reload},
	{5, badCommit}, {3, fullDisk}, {3, slowDisk}, {3, clockStep}, {2, clockDrift}, {18, instrumentFault}, {4, reboot}, {6, upset}, {4, pressStop},
}

func (s *simulation) mishap(r *rand.Rand) happening {
	sum := 0
	for _, m := range mishaps {
		sum += m.weight
	}
	n := r.IntN(sum)
	for _, m := range mishaps {
		if n -= m.weight; n < 0 {
			h := m.make(s, r)
			if a := anchors[r.IntN(len(anchors))]; a.is != nil {
				h = anchored(h, a, between(r, 0, a.within+1))
			}
			h.after = between(r, 2*time.Second, trouble-10*time.Second)
			return h
		}
	}
	panic("unreachable")
}

// anchors are moments that mishaps wait for: that is when they hurt.
var anchors = []anchor{{}, {}, {say: "once something is carried out", within: 3 * time.Second, is: carriedOut}, {say: "as soon as something is decided", is: decided}}

type anchor struct {
	say    string
	within time.Duration // it comes up to so much later
	is     func(*simulation, twin.Moment) bool
}

func carriedOut(s *simulation, m twin.Moment) bool {
	x, ok := m.What.(twin.Touched)
	return ok && x.Order == nil && s.effectOf(x.Command.Target) == lab.Effectful
}

func decided(_ *simulation, m twin.Moment) bool {
	a, ok := m.What.(gateway.Append)
	return ok && len(a.Entries) > 0 && a.Entries[0].Kind == "allow/v1"
}

// anchored lets a mishap wait for a moment.
func anchored(h happening, a anchor, later time.Duration) happening {
	do := h.do
	h.say = fmt.Sprintf("%s, %s", a.say, h.say)
	h.do = func(s *simulation, r *rand.Rand) {
		s.waiting = append(s.waiting, waiting{a.is, func() {
			s.w.At(later, h.say, func() {
				if !s.calm {
					s.cover.met(h.kind, s)
					do(s, r)
				}
			})
		}})
	}
	return h
}

// waiting is what waits for a moment.
type waiting struct {
	is func(*simulation, twin.Moment) bool
	do func()
}

// during is a mishap that begins and ends.
func (s *simulation) during(kind string, lasts time.Duration, begin, end func()) {
	s.happens[kind]++
	begin()
	s.w.At(lasts, kind+" is over", func() {
		if s.happens[kind]--; s.happens[kind] == 0 {
			delete(s.happens, kind)
		}
		end()
	})
}

// weather is what the network does to messages.
type weather struct {
	lose, twice, late, overtake, survive int // in a thousand
	cut                                  func(twin.Packet) bool
}

// carry is the network.
func (s *simulation) carry(m twin.Packet, usual time.Duration) []twin.Arrival {
	w := &s.weather
	if w.cut != nil && w.cut(m) {
		s.cover.met("message cut off", s)
		return nil
	}
	a := twin.Arrival{After: usual}
	if w.lose+w.twice+w.late+w.overtake == 0 {
		return []twin.Arrival{a}
	}
	r := s.rand
	if r.IntN(1000) < w.lose {
		s.cover.met("message lost", s)
		return nil
	}
	if r.IntN(1000) < w.late {
		s.cover.met("message late", s)
		a.After += between(r, time.Millisecond, 6*time.Second)
	}
	a.Overtakes = r.IntN(1000) < w.overtake
	if a.Overtakes {
		s.cover.met("message out of order", s)
	}
	a.Survives = r.IntN(1000) < w.survive
	list := []twin.Arrival{a}
	if r.IntN(1000) < w.twice {
		s.cover.met("message twice", s)
		b := a
		b.After += between(r, time.Millisecond, 12*time.Second)
		b.Overtakes = true
		list = append(list, b)
	}
	return list
}

func stormy(_ *simulation, r *rand.Rand) happening {
	lasts := between(r, 2*time.Second, 30*time.Second)
	w := weather{survive: 500}
	for _, x := range []*int{&w.lose, &w.twice, &w.late, &w.overtake} {
		if chance(r, 1, 2) {
			*x = 1 + r.IntN(300)
		}
	}
	return happening{kind: "storm", say: fmt.Sprintf("for %s the network loses %d, repeats %d, delays %d and reorders %d of 1000 messages", lasts, w.lose, w.twice, w.late, w.overtake),
		do: func(s *simulation, _ *rand.Rand) {
			s.during("storm", lasts, func() { w.cut = s.weather.cut; s.weather = w }, func() { s.weather = weather{cut: s.weather.cut} })
		}}
}

func partition(_ *simulation, r *rand.Rand) happening {
	lasts := between(r, time.Second, 30*time.Second)
	type way struct {
		say string
		cut func(twin.Packet) bool
	}
	runner := func(m twin.Packet) bool { return m.From == "runner" }
	gateway := func(m twin.Packet) bool { return m.From == "gateway" }
	w := []way{{"runner and gateway are cut off from each other", func(m twin.Packet) bool { return runner(m) || gateway(m) }},
		{"what the runner says reaches nobody", runner}, {"what the gateway says reaches nobody", gateway}}[r.IntN(3)]
	return happening{kind: "partition", say: fmt.Sprintf("for %s %s", lasts, w.say), do: func(s *simulation, _ *rand.Rand) {
		s.during("partition", lasts, func() { s.weather.cut = w.cut }, func() { s.weather.cut = nil })
	}}
}
