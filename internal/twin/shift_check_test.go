package twin_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/go-cmp/cmp"

	"labgate/gateway"
	"labgate/internal/twin"
	"labgate/lab"
	"labgate/messages"
	"labgate/runner"
	"labgate/safety/preflight"
)

// instrumentsOf is what the protocols of the shift want.
var instrumentsOf = map[string][]string{
	"mix": {"pump_a", "pump_b", "reactor", "spectrometer"}, "warm": {"reactor"}, "strong": {"pump_a", "reactor"},
	"scan": {"camera", "stage"}, "inline": {"camera", "stage"}, "coat-films": {"cell"}, "glance": {"spectrometer"},
}

func wants(protocol string) []string {
	name, _, _ := strings.Cut(protocol, "@")
	return instrumentsOf[name]
}

func share(a, b []string) bool {
	return slices.ContainsFunc(a, func(in string) bool { return slices.Contains(b, in) })
}

// began holds the order of the queue to its promise at the moment a run
// begins: it passes nobody who wants one of its instruments, stands before it,
// and waits for nothing of its own.
func (s *shift) began(r *shiftRun, d messages.RunStart) {
	r.start, r.instruments = s.w.Now(), nil
	for _, in := range d.Roles {
		r.instruments = append(r.instruments, in)
	}
	s.begun = append(s.begun, r)
	for _, q := range s.w.Waiting() {
		other := s.run(q.Run, q.Principal)
		if !other.start.IsZero() { // a restart held it; a person has let it go on
			continue
		}
		if other.since.After(r.start.Add(-time.Second)) || !q.Counts.Before(r.counts) || !share(wants(q.Protocol), r.instruments) || s.moves[r.id] || s.moves[q.Run] {
			continue
		}
		lately := len(other.own) > 0 && r.start.Sub(other.own[len(other.own)-1].to) <= lookEvery+time.Second
		if !ownReason(q) && !lately {
			s.Errorf("run %s, which counts from %s, begins at %s before run %s, which counts from %s and waits for %+v", r.id, r.counts, r.start, q.Run, q.Counts, q.Waits)
		}
	}
}

// nobodyStarved bounds every wait. All of it is time in which the run waited for
// something of its own (an approval, a reset, a gateway, a person), or in which
// a run was under way that has one of its instruments, or one of those that a
// run before it in the queue waits for; began has seen that no other run passed
// it. What is left over is bounded by mostIdle, whatever the run and however
// long the queue.
func (s *shift) nobodyStarved() {
	s.Helper()
	for _, r := range s.begun {
		busy := append([]span(nil), r.own...)
		chain := slices.Clone(r.instruments)
		for _, y := range s.accepted { // those that waited before it
			if share(y.instruments, r.instruments) && !y.counts.After(r.counts) && y.since.Before(r.start) {
				chain = append(chain, y.instruments...)
			}
		}
		for _, x := range s.begun {
			if x != r && share(x.instruments, chain) {
				busy = append(busy, span{x.start, x.end})
			}
		}
		wait := r.start.Sub(r.since)
		for _, at := range s.kills {
			busy = append(busy, span{at, at.Add(comeBack)})
		}
		idle := wait - covered(busy, span{r.since, r.start})
		if idle > mostIdle {
			s.Errorf("run %s waited %s, %s of it for nobody", r.id, wait, idle)
		}
		s.worst["wait, priority "+r.priority] = max(s.worst["wait, priority "+r.priority], wait)
		s.worst["wait for nobody"] = max(s.worst["wait for nobody"], idle)
	}
	if len(s.begun) < s.n/3 {
		s.Errorf("only %d runs began", len(s.begun))
	}
}

// Bounds of nobodyStarved.
const (
	mostIdle = 15 * time.Second // between two runs: leases, and a look every five seconds
	comeBack = 10 * time.Second // after a kill, until the links are up
)

// span is a stretch of time.
type span struct{ from, to time.Time }

// covered is how much of a span others cover.
func covered(list []span, of span) time.Duration {
	slices.SortFunc(list, func(a, b span) int { return a.from.Compare(b.from) })
	sum, at := time.Duration(0), of.from
	for _, x := range list {
		from, to := x.from, x.to
		if from.Before(at) {
			from = at
		}
		if to.After(of.to) {
			to = of.to
		}
		if to.After(from) {
			sum, at = sum+to.Sub(from), to
		}
	}
	return sum
}

