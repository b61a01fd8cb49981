package dst

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"labgate/gateway"
	"labgate/internal/twin"
	"labgate/lab"
	"labgate/runner"
)

// trigger fires at the n-th of a kind of moments.
type trigger struct {
	what func(twin.Moment) bool
	left int
	down time.Duration // how long the process stays away
	then *trigger      // armed when it is back: it dies again while it recovers
}

func (t *trigger) fires(m twin.Moment) bool {
	if !t.what(m) {
		return false
	}
	t.left--
	return t.left < 0
}

// moments at which a process may die.
var moments = []struct {
	name string
	is   func(twin.Moment) bool
}{
	{"any event", func(m twin.Moment) bool { return m.Part == "gateway" || m.Part == "runner" }},
	{"a command is handed to its link", func(m twin.Moment) bool { _, ok := m.What.(gateway.Send); return ok }},
	{"a command is carried out", func(m twin.Moment) bool { _, ok := m.What.(twin.Touched); return ok }},
	{"a command's answer comes", func(m twin.Moment) bool { _, ok := m.What.(gateway.Exchanged); return ok }},
	{"something is durable", func(m twin.Moment) bool { _, ok := m.What.(gateway.Durable); return ok }},
	{"a run's record is durable", func(m twin.Moment) bool { _, ok := m.What.(runner.Durable); return ok }},
	{"an outcome is told", func(m twin.Moment) bool { _, ok := m.What.(runner.OutcomeArrived); return ok }},
	{"an intent is written", written("intent/v1")},
	{"an outcome is written", written("outcome/v1")},
	{"a lease is written", written("lease/v1")},
	{"a verdict is written", written("verdict/v1")},
	{"a run's step is written", written("run_step/v1")},
	{"a trip is written", written("trip/v1")},
	{"a safe command goes out", func(m twin.Moment) bool { _, ok := m.What.(gateway.Lane); return ok }},
}

func written(kind string) func(twin.Moment) bool {
	return func(m twin.Moment) bool { w, ok := m.What.(twin.Written); return ok && w.Entry.Kind == kind }
}

func killSoon(_ *simulation, r *rand.Rand) happening {
	down := between(r, 0, 8*time.Second)
	if chance(r, 1, 4) {
		down = between(r, 0, 40*time.Second) // past every lease
	}
	return happening{kind: "kill", say: fmt.Sprintf("the process is killed, and is back %s later", down.Round(time.Millisecond)), do: func(s *simulation, _ *rand.Rand) {
		s.kill = &trigger{down: down, what: moments[0].is}
	}}
}

func killAtMoment(_ *simulation, r *rand.Rand) happening {
	m := moments[r.IntN(len(moments))]
	t := trigger{what: m.is, left: r.IntN(6), down: between(r, 0, 4*time.Second)}
	say := fmt.Sprintf("the process is killed when %s, the %d. time from now", m.name, t.left+1)
	if chance(r, 1, 3) {
		t.then = &trigger{what: moments[0].is, left: r.IntN(60), down: between(r, 0, 2*time.Second)}
		say += ", and again while it recovers"
	}
	return happening{kind: "kill", say: say, do: func(s *simulation, _ *rand.Rand) {
		arm := t
		s.kill = &arm
	}}
}

// die kills the process, and plans its return.
func (s *simulation) die() {
	t := s.killed
	s.killed = nil
	if s.w.Down() {
		return
	}
	s.cover.met("killed", s)
	s.w.Kill()
	s.w.At(t.down, "the process starts again", func() { s.rise(t.then) })
}

// dieNow has the process killed before anything else happens.
func (s *simulation) dieNow() { s.kill, s.killed = nil, &trigger{down: time.Second} }

// rise starts the process, and arms what kills it again.
func (s *simulation) rise(then *trigger) {
	if !s.w.Down() {
		return
	}
	if then != nil && !s.calm {
		again := *then
		s.kill = &again
	}
	if err := s.w.Start(); err != nil {
		s.check.breaks("O4", "the process does not start again: %v", err)
	}
}

func pause(_ *simulation, r *rand.Rand) happening {
	d := between(r, 100*time.Millisecond, 5*time.Second)
	if chance(r, 1, 2) {
		d = between(r, 10*time.Second, 45*time.Second) // past every lease
	}
	return happening{kind: "pause", say: fmt.Sprintf("the process does nothing for %s", d.Round(time.Millisecond)), do: func(s *simulation, _ *rand.Rand) {
		s.w.Pause(d)
		s.check.paused(d)
	}}
}

func otherRules(s *simulation, r *rand.Rand) happening {
	if len(s.site.reloads) == 0 {
		return killSoon(s, r)
	}
	n := r.IntN(len(s.site.reloads))
	return happening{kind: "other rules", say: fmt.Sprintf("the process is killed, and finds another rules file (%d) when it is back", n), do: func(s *simulation, _ *rand.Rand) {
		s.w.Replace(s.site.reloads[n])
		s.dieNow()
	}}
}

