package dst

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"labgate/lab"
)

// instrumentFault breaks an instrument, or its wire, for a while.
func instrumentFault(s *simulation, r *rand.Rand) happening {
	in := pick(r, s.site.lab.Names())
	name := pick(r, s.w.World().Faults()[in])
	for name == "reboot" {
		name = pick(r, s.w.World().Faults()[in])
	}
	lasts := between(r, 500*time.Millisecond, 25*time.Second)
	var args map[string]float64
	switch name {
	case "drop", "garble", "wrong_reply", "late_reply":
		if chance(r, 2, 3) {
			args = map[string]float64{"every": float64(1 + r.IntN(5))}
		}
	case "drift":
		args = map[string]float64{"rate": r.Float64()*4 - 2}
	}
	return happening{kind: name, say: fmt.Sprintf("%s: %s for %s", in, strings.ReplaceAll(name, "_", " "), lasts.Round(time.Millisecond)), do: func(s *simulation, _ *rand.Rand) {
		key := in + " " + name
		s.during(name, lasts, func() { s.faults[key]++; s.fault(in, name, true, args) }, func() {
			if s.faults[key]--; s.faults[key] <= 0 {
				delete(s.faults, key)
				s.fault(in, name, false, nil)
			}
		})
	}}
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func (s *simulation) fault(in, name string, on bool, args map[string]float64) {
	if err := s.w.World().Fault(in, name, on, args); err != nil {
		panic(fmt.Sprintf("dst: the world refuses a fault that it lists: %v", err))
	}
	s.check.faulty(in)
}

func reboot(s *simulation, r *rand.Rand) happening {
	in := pick(r, s.site.lab.Names())
	return happening{kind: "reboot", say: in + " loses its power for a moment", do: func(s *simulation, _ *rand.Rand) {
		s.check.faulty(in)
		s.w.World().Reboot(in)
	}}
}

// knobs of the room, and what they are when all is well.
var knobs = []struct {
	name     string
	bad, was float64
	say      string
}{
	{"room.airflow", 0, 0.5, "the hood fails"},
	{"room.door_closed", 0, 1, "the door is open"},
	{"room.emergency", 1, 0, "somebody presses the button by the door"},
	{"room.oxygen", 17, 20.9, "there is too little oxygen"},
}

func upset(s *simulation, r *rand.Rand) happening {
	if s.site.lab.Instrument("room") == nil {
		return instrumentFault(s, r)
	}
	k, lasts := pick(r, knobs), between(r, 300*time.Millisecond, 15*time.Second)
	return happening{kind: "upset", say: fmt.Sprintf("%s for %s", k.say, lasts.Round(time.Millisecond)), do: func(s *simulation, _ *rand.Rand) {
		s.during("upset", lasts, func() { s.set(k.name, k.bad) }, func() { s.set(k.name, k.was) })
	}}
}

func (s *simulation) set(knob string, to float64) {
	if err := s.w.World().Set(knob, to); err != nil {
		panic(fmt.Sprintf("dst: the world has no %s: %v", knob, err))
	}
}

func pressStop(s *simulation, r *rand.Rand) happening {
	in := ""
	if chance(r, 2, 3) {
		in = pick(r, s.site.lab.Names())
	}
	say := "somebody stops everything"
	if in != "" {
		say = "somebody stops " + in
	}
	return happening{kind: "stop", say: say, do: func(s *simulation, _ *rand.Rand) {
		if s.w.Down() {
			return
		}
		s.w.Stop(in)
	}}
}

// heal ends every fault.
func (s *simulation) heal() {
	for _, key := range sortedKeys(s.faults) {
		in, name, _ := strings.Cut(key, " ")
		s.fault(in, name, false, nil)
	}
	clear(s.faults)
	if s.site.lab.Instrument("room") != nil {
		for _, k := range knobs {
			s.set(k.name, k.was)
		}
	}
	s.weather, s.disk = weather{}, disk{}
	s.kill, s.killed, s.waiting, s.ripe = nil, nil, nil, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// effectOf is the effect class of a command; the most careful one where it is
// not known.
func (s *simulation) effectOf(id lab.CommandID) lab.Effect {
	if spec := s.site.lab.CommandSpec(id); spec != nil {
		return spec.Effect
	}
	return lab.Effectful
}
