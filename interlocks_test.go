package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func interlocksRun(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = execute(t.Context(), append([]string{"interlocks"}, args...), &out, &errs)
	return out.String(), errs.String(), code
}

// Every case of the corpus and of the demo lab: no escape, no false refusal.
func TestCorpusPasses(t *testing.T) {
	out, errs, code := interlocksRun(t, "test", "--json", "safety/testdata/corpus/...", "configs/labs/demo")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var sum tally
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &sum); err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	if code != exitDone || sum.Escapes != 0 || sum.FalseRefusals != 0 || sum.Passed != sum.Cases || sum.MustAct < 150 || sum.MustPass < 100 {
		t.Errorf("exit %d, %+v", code, sum)
	}
	for _, line := range lines[:len(lines)-1] {
		var c caseLine
		if err := json.Unmarshal([]byte(line), &c); err != nil || c.Type != "case" || !c.OK {
			t.Errorf("%s %v", line, err)
		}
	}
}

// Whoever weakens a rule is noticed: at least 95 of 100 mutants of every lab
// are killed by its cases, and the rest are named or explained.
func TestMutantsAreKilled(t *testing.T) {
	labs := []string{"configs/labs/demo"}
	if os.Getenv("LABGATE_HEAVY") != "" {
		more, err := filepath.Glob("safety/testdata/corpus/*/lab.yaml")
		if err != nil || len(more) < 9 {
			t.Fatalf("%v, %v", more, err)
		}
		for _, f := range more {
			labs = append(labs, filepath.Dir(f))
		}
	}
	for _, dir := range labs {
		out, errs, code := interlocksRun(t, "verify", "--lab", dir)
		last := strings.Split(strings.TrimSpace(out), "\n")
		t.Logf("%s: %s", dir, last[len(last)-1])
		if code != exitDone {
			t.Errorf("%s: exit %d\n%s%s", dir, code, out, errs)
		}
	}
}

func TestInterlocksTry(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"allowed":   {[]string{"--do", "pump_a.dose(volume = 0.2 mL, rate = 1 mL/min)"}, exitDone, []string{"ALLOWED", "feed-needs-stirring", "nominal"}},
		"refused":   {[]string{"--set", "room.airflow=0.1m/s", "--do", "pump_a.dose(volume = 0.2 mL, rate = 1 mL/min)"}, exitRefused, []string{"REFUSED", "dosing-needs-hood", "given"}},
		"unknown":   {[]string{"--set", "room.airflow=bad", "--do", "pump_a.dose(volume = 0.2 mL, rate = 1 mL/min)"}, exitRefused, []string{"dosing-needs-hood", "unknown", "waiting may help"}},
		"nearest":   {[]string{"--json", "--do", "pump_a.dose(volume = 5 mL, rate = 1 mL/min)"}, exitRefused, []string{`"allow":false`, `"rule":"dose-size"`, `"nearest":{"value":0.45,"unit":"mL"}`}},
		"no name":   {[]string{"--set", "room.airflw=1", "--do", "stage.halt"}, exitUsage, []string{"no such property of room/v1", "did you mean airflow?"}},
		"no value":  {[]string{"--set", "room.airflow", "--do", "stage.halt"}, exitUsage, []string{"as in room.airflow=0.1m/s"}},
		"no such":   {[]string{"--do", "pump_a.dse(volume = 1 mL)"}, exitUsage, []string{"did you mean dose?"}},
		"dimension": {[]string{"--do", "pump_a.dose(volume = 1 s, rate = 1 mL/min)"}, exitUsage, []string{"volume of pump_a.pump.dose"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, code := interlocksRun(t, append([]string{"try", "--lab", "demo"}, c.args...)...)
			if code != c.code {
				t.Errorf("exit %d, want %d\n%s%s", code, c.code, out, errs)
			}
			for _, w := range c.want {
				if !strings.Contains(out+errs, w) {
					t.Errorf("no %q in\n%s%s", w, out, errs)
				}
			}
		})
	}
}

