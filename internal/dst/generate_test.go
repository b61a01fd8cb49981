package dst

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"labgate/configs"
	"labgate/internal/twin"
	"labgate/lab"
	"labgate/lab/frame"
	"labgate/messages"
	"labgate/protocols"
	"labgate/safety"
)

// someSites are every n-th variant.
func someSites(t *testing.T, every uint64) (list []*site) {
	t.Helper()
	for n := uint64(0); n < siteVariants; n += every {
		s, err := newSite(n)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

var start = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// The same seed has the same laboratory and the same proposals, whoever asks
// and however often.
func TestSameSite(t *testing.T) {
	for n := uint64(0); n < siteVariants; n += 7 {
		a, err := newSite(n + siteVariants*3)
		if err != nil {
			t.Fatal(err)
		}
		b, err := buildSite(n)
		if err != nil {
			t.Fatal(err)
		}
		if a.name != b.name || !maps.Equal(a.text, b.text) || a.lab.Hash != b.lab.Hash || a.rules.Hash != b.rules.Hash {
			t.Fatalf("variant %d is %s and %s, with different files", n, a.name, b.name)
		}
		if fmt.Sprintf("%+v %+v", a.principals, a.approvals) != fmt.Sprintf("%+v %+v", b.principals, b.approvals) {
			t.Errorf("%s: other people:\n%+v\n%+v", a.name, a.principals, b.principals)
		}
		for i, r := range a.reloads {
			if r.Hash != b.reloads[i].Hash {
				t.Errorf("%s: reload %d differs", a.name, i)
			}
		}
		for k := range agentKinds {
			r1, r2 := rand.New(rand.NewPCG(n, 1)), rand.New(rand.NewPCG(n, 1))
			for i := range 10 {
				if x, y := a.proposal(r1, agentKind(k), i, start), b.proposal(r2, agentKind(k), i, start); !bytes.Equal(x, y) {
					t.Fatalf("%s: proposal %d of somebody %s differs:\n%s\n%s", a.name, i, agentKind(k), x, y)
				}
			}
		}
	}
}

// What the generator reads by parts is what a lab folder with the same texts
// is: a story can be repeated by hand.
func TestSiteIsAFolder(t *testing.T) {
	for n := uint64(1); n < siteVariants; n += 29 {
		s, err := newSite(n)
		if err != nil {
			t.Fatal(err)
		}
		folder := fstest.MapFS{}
		for name, text := range s.text {
			if name != "lab.yaml" && name != "interlocks.yaml" {
				name = "protocols/" + name
			}
			folder[name] = &fstest.MapFile{Data: []byte(text)}
		}
		cfg, err := configs.Load(folder, s.name)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if len(cfg.Lab.Instruments) != len(s.lab.Instruments) || len(cfg.Rules.Rules) != len(s.rules.Rules) {
			t.Errorf("%s: %d instruments and %d rules, the folder has %d and %d", s.name, len(s.lab.Instruments), len(s.rules.Rules), len(cfg.Lab.Instruments), len(cfg.Rules.Rules))
		}
	}
}

// Every site has what a simulation needs, and few drafts were refused.
func TestSites(t *testing.T) {
	began := time.Now()
	real, drafts, refused := 0, 0, 0
	sizes := map[int]int{}
	sites := someSites(t, 1)
	took := time.Since(began)
	for _, s := range sites {
		roles := map[string]int{}
		for _, p := range s.principals {
			roles[p.Role]++
		}
		if roles["agent"] < 2 || roles["scientist"] < 1 || roles["operator"] < 2 || roles["safety"] < 1 {
			t.Errorf("%s: only %v", s.name, roles)
		}
		equal := slices.ContainsFunc(s.reloads, func(r *safety.Rules) bool { return r.Hash == s.rules.Hash })
		other := slices.ContainsFunc(s.reloads, func(r *safety.Rules) bool { return r.Hash != s.rules.Hash })
		if !equal || !other || len(s.short) == 0 {
			t.Errorf("%s: equal rules %v, other rules %v, %d short protocols", s.name, equal, other, len(s.short))
		}
		if s.text["lab.yaml"] == "" || s.text["interlocks.yaml"] == "" || s.text["work-1.yaml"] == "" {
			t.Errorf("%s: files missing from %v", s.name, slices.Sorted(maps.Keys(s.text)))
		}
		if strings.HasPrefix(s.name, "demo") {
			real++
		} else {
			sizes[len(s.lab.Instruments)]++
			if n := len(s.lab.Instruments); n > 5 {
				t.Errorf("%s: %d instruments", s.name, n)
			}
			if s.effects() == 0 {
				t.Errorf("%s: nothing in it does anything that must not happen twice", s.name)
			}
		}
		drafts, refused = drafts+len(s.text)+s.refused, refused+s.refused
	}
	t.Logf("%d sites in %s, %.1f ms each, %.2f ms for each of 10,000 seeds; %d real; instruments of the others: %v; %d of %d drafts were refused",
		len(sites), took.Round(time.Millisecond), took.Seconds()*1000/float64(len(sites)), took.Seconds()*1000/10_000, real, sizes, refused, drafts)
	if refused*10 > drafts {
		t.Errorf("%d of %d drafts were refused: the generator writes too much that nobody can load", refused, drafts)
	}
	if real*5 < len(sites) || real*3 > len(sites) {
		t.Errorf("%d of %d are real", real, len(sites))
	}
}

// effects counts what must not happen twice, or moves.
func (s *site) effects() (n int) {
	for _, in := range s.lab.Instruments {
		for _, c := range in.Profile.Components {
			if slices.Contains([]string{"pump/v1", "plate-dispenser/v1", "packml-cell/v1", "stage/v1"}, c.Class.Name) {
				n++
			}
		}
	}
	return n
}

// counts are how often each thing was there.
type counts map[string]int

func (c counts) add(what string, there bool) {
	if n := c[what]; there {
		c[what] = n + 1
	} else {
		c[what] = n // a zero is seen
	}
}

func (c counts) table() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(c)) {
		fmt.Fprintf(&b, "%6d  %s\n", c[k], k)
	}
	return b.String()
}

