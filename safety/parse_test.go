package safety_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"labgate/lab"
	"labgate/safety"
)

// TestBadFiles compares all that is said about each bad file, word for word.
func TestBadFiles(t *testing.T) {
	l := demo(t).Lab
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 150 {
		t.Fatalf("%d bad files (%v)", len(files), err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			rules, is := safety.Parse(filepath.Base(f), data, l)
			if len(is) == 0 || rules != nil {
				t.Fatalf("nothing is wrong with it, or rules came back all the same: %v", is)
			}
			var b strings.Builder
			for _, i := range is {
				if i.Pos.File == "" || i.Pos.Line == 0 || i.Pos.Column == 0 || i.Code == "" {
					t.Errorf("an issue without a place or a code: %#v", i)
				}
				fmt.Fprintf(&b, "%s: %s\n", i.Code, i.Error())
			}
			golden(t, strings.TrimSuffix(f, ".yaml")+".golden", b.String())
		})
	}
}

// FuzzParse: whatever comes, there are issues or there are rules, never both
// and never a panic. An issue has a place, a code and a sentence, and every rule
// has something to guard or to watch, and is compiled.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range append(files, "testdata/every-kind.yaml") {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	c := demo(f)
	f.Add(c.Interlocks)
	f.Fuzz(func(t *testing.T, data []byte) {
		rules, is := safety.Parse("fuzz.yaml", data, c.Lab)
		if (rules == nil) != (len(is) > 0) {
			t.Fatalf("rules %v with issues %v", rules, is)
		}
		for _, i := range is {
			if i.Pos.File != "fuzz.yaml" || i.Pos.Line < 1 || i.Pos.Column < 1 || i.Code == "" || len(i.Say) < 4 {
				t.Errorf("an issue without a place, a code or a sentence: %#v", i)
			}
		}
		if rules == nil {
			return
		}
		for _, r := range rules.Rules {
			checkRule(t, r)
		}
		safety.NewEngine(c.Lab, rules, t0).Tick(t0)
	})
}

// checkRule holds a rule to what its kind needs.
func checkRule(t *testing.T, r *safety.Rule) {
	t.Helper()
	has := map[safety.Role]int{}
	for _, f := range r.Formulas() {
		has[f.Role]++
		number := f.Role == safety.RoleFrom || f.Role == safety.RoleTerm
		if k := f.Program.Type().Kind; number != (k == lab.Number || k == lab.Integer) || !number && k != lab.Bool {
			t.Errorf("%s: %s of rule %q is a %s", f.Program.Source().Text, f.Role, r.ID, f.Program.Type())
		}
	}
	watches := r.Kind == safety.TripRule || r.Kind == safety.AlarmRule
	if r.ID == "" || watches == (len(r.Targets) > 0) {
		t.Errorf("rule %q of kind %d has %d targets", r.ID, r.Kind, len(r.Targets))
	}
	ok := true
	switch r.Kind {
	case safety.LimitRule:
		l := r.Limit
		ok = l.Min != nil || l.Max != nil || l.Step != nil || l.Change != nil || l.Total != nil
		if l.Step != nil || l.Change != nil {
			ok = has[safety.RoleFrom] == len(r.Targets)
		}
	case safety.PermissiveRule:
		ok = has[safety.RoleRequire] == 1 || has[safety.RoleRequire] == len(r.Targets)
	case safety.TripRule:
		ok = has[safety.RoleWhen] == 1 && len(r.Do) > 0 && r.RespondWithin >= 0 && r.Group != "" && (r.Run == safety.RunHold) == (r.HoldFor > 0)
	case safety.SequenceRule:
		ok = has[safety.RoleAfter] == 1 || r.Sequence.After.Command != (lab.CommandID{})
	case safety.ZoneRule:
		ok = len(r.Claims) == len(r.Targets) && r.Zone != ""
	case safety.BudgetRule:
		ok = len(r.Budget.Terms) == len(r.Targets) && len(r.Budget.Per) > 0 && r.Budget.Max.Value >= 0
	case safety.AlarmRule:
		ok = has[safety.RoleWhen] == 1 && r.Priority != "" && r.Response != ""
	default:
		ok = false
	}
	if !ok {
		t.Errorf("rule %q of kind %d is not whole: %+v", r.ID, r.Kind, r)
	}
}