// oneAnswerEach: each proposal has one verdict, in the journal and wherever it
// was told; each accepted run one end, told once.
func (s *shift) oneAnswerEach() {
	s.Helper()
	verdicts, stops := map[string]messages.Verdict{}, map[string]int{}
	for _, e := range s.w.Entries() {
		switch e.Kind {
		case "verdict/v1":
			var v messages.Verdict
			s.read(e, &v)
			key := v.Principal + " " + v.Key
			if _, twice := verdicts[key]; twice {
				s.Errorf("two verdicts on %s", key)
			}
			verdicts[key] = v
		case messages.KindRunStop:
			stops[e.Run]++
			s.countEnd(e)
		case "denial/v1":
			var o lab.Outcome
			s.read(e, &o)
			for _, i := range o.Issues {
				if i.Rule != "" {
					s.counts["refused by "+i.Rule]++
				}
			}
		}
	}
	for _, who := range shiftAgents {
		told := s.w.Verdicts(who)
		for _, v := range told {
			if want := verdicts[who+" "+v.Key]; v.Decision != want.Decision || v.Run != want.Run {
				s.Errorf("told of %s is %s %s, and in the journal %s %s", v.Key, v.Decision, v.Run, want.Decision, want.Run)
			}
		}
		for _, key := range s.sent[who] {
			if !slices.ContainsFunc(told, func(v messages.Verdict) bool { return v.Key == key }) {
				s.Errorf("%s of %s has no answer", key, who)
			}
		}
	}
	if len(verdicts) != s.n {
		s.Errorf("%d verdicts on %d proposals", len(verdicts), s.n)
	}
	runs := 0
	for _, v := range verdicts {
		s.counts["verdict: "+v.Decision]++
		for _, i := range v.Issues {
			s.counts["rejected: "+i.Code]++
		}
		if v.Run == "" {
			continue
		}
		runs++
		told := 0
		for _, d := range s.w.Documents(v.Run) {
			if _, ok := d.(messages.RunStop); ok {
				told++
			}
		}
		if stops[v.Run] != 1 || told != 1 {
			s.Errorf("run %s has %d ends, told %d times", v.Run, stops[v.Run], told)
		}
	}
	if runs != len(stops) {
		s.Errorf("%d runs were accepted, and %d ended", runs, len(stops))
	}
}

// countEnd counts the ends that the shift is about.
func (s *shift) countEnd(e lab.Entry) {
	s.Helper()
	var d messages.RunStop
	s.read(e, &d)
	for what, say := range map[string]string{"holds timed out": "until its time was up", "approvals expired": "not approved in time", "expired in the queue": "expired before"} {
		if strings.Contains(d.Reason, say) {
			s.counts[what]++
		}
	}
}

func (s *shift) read(e lab.Entry, into any) {
	s.Helper()
	if err := json.Unmarshal(e.Body, into); err != nil {
		s.Fatal(err)
	}
}

// oneRunAnInstrument reads in the journal that one run at a time had each
// instrument, under numbers that only grew, and that nothing was sent but by
// the run that had it.
func (s *shift) oneRunAnInstrument() {
	s.Helper()
	type lease struct {
		run   string
		fence uint64
	}
	has, last := map[string]lease{}, map[string]uint64{}
	for _, e := range s.w.Entries() {
		switch e.Kind {
		case "lease/v1":
			var b struct {
				What  string
				Lease uint64
			}
			s.read(e, &b)
			switch {
			case b.What != "take":
				if has[e.Instrument] != (lease{e.Run, b.Lease}) {
					s.Errorf("%s: run %s gives lease %d back, and run %s has %d", e.Instrument, e.Run, b.Lease, has[e.Instrument].run, has[e.Instrument].fence)
				}
				delete(has, e.Instrument)
			case has[e.Instrument].run != "" || b.Lease <= last[e.Instrument]:
				s.Errorf("%s: run %s takes lease %d, after %d, while run %s has it", e.Instrument, e.Run, b.Lease, last[e.Instrument], has[e.Instrument].run)
				fallthrough
			default:
				has[e.Instrument], last[e.Instrument] = lease{e.Run, b.Lease}, b.Lease
				s.counts["leases"]++
			}
		case "intent/v1":
			var b struct{ Lease uint64 }
			s.read(e, &b)
			if has[e.Instrument] != (lease{e.Run, b.Lease}) {
				s.Errorf("%s: a command of run %s under lease %d, and run %s has %d", e.Instrument, e.Run, b.Lease, has[e.Instrument].run, has[e.Instrument].fence)
			}
			s.counts["effects"]++
		}
	}
	if len(has) > 0 {
		s.Errorf("leases are left behind: %v", has)
	}
}