// A file of cases with a mistake is never run, and says where the mistake is.
func TestBadCases(t *testing.T) {
	lab, err := filepath.Abs("configs/labs/demo")
	if err != nil {
		t.Fatal(err)
	}
	one := "  - {name: a, do: stage.halt, expect: allowed}\n"
	for name, c := range map[string]struct{ cases, want string }{
		"asserts nothing":     {"  - {name: a, do: stage.halt}\n", "3:5: case \"a\" expects nothing: it can't fail"},
		"unknown key":         {"  - {name: a, doo: stage.halt, expect: quiet}\n", "3:15: \"doo\" is no key of a case (did you mean do?)"},
		"unknown property":    {"  - {name: a, given: {room.air: 1 m/s}, expect: quiet}\n", "3:23: air: no such property of room/v1"},
		"unknown command":     {"  - {name: a, do: stage.hlt, expect: allowed}\n", "3:19: hlt: no such command of stage/v1; did you mean halt?"},
		"unknown rule":        {"  - {name: a, do: stage.halt, expect: refused by runawy}\n", "did you mean runaway?"},
		"wrong unit":          {"  - {name: a, given: {room.airflow: 3 mL}, expect: quiet}\n", "3:37: room.airflow: "},
		"no expectation":      {"  - {name: a, do: stage.halt, expect: pass}\n", "expect: \"pass\" is not understood"},
		"a name twice":        {one + one, "4:5: case \"a\" is there already"},
		"backwards":           {"  - name: a\n    steps:\n      - {at: 2 s, expect: quiet}\n      - {at: 1 s}\n", "6:9: a step at 1 s after one at 2 s"},
		"both":                {"  - {name: a, do: stage.halt, steps: [{at: 1 s, expect: quiet}]}\n", "a case has steps, or do and expect"},
		"no time":             {"  - {name: a, steps: [{expect: quiet}]}\n", "a step needs \"at\""},
		"nothing at all":      {"", "cases"},
		"a value of no words": {"  - {name: a, given: {room.door_closed: ajar}, expect: quiet}\n", "is not true or false"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "cases.yaml")
			rel, err := filepath.Rel(filepath.Dir(file), lab)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte("lab: "+rel+"\ncases:\n"+c.cases), 0o600); err != nil {
				t.Fatal(err)
			}
			out, errs, code := interlocksRun(t, "test", file)
			if code != exitRefused || !strings.Contains(out+errs, c.want) {
				t.Errorf("exit %d, want %q:\n%s%s", code, c.want, out, errs)
			}
		})
	}
}

// Every bad interlocks file is refused by the command line too, which says of
// each mistake where it is, and what to do about it.
func TestBadInterlocks(t *testing.T) {
	files, err := filepath.Glob("safety/testdata/bad/*.yaml")
	if err != nil || len(files) < 150 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	check := func(files ...string) (string, int) {
		var out, errs bytes.Buffer
		code := execute(t.Context(), append([]string{"check", "--lab", "demo"}, files...), &out, &errs)
		return out.String() + errs.String(), code
	}
	said, code := check(files...)
	if code != exitRefused {
		t.Errorf("exit %d", code)
	}
	for _, f := range files {
		golden, err := os.ReadFile(strings.TrimSuffix(f, ".yaml") + ".golden")
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(f) == "not-a-map.yaml" {
			golden = []byte("unknown_file: not-a-map.yaml:1:1: this is none of Labgate's files") // nothing in it says what it is
		}
		for _, line := range strings.Split(strings.TrimSpace(string(golden)), "\n") {
			if _, issue, ok := strings.Cut(line, ": "); !ok || !strings.Contains(said, strings.ReplaceAll(issue, filepath.Base(f), f)) {
				t.Errorf("%s: it does not say %s", f, issue)
			}
		}
	}
	for _, name := range []string{"signal-cycle", "trip-unbounded-window", "trip-without-action", "trip-bypass", "dimension-mix", "trip-action-unknown"} {
		if said, code := check("safety/testdata/bad/" + name + ".yaml"); code != exitRefused {
			t.Errorf("%s: exit %d\n%s", name, code, said)
		}
	}
}