// TestEveryKind reads a file with every key of every kind of rule, and
// compares what became of it.
func TestEveryKind(t *testing.T) {
	data, err := os.ReadFile("testdata/every-kind.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rules, is := safety.Parse("every-kind.yaml", data, demo(t).Lab)
	if len(is) > 0 {
		t.Fatal(is)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d bypasses at once, explained %v\n", rules.Name, rules.Bypasses, rules.Explained)
	var nominal []string
	for id, v := range rules.Nominal {
		nominal = append(nominal, fmt.Sprintf("%s = %s", id, v))
	}
	slices.Sort(nominal)
	fmt.Fprintf(&b, "nominal: %s\n", strings.Join(nominal, ", "))
	for _, r := range rules.Rules {
		checkRule(t, r)
		if !r.FromLab {
			b.WriteString(describe(r))
		}
	}
	golden(t, "testdata/every-kind.golden", b.String())
}

// describe writes all that a rule says; what is zero is left out.
func describe(r *safety.Rule) string {
	var b strings.Builder
	say := func(label string, v any) {
		if x := reflect.ValueOf(v); x.IsValid() && !x.IsZero() {
			fmt.Fprintf(&b, "  %s: %v\n", label, v)
		}
	}
	fmt.Fprintf(&b, "%s, kind %d, line %d\n", r.ID, r.Kind, r.Pos.Line)
	for _, t := range r.Targets {
		say("target", strings.TrimSpace(t.Command.String()+" "+t.Arg))
	}
	for _, f := range r.Formulas() {
		of := ""
		if f.Command != (lab.CommandID{}) {
			of = " of " + f.Command.String()
		}
		say(string(f.Role)+of, f.Program.Source().Text)
	}
	say("min", r.Limit.Min)
	say("max", r.Limit.Max)
	say("step", r.Limit.Step)
	if w := r.Limit.Change; w != nil {
		say("change", fmt.Sprintf("%s per %s", w.Max, w.Per))
	}
	if w := r.Limit.Total; w != nil {
		say("total", fmt.Sprintf("%s per %s", w.Max, w.Per))
	}
	say("together", r.Limit.Together)
	say("grace", r.Grace)
	say("at start", r.AtStart)
	say("on delay", r.OnDelay)
	say("unknown for", r.UnknownFor)
	say("group", r.Group)
	say("respond within", r.RespondWithin)
	for _, s := range r.Do {
		say("do", s)
	}
	say("mitigates", r.Mitigates)
	say("run", r.Run)
	say("hold for", r.HoldFor)
	if q := r.Sequence; q != nil {
		say("after", q.After.Text)
		say("within", q.Within)
		for _, h := range q.NotSince {
			say("not since", h.Text)
		}
	}
	say("zone", r.Zone)
	for _, c := range r.Claims {
		say("claim", c.Command)
		say("  until the end of the run", c.UntilRunEnd)
		say("  until", c.UntilCmd)
	}
	if u := r.Budget; u != nil {
		for _, t := range u.Terms {
			say("term", fmt.Sprintf("%s %q, partly by %q", t.Command, t.Text, t.Arg))
		}
		say("most", fmt.Sprintf("%s per %v", u.Max, u.Per))
	}
	say("priority", r.Priority)
	say("response", r.Response)
	say("no bypass", r.NoBypass)
	if p := r.ProofTest; p != nil {
		say("proof test", fmt.Sprintf("every %s, due %s", p.Every, p.Due().Format("2006-01-02")))
	}
	return b.String()
}