func reload(s *simulation, r *rand.Rand) happening {
	if len(s.site.reloads) == 0 || chance(r, 1, 6) {
		return happening{kind: "reload", say: "a broken rules file is read", do: func(s *simulation, _ *rand.Rand) {
			s.w.Reload(nil, errors.New("line 3: this is no rule"))
		}}
	}
	n := r.IntN(len(s.site.reloads))
	return happening{kind: "reload", say: fmt.Sprintf("another rules file (%d) is read", n), do: func(s *simulation, _ *rand.Rand) {
		s.w.Reload(s.site.reloads[n], nil)
	}}
}

// disk is what the disk does to commits.
type disk struct {
	fail, kept bool
	full       bool
	stall      time.Duration
}

// commit is the disk.
func (s *simulation) commit([]lab.Entry) twin.Fate {
	f := twin.Fate{After: s.disk.stall}
	if s.disk.stall > 0 {
		s.cover.met("slow commit", s)
	}
	if f.Full = s.disk.full; f.Full {
		s.cover.met("full disk", s)
	}
	if s.disk.fail {
		s.cover.met("failed commit", s)
		f.Err, f.Kept = errors.New("input/output error"), s.disk.kept
	}
	return f
}

// badCommit fails a commit; somebody restarts the process some time later.
func badCommit(_ *simulation, r *rand.Rand) happening {
	kept, back := chance(r, 1, 2), between(r, time.Second, 20*time.Second)
	say := "the next commit fails"
	if kept {
		say = "the next commit is said to have failed, and is there after a restart"
	}
	return happening{kind: "bad disk", say: fmt.Sprintf("%s; a person restarts after %s", say, back.Round(time.Millisecond)), do: func(s *simulation, _ *rand.Rand) {
		s.disk.fail, s.disk.kept = true, kept
		s.w.At(back, "the disk is sound again", func() {
			s.disk.fail = false
			if !s.w.Down() {
				s.dieNow()
			}
		})
	}}
}

// fullDisk takes last words only, until somebody makes room and restarts.
func fullDisk(_ *simulation, r *rand.Rand) happening {
	back := between(r, time.Second, 25*time.Second)
	return happening{kind: "disk full", say: fmt.Sprintf("the disk is full; a person makes room and restarts after %s", back.Round(time.Millisecond)), do: func(s *simulation, _ *rand.Rand) {
		s.disk.full = true
		s.w.At(back, "there is room on the disk", func() {
			s.disk.full = false
			if !s.w.Down() {
				s.dieNow()
			}
		})
	}}
}

func slowDisk(_ *simulation, r *rand.Rand) happening {
	stall, lasts := between(r, 5*time.Millisecond, 3*time.Second), between(r, time.Second, 20*time.Second)
	return happening{kind: "slow disk", say: fmt.Sprintf("for %s a commit takes %s", lasts.Round(time.Millisecond), stall.Round(time.Millisecond)), do: func(s *simulation, _ *rand.Rand) {
		s.during("slow disk", lasts, func() { s.disk.stall = stall }, func() { s.disk.stall = 0 })
	}}
}

func (s *simulation) setClock(off time.Duration) {
	s.off, s.clockWasOff = off, s.clockWasOff || off != 0
	s.w.SetClock(off)
}

func clockStep(_ *simulation, r *rand.Rand) happening {
	by := between(r, -time.Minute, time.Minute)
	if chance(r, 1, 3) {
		by = between(r, -2*time.Second, 2*time.Second)
	}
	back := between(r, time.Second, 20*time.Second)
	return happening{kind: "clock step", say: fmt.Sprintf("the clock is set by %s; a person restarts after %s", by.Round(time.Millisecond), back.Round(time.Millisecond)), do: func(s *simulation, _ *rand.Rand) {
		s.setClock(s.off + by)
		s.w.At(back, "a person looks at the clock", func() {
			if s.check.distrusted && !s.w.Down() {
				s.dieNow()
			}
		})
	}}
}

func clockDrift(_ *simulation, r *rand.Rand) happening {
	step := between(r, -60*time.Millisecond, 60*time.Millisecond)
	times := 5 + r.IntN(25)
	return happening{kind: "clock drift", say: fmt.Sprintf("the clock is off by %s more every second, for %d s", step.Round(time.Millisecond), times), do: func(s *simulation, _ *rand.Rand) {
		var drift func(n int)
		drift = func(n int) {
			if n == 0 || s.calm {
				return
			}
			s.setClock(s.off + step)
			s.w.At(time.Second, "the clock drifts", func() { drift(n - 1) })
		}
		drift(times)
	}}
}