// rule counts what a rule has, by what the loader made of it.
func (c counts) rule(r *safety.Rule) {
	if r.FromLab {
		c.add("lab: limit", true)
		return
	}
	for k, name := range map[safety.RuleKind]string{safety.LimitRule: "limit", safety.PermissiveRule: "permissive", safety.TripRule: "trip", safety.SequenceRule: "sequence",
		safety.ZoneRule: "zone", safety.BudgetRule: "budget", safety.AlarmRule: "alarm"} {
		c.add("rule: "+name, r.Kind == k)
	}
	l := r.Limit
	c.add("limit: min", l.Min != nil)
	c.add("limit: max", l.Max != nil)
	c.add("limit: step", l.Step != nil)
	c.add("limit: change", l.Change != nil)
	c.add("limit: total", l.Total != nil)
	c.add("limit: together", l.Together)
	c.add("permissive: grace", r.Grace > 0)
	c.add("permissive: at start", r.AtStart)
	c.add("on_delay", r.OnDelay > 0)
	c.add("unknown_for", r.UnknownFor > 0)
	c.add("trip: respond_within", r.RespondWithin > 0)
	c.add("trip: mitigates", len(r.Mitigates) > 0)
	c.add("trip: hold", r.Run == safety.RunHold)
	c.add("trip: abort", r.Run == safety.RunAbort)
	c.add("trip: wait", slices.ContainsFunc(r.Do, func(s lab.SafeStep) bool { return s.Wait > 0 }))
	c.add("bypass: never", r.NoBypass)
	c.add("proof test", r.ProofTest != nil)
	c.add("for: any", strings.Contains(r.ID, "@"))
	if s := r.Sequence; s != nil {
		c.add("sequence: within", s.Within > 0)
		c.add("sequence: not_since", len(s.NotSince) > 0)
		c.add("sequence: after a condition", s.After.Command.Command == "")
	}
	for _, x := range r.Claims {
		c.add("zone: until end of run", x.UntilRunEnd)
		c.add("zone: until a command", x.UntilCmd.Command != "")
	}
	if b := r.Budget; b != nil {
		for _, p := range []safety.Scope{safety.PerCommand, safety.PerRun, safety.PerCampaign, safety.PerPrincipal, safety.PerDay} {
			c.add("budget: per "+string(p), slices.Contains(b.Per, p))
		}
		c.add("budget: count", b.Terms[0].Text == "")
	}
}

// step counts what a step has.
func (c counts) step(s *protocols.Step) {
	for k := protocols.Do; k < protocols.Ramp; k++ {
		c.add("step: "+k.String(), s.Kind == k)
	}
	c.add("on_error: retry", s.OnError.Retry > 0)
	c.add("on_error: steps", len(s.OnError.Steps) > 0)
	c.add("on_error: hold", s.OnError.Hold > 0)
	c.add("on_error: skip", s.OnError.Then == protocols.Skip)
	c.add("on_error: continue", s.OnError.Then == protocols.Continue)
	c.add("parallel: any", s.Policy == protocols.AnyBranch)
	c.add("parallel: each", s.Policy == protocols.EachBranch)
	c.add("repeat: over", len(s.Over) > 0)
	c.add("repeat: until", s.Kind == protocols.Repeat && s.Until != nil)
	c.add("repeat: every", s.Every > 0)
	c.add("wait: until", s.Kind == protocols.Wait && s.Until != nil)
	c.add("else: continue", s.Else == protocols.ElseContinue)
	c.add("if: else", len(s.Otherwise) > 0)
	c.add("ask: gives", len(s.Answers) > 0)
	c.add("safe_point", s.SafePoint)
	c.add("sample of a step", s.Sample != nil)
	c.add("expect", s.Expect > 0)
}

