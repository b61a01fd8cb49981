package dst

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"labgate/internal/twin"
	"labgate/lab"
	"labgate/lab/frame"
)

// Options say how a seed is run.
type Options struct {
	// Keep are the numbers of the happenings that are let happen; nil: all.
	Keep []int
	// Trace keeps the twin's trace: a run is slower, and goes the same way.
	Trace bool
}

// Report is what a seed showed.
type Report struct {
	Seed       uint64
	Site       string
	Happenings []string   // what was let happen, in words, in order
	numbers    []int      // of them
	Violation  *Violation // nil: every promise held
	Events     int
	Print      uint64 // the same where everything happened at the same moments
	Virtual    time.Duration
	Coverage   Coverage
	Trace      []byte
	Text       map[string]string // the files of the laboratory
}

// Violation is a promise that did not hold.
type Violation struct {
	Promise string // "S1"
	At      time.Duration
	Say     string
}

func (v *Violation) Error() string {
	return fmt.Sprintf("%s is broken %s after the start: %s", v.Promise, lab.Seconds(v.At), v.Say)
}

// Times of a simulation.
const (
	trouble  = 75 * time.Second // how long things go wrong
	lastAsk  = 45 * time.Second // when the last proposal comes
	calm     = 30 * time.Minute // by when everything must be over, once nothing goes wrong any more
	patience = 4 * time.Minute  // of the people, with runs that are held
	glance   = 3 * time.Second  // between two looks of the people, when nothing goes wrong any more
)

// simulation is one seed.
type simulation struct {
	seed  uint64
	site  *site
	w     *twin.Twin
	start time.Time
	rand  *rand.Rand // of what happens by itself; happenings have their own
	ids   int

	weather     weather
	disk        disk
	waiting     []waiting
	ripe        []func() // of those, whose moment has come
	kill        *trigger // when it fires, the process dies
	killed      *trigger // it has fired
	off         time.Duration
	clockWasOff bool
	faults      map[string]int // switches of the world that are on, and how often
	happens     map[string]int // by kind: how many of it are under way, for the coverage
	calm        bool           // nothing goes wrong any more

	check *checker
	cover Coverage
	n     int    // events
	print uint64 // of the moments, to tell two runs apart
}

// Run runs one seed. An error means that the simulation itself failed; a broken
// promise is in the report.
func Run(seed uint64, o Options) (*Report, error) {
	s, err := newSimulation(seed, o)
	if err != nil {
		return nil, fmt.Errorf("seed %d: %w", seed, err)
	}
	plan := s.plan()
	rep := &Report{Seed: seed, Site: s.site.name, Text: s.site.text}
	err = s.through(plan, o.Keep, rep)
	rep.Print, rep.Violation, rep.Events, rep.Virtual, rep.Coverage = s.print, s.check.violation, s.n, s.w.Now().Sub(s.start), s.cover
	if o.Trace {
		rep.Trace = s.w.Trace()
	}
	if err != nil && rep.Violation == nil {
		return rep, fmt.Errorf("seed %d: %w", seed, err)
	}
	return rep, nil
}

func newSimulation(seed uint64, o Options) (*simulation, error) {
	site, err := newSite(seed)
	if err != nil {
		return nil, err
	}
	s := &simulation{seed: seed, site: site, rand: draw(seed, 1), faults: map[string]int{}, happens: map[string]int{}, cover: Coverage{}}
	s.check = newChecker(s)
	r := draw(seed, 2)
	s.w, err = twin.New(twin.Options{Lab: site.lab, Rules: site.rules, Classes: site.classes, Library: site.library, Principals: site.principals, Approvals: site.approvals,
		Encodable: frame.Encodable, Seed: seed, SnapshotEvery: []int{0, 20, 60, 200}[r.IntN(4)], MaxAnswered: []int{0, 1, 4}[r.IntN(3)], Quiet: !o.Trace, Sparse: true, MaxQueueEach: 4,
		Faults: twin.Faults{Carry: s.carry, Commit: s.commit}, Watch: s.watch})
	if err != nil {
		return nil, err
	}
	s.start = s.w.Now()
	s.check.oracle.began = s.start
	return s, nil
}

// draw is a source of randomness of its own for each use, the same on every
// machine.
func draw(seed, use uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, use)) }

func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)))
}

func chance(r *rand.Rand, one, of int) bool { return r.IntN(of) < one }

func (s *simulation) id(of string) string {
	s.ids++
	return fmt.Sprintf("%s-%d", of, s.ids)
}

// through lets the happenings happen, then lets everything come to its end.
func (s *simulation) through(plan []happening, keep []int, rep *Report) error {
	for n, h := range plan {
		if keep != nil && !slices.Contains(keep, n) {
			continue
		}
		if err := s.pass(h.after - s.w.Now().Sub(s.start)); err != nil || s.check.violation != nil {
			return err
		}
		rep.Happenings = append(rep.Happenings, fmt.Sprintf("%3d. %6.2f s  %s", n, s.w.Now().Sub(s.start).Seconds(), h.say))
		rep.numbers = append(rep.numbers, n)
		s.cover.met(h.kind, s)
		h.do(s, draw(s.seed, 1000+uint64(n)))
	}
	if err := s.pass(trouble - s.w.Now().Sub(s.start)); err != nil || s.check.violation != nil {
		return err
	}
	return s.comeToAnEnd()
}

// pass lets time pass, and the process die where it is to.
func (s *simulation) pass(d time.Duration) error {
	end := s.w.Now().Add(d)
	for s.w.Now().Before(end) && s.check.violation == nil {
		err := s.w.Run(s.interrupted, end.Sub(s.w.Now()))
		if err != nil && lab.KindOf(err) != lab.KindExpired {
			return err
		}
		for _, do := range s.ripe {
			do()
		}
		s.ripe = nil
		if s.killed != nil {
			s.die()
		}
	}
	return nil
}

// interrupted is asked after every event.
func (s *simulation) interrupted(*twin.Twin) bool {
	s.n++
	return len(s.ripe) > 0 || s.killed != nil || s.check.violation != nil
}

// watch is told of everything, and tells the checker.
func (s *simulation) watch(m twin.Moment) {
	s.print = (s.print ^ uint64(m.At.UnixNano()) ^ uint64(len(m.Part))) * 1099511628211
	s.waiting = slices.DeleteFunc(s.waiting, func(x waiting) bool {
		is := x.is(s, m)
		if is {
			s.ripe = append(s.ripe, x.do)
		}
		return is
	})
	if s.kill != nil && s.kill.fires(m) {
		s.kill, s.killed = nil, s.kill
	}
	s.check.see(m)
}
