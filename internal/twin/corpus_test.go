package twin_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"labgate/internal/twin"
	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
	"labgate/safety"
	"labgate/safety/preflight"
)

const corpus = "../../safety/preflight/testdata"

// TestUnsafeCorpus holds preflight to files that break a rule. Each is refused
// by the rule that its first line names, for a step and with inputs. Replayed
// on the twin with these inputs and no preflight, the live engine ends the run
// by the very same rule, at the step that was refused (or, where branches run
// side by side, in another branch of the same parallel: which of them comes to
// the bound first is chance): that is what "really breaks" means here. Its near neighbours are accepted for all inputs, and run
// to their end under the same rules, none of them refusing.
func TestUnsafeCorpus(t *testing.T) {
	for _, kind := range []string{"unsafe", "near"} {
		files, err := filepath.Glob(filepath.Join(corpus, kind, "*.yaml"))
		if err != nil || len(files) < 40 {
			t.Fatalf("%d files in %s (%v); there are to be 40", len(files), kind, err)
		}
		for _, f := range files {
			t.Run(kind+"/"+strings.TrimSuffix(filepath.Base(f), ".yaml"), func(t *testing.T) { corpusFile(t, f, kind == "unsafe") })
		}
	}
}

func corpusFile(t *testing.T, file string, unsafe bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rule, _, _ := strings.Cut(strings.TrimPrefix(string(data), "# "), ":")
	o, err := demo()
	if err != nil {
		t.Fatal(err)
	}
	opts := *o
	if m := regexp.MustCompile(`(?m)^# rules: (\S+)$`).FindSubmatch(data); m != nil {
		opts.Rules = rulesOf(t, string(m[1]), o.Lab)
	}
	p, issues := protocols.Parse(filepath.Base(file), data, o.Classes)
	if err := issues.Err(); err != nil {
		t.Fatal(err)
	}
	said, issues := preflight.All(opts.Rules)(p, o.Lab)
	if err := issues.Err(); err != nil {
		t.Fatal(err)
	}
	opts.Library, opts.Seed, opts.Quiet, opts.Unproved = []*protocols.Protocol{p}, 1, true, unsafe
	if !unsafe {
		if err := said.Refused.Err(); err != nil {
			t.Fatalf("refused, and it should not be: %v", err)
		}
		if stop, _ := replay(t, opts, p, nil); stop.ExitStatus != "success" {
			t.Errorf("%s by %q: %s", stop.ExitStatus, stop.Rule, stop.Reason)
		}
		return
	}
	for _, i := range said.Refused {
		if i.Rule != rule {
			continue
		}
		stop, step := replay(t, opts, p, inputsOf(t, i.Say))
		if stop.ExitStatus == "success" || stop.Rule != rule && !strings.Contains(stop.Reason, "refused: "+rule+": ") { // what fails in cleanup has no rule of its own
			t.Fatalf("preflight: %s\nbut on the twin: %s by %q: %s", i.Say, stop.ExitStatus, stop.Rule, stop.Reason)
		}
		for _, r := range said.Refused {
			if r.Rule == rule && ("steps."+step == stepPath(r.Path) || sideBySide(p, step, stepPath(r.Path))) {
				return
			}
		}
		t.Fatalf("the twin broke the rule at %q, preflight says %v", step, said.Refused)
	}
	t.Fatalf("no refusal by %s, but %v, live %v", rule, said.Refused, said.Live)
}

func rulesOf(t *testing.T, name string, l *lab.Lab) *safety.Rules {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(corpus, name))
	if err != nil {
		t.Fatal(err)
	}
	rules, issues := safety.Parse(name, data, l)
	if err := issues.Err(); err != nil {
		t.Fatal(err)
	}
	return rules
}

// inputsOf reads the inputs of a counter-example: "with volume = 2 mL: …".
func inputsOf(t *testing.T, say string) map[string]lab.Value {
	t.Helper()
	in := map[string]lab.Value{}
	rest, ok := strings.CutPrefix(say, "with ")
	if !ok {
		return in
	}
	list, _, _ := strings.Cut(rest, ": ")
	for _, one := range strings.Split(list, ", ") {
		name, text, _ := strings.Cut(one, " = ")
		q, err := lab.ParseQuantity(text)
		if err != nil {
			t.Fatalf("%s: %v", say, err)
		}
		in[name] = lab.NumberValue(q)
	}
	return in
}

func stepPath(path string) string {
	path, _, _ = strings.Cut(path, ".args.")
	return path
}

// replay runs a protocol to its end, and says at which step it failed.
func replay(t *testing.T, o twin.Options, p *protocols.Protocol, inputs map[string]lab.Value) (messages.RunStop, string) {
	t.Helper()
	w, err := twin.New(o)
	if err != nil {
		t.Fatal(err)
	}
	run(t, w, 5*time.Second, ready)
	id := accepted(t, w, messages.Body(messages.Proposal{Kind: messages.KindProposal, ID: "P-replay", Key: "replay", Hypothesis: "it breaks the rule", Inputs: inputs,
		Protocol: &messages.ProtocolRef{Name: p.Name, Version: p.Version}}))
	stop := ended(t, w, id, 10*time.Minute)
	m := regexp.MustCompile(`step (\S+?):? `).FindStringSubmatch(stop.Reason)
	if m == nil {
		return stop, ""
	}
	return stop, m[1]
}

// sideBySide reports whether two steps are in one parallel.
func sideBySide(p *protocols.Protocol, step, path string) bool {
	for _, s := range p.Steps {
		if s.Kind == protocols.Parallel && strings.HasPrefix(step, s.Path+".") && strings.HasPrefix(path, "steps."+s.Path+".") {
			return true
		}
	}
	return false
}
