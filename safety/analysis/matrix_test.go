package analysis_test

import (
	"encoding/csv"
	"io/fs"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"labgate/configs"
	"labgate/safety"
	"labgate/safety/analysis"
)

func demo(t testing.TB) *configs.Config {
	t.Helper()
	sub, err := fs.Sub(configs.Embedded(), "labs/demo")
	if err != nil {
		t.Fatal(err)
	}
	c, err := configs.Load(sub, "demo")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMatrixOfTheDemo(t *testing.T) {
	table := analysis.Matrix(demo(t).Rules)
	golden(t, "testdata/demo.txt", table.Text())
	golden(t, "testdata/demo.csv", table.CSV())
	for _, line := range strings.Split(table.Text(), "\n") {
		if n := utf8.RuneCountInString(line); n > 160 {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
}

// TestMatrixIsComplete: each rule has a row, each mark a column, and the CSV
// has them all.
func TestMatrixIsComplete(t *testing.T) {
	l := tanks(t)
	rules := parse(t, l, mutantRules)
	rules.Find("hot").ProofTest = &safety.ProofTest{Every: 180 * 24 * time.Hour, Last: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)}
	rules.Find("fast").ProofTest = &safety.ProofTest{Every: time.Hour}
	table := analysis.Matrix(rules)
	rows, err := csv.NewReader(strings.NewReader(table.CSV())).ReadAll()
	if err != nil || len(rows) != len(rules.Rules)+1 {
		t.Fatalf("%d rows for %d rules (%v)", len(rows), len(rules.Rules), err)
	}
	cell := func(rule, column string) string {
		for _, row := range rows[1:] {
			for i, h := range rows[0] {
				if row[1] == rule && h == column {
					return row[i]
				}
			}
		}
		return "no such cell"
	}
	for _, c := range []struct{ rule, column, want string }{
		{"hot", "a.tank.shut", "X"}, {"hot", "b.tank.shut", "X"}, {"hot", "b.tank.heat", "M"}, {"hot", "a.tank.fill", ""},
		{"hot", "votes", "2 of 3"}, {"hot", "delay", "unknown 1 s"}, {"hot", "run", "abort"}, {"hot", "proof due", "2026-10-28"}, {"fast", "proof due", "at once"},
		{"stirred", "a.tank.fill", "P"}, {"stirred", "b.tank.fill", "P"}, {"stirred", "about", "Über alles gerührt."}, {"stirred", "delay", "grace 2 s"},
		{"size", "a.tank.fill", "L"}, {"size", "cause", "volume >= 1 mL, <= 50 mL"}, {"size", "bypass", ""},
		{"a.tank.heat.target.limit", "a.tank.heat", "L"}, {"a.tank.heat.target.limit", "bypass", "never"},
	} {
		if got := cell(c.rule, c.column); got != c.want {
			t.Errorf("%s, %s: %q, want %q", c.rule, c.column, got, c.want)
		}
	}
	for _, c := range table.Causes {
		for name := range c.Effects {
			if !strings.Contains(table.Text(), "  "+name+"\n") {
				t.Errorf("%s is in no legend", name)
			}
		}
	}
}

// TestCSVIsNoFormula: text that a spreadsheet would run is shown as text.
func TestCSVIsNoFormula(t *testing.T) {
	rules := parse(t, tanks(t), "interlocks: x\nrules:\n  - {id: p, about: \"=HYPERLINK(1)\", permissive: a.fill, require: -5 rpm < a.speed}\n")
	got := analysis.Matrix(rules).CSV()
	if !strings.Contains(got, "'=HYPERLINK") || !strings.Contains(got, "'-5 rpm") {
		t.Errorf("got %s", got)
	}
}

// FuzzMutants: whatever the file, mutants load, differ from it, and have ids of
// their own.
func FuzzMutants(f *testing.F) {
	f.Add(mutantRules)
	f.Add("interlocks: x\nrules: [{id: p, permissive: a.fill, require: \"a.speed > 5 rpm\"}]\n")
	f.Add("{\"interlocks\": \"x\", \"rules\": [{\"id\": \"p\", \"limit\": \"a.fill.volume\", \"max\": \"5 mL\"}]}")
	l := tanks(f)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4000 {
			return
		}
		rules, is := safety.Parse("x.yaml", []byte(text), l)
		if len(is) > 0 {
			return
		}
		seen := map[string]bool{}
		for _, m := range analysis.Mutants("x.yaml", []byte(text), rules) {
			if seen[m.ID] || string(m.Data) == text || m.Rules == nil {
				t.Errorf("%+v", m)
			}
			seen[m.ID] = true
		}
		analysis.Verify(rules)
		analysis.Matrix(rules).Text()
	})
}