func (c counts) protocol(p *protocols.Protocol) {
	p.Walk(c.step)
	c.add("cleanup", len(p.Cleanup) > 0)
	c.add("finally", len(p.Finally) > 0)
	c.add("limits", len(p.Limits) > 0)
	c.add("outputs", len(p.Outputs) > 0)
	for _, in := range p.Inputs {
		for _, k := range []lab.TypeKind{lab.Number, lab.Integer, lab.Bool, lab.Enum} {
			c.add("input: "+k.String(), in.Type.Kind == k)
		}
		c.add("input: default", in.Default != nil)
	}
	for _, o := range p.Outputs {
		c.add("output: required", o.Required)
		c.add("output: rows", o.Rows != nil)
	}
	for _, r := range p.Roles {
		c.add("role: range", len(r.Ranges) > 0)
		c.add("role: holds", r.Holds != nil)
	}
	c.add("samples", len(p.Samples) > 0)
	c.add("lots", slices.ContainsFunc(p.Samples, func(s protocols.Sample) bool { return s.Lot != "" }))
	c.add("budget: time", p.Budget.Time > 0)
	c.add("budget: exposures", p.Budget.Exposures > 0)
	c.add("consequence", p.Outcome != "")
	for k, name := range map[protocols.OnRestart]string{protocols.HoldOnRestart: "hold", protocols.AbortOnRestart: "abort", protocols.ContinueOnRestart: "continue"} {
		c.add("on_restart: "+name, p.OnRestart == k)
	}
}

// Every construct of both languages is there within 500 seeds.
func TestEverythingIsGenerated(t *testing.T) {
	c := counts{}
	for seed := range uint64(500) {
		s, err := newSite(seed)
		if err != nil {
			t.Fatal(err)
		}
		if seed >= siteVariants || strings.HasPrefix(s.name, "demo") {
			continue
		}
		for _, r := range s.rules.Rules {
			c.rule(r)
		}
		for _, w := range []string{"tripped(", "signals:\n", "vote:", "rate(", "mean(", "held(", "age(", "healthy:", "claim: ", "while ", "args.", "quality(", "stuck_for(", "vote(", "bypasses:"} {
			c.add("rules: "+strings.TrimSpace(w), strings.Contains(s.text["interlocks.yaml"], w))
		}
		for _, w := range []string{"on_start: safe", "on_lease_loss: safe", "on_gateway_death: watchdog", "safe: [keep]", "wait 1 s", "continue_after_restart: true", "held_for: 20 s", "affects", "places"} {
			c.add("lab: "+w, strings.Contains(s.text["lab.yaml"], w))
		}
		c.add("approvals of a protocol", len(s.approvals.Protocols) > 0)
		for _, p := range s.library {
			c.protocol(p)
			c.add("step: ramp", strings.Contains(s.text[p.Name+".yaml"], "ramp:"))
		}
	}
	t.Logf("how often each was there:\n%s", c.table())
	for what, n := range c {
		if n == 0 {
			t.Errorf("%s: never", what)
		}
	}
}

// twinOf is a twin of a site whose instruments all answer.
func twinOf(t testing.TB, s *site, seed uint64) *twin.Twin {
	t.Helper()
	w, err := twin.New(twin.Options{Lab: s.lab, Rules: s.rules, Classes: s.classes, Library: s.library, Principals: s.principals, Approvals: s.approvals,
		Encodable: frame.Encodable, Seed: seed, Quiet: true, Sparse: true})
	if err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	if err := w.Run(func(w *twin.Twin) bool { return w.Status().Ready }, 10*time.Second); err != nil {
		t.Fatalf("%s: %v: %+v", s.name, err, w.Status())
	}
	return w
}