// doses are the doses in the journal, each with how it ended.
type doses struct {
	instrument, run, principal map[string]string
	volume, done               map[string]float64
}

// doses reads what the outcomes say, in mL: a dose in doubt counts in full.
func (s *shift) doses() doses {
	s.Helper()
	d := doses{map[string]string{}, map[string]string{}, map[string]string{}, map[string]float64{}, map[string]float64{}}
	for _, e := range s.w.Entries() {
		switch e.Kind {
		case "intent/v1":
			var b struct {
				Name string
				Args map[string]lab.Value
			}
			s.read(e, &b)
			if b.Name == "dose" {
				q, err := b.Args["volume"].Quantity().In(lab.Q(1, "mL").Unit)
				if err != nil {
					s.Fatal(err)
				}
				d.instrument[e.Command], d.run[e.Command], d.principal[e.Command] = e.Instrument, e.Run, e.Principal
				d.volume[e.Command], d.done[e.Command] = q.Value, q.Value
			}
		case "outcome/v1":
			var b struct {
				Amount *lab.Quantity
				End    string
			}
			s.read(e, &b)
			if _, ok := d.volume[e.Command]; !ok {
				continue
			}
			d.done[e.Command] = map[string]float64{"all": 1, "maybe": 1}[b.End] * d.volume[e.Command]
			if b.End == "part" {
				d.done[e.Command] = b.Amount.Value
			}
		}
	}
	return d
}

// mL is the sum of what was dosed, as far as the outcomes say, of some doses.
func (d doses) mL(of func(command string) bool) (sum float64) {
	for _, id := range slices.Sorted(maps.Keys(d.done)) {
		if of(id) {
			sum += d.done[id]
		}
	}
	return sum
}

// budgetsExact compares three ledgers: what the world counts, what the
// outcomes in the journal say, and what the rules' accounts hold.
func (s *shift) budgetsExact() {
	s.Helper()
	d := s.doses()
	for _, pump := range []string{"pump_a", "pump_b"} {
		said := d.mL(func(id string) bool { return d.instrument[id] == pump })
		real := s.w.World().Count(pump).Dispensed
		if math.Abs(said-s.extra[pump]-real) > 1e-3*float64(1+len(d.done)) {
			s.Errorf("%s: outcomes say %.4f mL, people counted %.4f mL too much, and the world says %.4f mL", pump, said, s.extra[pump], real)
		}
		s.figures[pump+" by the world's count, mL"], s.figures[pump+" by the outcomes, mL"] = real, said
		s.figures[pump+" counted too much by people, mL"] = s.extra[pump]
	}
	snap, _ := s.w.Snapshots()
	var kept struct {
		Accounts []struct {
			Key     string
			Exp     int
			Ledgers []struct {
				Run, Principal string
				Spent          [2]uint64
			}
		}
	}
	b := messages.Body(snap.Safety)
	if err := json.Unmarshal(b, &kept); err != nil {
		s.Fatal(err)
	}
	compared := 0
	for _, a := range kept.Accounts {
		if !strings.HasPrefix(a.Key, "budget ") {
			continue
		}
		for _, l := range a.Ledgers {
			counted := (float64(l.Spent[0])*math.Exp2(64) + float64(l.Spent[1])) * math.Pow10(a.Exp)
			said := d.mL(func(id string) bool {
				return (l.Run == "" || d.run[id] == l.Run) && (l.Principal == "" || d.principal[id] == l.Principal)
			})
			if math.Abs(counted-said) > 1e-9*float64(1+len(d.done)) {
				s.Errorf("%q: the account of %s%s holds %.12f mL, and the outcomes say %.12f mL", a.Key, l.Run, l.Principal, counted, said)
			}
			compared++
			if l.Run == "" && l.Principal == "" {
				s.figures["both by the account of the day, mL"] = counted
			}
		}
	}
	if compared < 20 {
		s.Errorf("only %d accounts: this shows little", compared)
	}
	s.counts["accounts compared"] = compared
}