// What an honest agent asks for is mostly accepted, and what is accepted mostly
// ends well: a simulation of refusals alone would show nothing.
func TestHonestIsAccepted(t *testing.T) {
	why, ends := map[string]int{}, map[string]int{}
	all, accepted, began, worst := 0, 0, 0, time.Duration(0)
	for i, s := range someSites(t, 9) {
		w, r := twinOf(t, s, 1), rand.New(rand.NewPCG(uint64(i), 2))
		for n := range 6 {
			data := s.proposal(r, honest, n, w.Now())
			before := len(w.Verdicts("planner_1"))
			w.Submit("planner_1", data)
			if err := w.Run(func(w *twin.Twin) bool { return len(w.Verdicts("planner_1")) > before }, 5*time.Second); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			v := w.Verdicts("planner_1")[before]
			if all++; v.Decision == messages.RejectedDecision {
				for _, x := range v.Issues {
					why[x.Code+" "+ruleName(x.Rule)]++
				}
				if os.Getenv("DST_SAY") != "" {
					t.Logf("%s %d: %+v\n%s", s.name, n, v.Issues, data)
				}
				continue
			}
			if accepted++; v.Decision == messages.NeedsApprovalDecision {
				continue
			}
			at := w.Now()
			err := w.Run(func(w *twin.Twin) bool { _, ok := w.Stopped(v.Run); return ok }, 10*time.Minute)
			stop, _ := w.Stopped(v.Run)
			if err != nil {
				ends["does not end"]++
				continue
			}
			began++
			took := w.Now().Sub(at)
			worst = max(worst, took)
			ends[stop.ExitStatus]++
			if stop.ExitStatus != "success" && os.Getenv("DST_SAY") != "" {
				t.Logf("%s %d ends with %s after %s: %s\n%s", s.name, n, stop.ExitStatus, took, stop.Reason, data)
			}
		}
	}
	t.Logf("%d of %d accepted; of %d that ran %v; the longest took %s; refused for %v", accepted, all, began, ends, worst, why)
	if accepted*10 < all*6 {
		t.Errorf("%d of %d honest proposals are accepted", accepted, all)
	}
	if ends["success"]*10 < began*5 {
		t.Errorf("%d of %d accepted runs end well", ends["success"], began)
	}
}

// ruleName is a rule's id without the number.
func ruleName(id string) string { return strings.TrimRight(id, "-0123456789") }

// Each kind of agent gets the answers that it is for: a simulation of clumsy
// and hostile ones has hardly a run from them, one that floods has many. And
// whatever they write, there is one answer to each, and nobody falls over it.
func TestAnswersOfEachKind(t *testing.T) {
	codes := [len(agentKinds)]map[string]int{}
	var sent, rejected [len(agentKinds)]int
	for i, s := range someSites(t, 13) {
		for k := range agentKinds {
			w, r := twinOf(t, s, 1), rand.New(rand.NewPCG(uint64(k), uint64(i)))
			if codes[k] == nil {
				codes[k] = map[string]int{}
			}
			for n := range 10 {
				w.Submit("planner_1", s.proposal(r, agentKind(k), n, w.Now()))
				if err := w.Run(func(w *twin.Twin) bool { return len(w.Verdicts("planner_1")) > n }, 5*time.Second); err != nil {
					t.Fatalf("%s, somebody %s, proposal %d: %v", s.name, agentKind(k), n, err)
				}
				v := w.Verdicts("planner_1")[n]
				if sent[k]++; v.Decision == messages.RejectedDecision {
					rejected[k]++
				}
				for _, x := range v.Issues {
					codes[k][x.Code]++
				}
			}
		}
	}
	for k, least := range [...][3]int{honest: {0, 40, 0}, clumsy: {50, 100, 10}, flooding: {0, 60, 0}, hostile: {60, 99, 25}} { // of a hundred rejected: at least, at most; kinds of issues
		kind, share := agentKind(k), 100*rejected[k]/sent[k]
		t.Logf("%s: %d of %d rejected, for %d reasons: %v", kind, rejected[k], sent[k], len(codes[k]), codes[k])
		if share < least[0] || share > least[1] || len(codes[k]) < least[2] {
			t.Errorf("%s: %d of 100 are rejected, for %d reasons; from %d to %d are wanted, for %d", kind, share, len(codes[k]), least[0], least[1], least[2])
		}
	}
}

// Sites are shared by seeds that run side by side.
func TestSitesAreShared(t *testing.T) {
	s, err := newSite(4)
	if err != nil {
		t.Fatal(err)
	}
	var traces [2]string
	t.Run("twins", func(t *testing.T) {
		for i := range traces {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				w, r := twinOf(t, s, 7), rand.New(rand.NewPCG(1, 2))
				for n := range 4 {
					w.Submit("planner_1", s.proposal(r, honest, n, w.Now()))
				}
				if err := w.Run(nil, time.Minute); err != nil {
					t.Error(err)
				}
				for _, e := range w.Entries() {
					traces[i] += fmt.Sprintf("%s %s %s\n", e.Time.Format(time.RFC3339Nano), e.Kind, e.Body)
				}
			})
		}
	})
	if traces[0] != traces[1] || traces[0] == "" {
		t.Error("the same seed beside itself has another journal")
	}
}