// nothingLeft: no lease, no run, no approval, no command, no latch, no doubt.
func (s *shift) nothingLeft() {
	s.Helper()
	for range 240 { // people finish what they have begun
		if st := s.w.Status(); len(st.InDoubt)+len(st.Unsettled)+len(st.Latches) == 0 {
			break
		}
		s.people()
		pass(s, s.w, time.Minute)
	}
	st := s.w.Status()
	if !st.Ready || len(st.InDoubt)+len(st.Unsettled)+len(st.Latches) > 0 {
		s.Errorf("left behind: %+v", st)
	}
	_, kept := s.w.Snapshots()
	if kept == nil || len(kept.Queue) > 0 {
		s.Errorf("the runner keeps %+v", kept)
	}
	for _, r := range s.w.Runs() {
		if r.Ended == nil || r.Position > 0 || len(r.Asks) > 0 || r.HeldUntil != nil {
			s.Errorf("left behind: %+v", r)
		}
	}
}

// rebuild makes the runner and the gateway again from the whole journal, and
// compares all that they keep.
func (s *shift) rebuild() {
	s.Helper()
	pass(s, s.w, time.Second) // what the journal has, the runner has heard by then
	live, runs := s.w.Snapshots()
	run(s, s.w, time.Second, func(*twin.Twin) bool { live, runs = s.w.Snapshots(); return runs != nil })
	o, now := s.options, s.w.Now()
	core := runner.New(runner.Options{Lab: o.Lab, Classes: o.Classes, Library: o.Library, Principals: o.Principals, RulesHash: o.Rules.Hash,
		Preflight: preflight.With(o.Rules), IDs: &never{}, Approvals: o.Approvals, MaxQueueEach: o.MaxQueueEach})
	gw, err := gateway.New(gateway.Options{Lab: o.Lab, Name: o.Lab.Instruments[0].Gateway, Rules: o.Rules, Encodable: o.Encodable})
	if err != nil {
		s.Fatal(err)
	}
	for _, e := range s.w.Entries() {
		if err := core.Restore(e); err != nil {
			s.Fatal(err)
		}
		if err := gw.Restore(e); err != nil {
			s.Fatal(err)
		}
	}
	if d := cmp.Diff(text(runs), text(core.Snapshot(now))); d != "" {
		s.Errorf("the journal of %d entries makes another runner (-live +made again):\n%s", len(s.w.Entries()), d)
	}
	again := gw.Snapshot(now)
	if d := cmp.Diff(unused(text(live.Safety.Accounts)), unused(text(again.Safety.Accounts))); d != "" {
		s.Errorf("the journal of %d entries makes other accounts (-live +made again):\n%s", len(s.w.Entries()), d)
	}
	if d := cmp.Diff(text(live.Safety.Latches), text(again.Safety.Latches)); d != "" {
		s.Errorf("the journal of %d entries makes other latches (-live +made again):\n%s", len(s.w.Entries()), d)
	}
	s.counts["times made again from the journal"]++
}

// unused drops when ledgers were last looked at: that only says which of
// thousands is forgotten first, and a command that was allowed and never sent
// has looked too.
func unused(text string) string {
	return regexp.MustCompile(`"used": "[^"]*"`).ReplaceAllString(text, "")
}

// never makes no ids: a core that is only restored asks for none.
type never struct{}

func (never) New(time.Time) string { panic("an id is made in a restore") }

func text(x any) string {
	b, err := json.MarshalIndent(x, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// table prints what the shift was.
func (s *shift) table(took time.Duration) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\nseed %d\t%d proposals, %d runs began, %d journal entries\n", s.seed, s.n, len(s.begun), len(s.w.Entries()))
	for _, k := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Fprintf(w, "%s\t%d\n", k, s.counts[k])
	}
	for _, k := range slices.Sorted(maps.Keys(s.worst)) {
		fmt.Fprintf(w, "longest %s\t%s\n", k, s.worst[k].Round(time.Second))
	}
	for _, k := range slices.Sorted(maps.Keys(s.figures)) {
		fmt.Fprintf(w, "%s\t%.4f\n", k, s.figures[k])
	}
	fmt.Fprintf(w, "wall time\t%s\n", took.Round(10*time.Millisecond))
	w.Flush()
	s.Log(b.String())
}
