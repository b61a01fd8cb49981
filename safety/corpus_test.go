package safety_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"labgate/configs"
	"labgate/internal/strict"
)

const corpus = "testdata/corpus"

// corpusCase is as much of a case as counting needs.
type corpusCase struct {
	name, why string
	unsafe    bool // it ends in a refusal, a trip, a stop, an alarm, a doubt
}

// TestCorpus holds the corpus to its own promises: every lab loads, every case
// has a name of its own and a reason, each family has enough of both kinds,
// and its page counts them right.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob(corpus + "/*/*cases*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d case files (%v)", len(files), err)
	}
	type count struct{ unsafe, alike int }
	counts := map[string]*count{}
	for _, file := range files {
		family := filepath.Base(filepath.Dir(file))
		if counts[family] == nil {
			counts[family] = &count{}
		}
		names := map[string]bool{}
		for _, c := range readCases(t, file) {
			if c.name == "" || names[c.name] || c.why == "" {
				t.Errorf("%s: case %q has no name, or one that is there already, or no reason", file, c.name)
			}
			names[c.name] = true
			if c.unsafe {
				counts[family].unsafe++
			} else {
				counts[family].alike++
			}
		}
	}
	var b strings.Builder
	b.WriteString("| family | must be refused or acted on | must be allowed | cases |\n|---|---:|---:|---:|\n")
	var all count
	for _, family := range sortedNames(counts) {
		c := counts[family]
		if c.unsafe < 16 || c.alike < 11 {
			t.Errorf("%s has %d cases that must be refused and %d that must be allowed; 16 and 11 are the least", family, c.unsafe, c.alike)
		}
		if _, err := os.Stat(filepath.Join(corpus, family, "README.md")); err != nil {
			t.Errorf("%s does not say what it stands for: %v", family, err)
		}
		fmt.Fprintf(&b, "| `%s` | %d | %d | %d |\n", family, c.unsafe, c.alike, c.unsafe+c.alike)
		all.unsafe, all.alike = all.unsafe+c.unsafe, all.alike+c.alike
	}
	fmt.Fprintf(&b, "| all | %d | %d | %d |\n", all.unsafe, all.alike, all.unsafe+all.alike)
	if all.unsafe < 150 || all.alike < 100 {
		t.Errorf("%d cases that must be refused and %d that must be allowed; 150 and 100 are promised", all.unsafe, all.alike)
	}
	page := filepath.Join(corpus, "README.md")
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const from, to = "<!-- counts -->\n", "<!-- /counts -->"
	head, rest, ok := strings.Cut(string(data), from)
	_, tail, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the counts", page)
	}
	if want := head + from + b.String() + to + tail; *update {
		golden(t, page, want)
	} else if want != string(data) {
		t.Errorf("%s does not count as it is; go test ./safety -run TestCorpus -update writes\n%s", page, b.String())
	}
}

// TestCorpusLabsLoad loads the lab of every family with its rules, which also
// checks that the rules keep their respond_within.
func TestCorpusLabsLoad(t *testing.T) {
	labs, err := filepath.Glob(corpus + "/*/lab.yaml")
	if err != nil || len(labs) == 0 {
		t.Fatalf("%d labs (%v)", len(labs), err)
	}
	for _, file := range labs {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			if _, err := configs.Load(os.DirFS(dir), dir); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// readCases reads the names, the reasons and the last expectation of cases.
func readCases(t *testing.T, file string) []corpusCase {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	root, is := strict.Parse(file, data)
	d := &strict.Decoder{Issues: is}
	f := d.Map(root, "file of cases", "lab", "interlocks", "given", "cases")
	var list []corpusCase
	for _, n := range d.List(f.Require("cases")) {
		cf := d.Map(n, "case", "name", "why", "given", "before", "do", "expect", "steps")
		c := corpusCase{name: d.Text(cf.Require("name")), why: d.Text(cf.Require("why"))}
		last := expectations(d, cf.Get("expect"))
		if steps := cf.Get("steps"); steps != nil {
			for _, s := range d.List(steps) {
				open := &strict.Decoder{} // its keys are the runner's business
				if e := open.Map(s, "step", "expect").Get("expect"); e != nil {
					last = expectations(d, e)
				}
			}
		}
		if len(last) == 0 {
			t.Errorf("%s: case %q expects nothing", file, c.name)
		}
		c.unsafe = slices.ContainsFunc(last, meansUnsafe)
		list = append(list, c)
	}
	if err := d.Issues.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

func expectations(d *strict.Decoder, n *strict.Node) []string {
	if n == nil {
		return nil
	}
	if !n.IsList() {
		return []string{d.Text(n)}
	}
	var list []string
	for _, e := range d.List(n) {
		list = append(list, d.Text(e))
	}
	return list
}

// meansUnsafe reports whether an expectation is of the gate holding something
// back or acting by itself.
func meansUnsafe(expect string) bool {
	for _, word := range []string{"refused", "tripped", "first out", "stopped", "alarm", "in doubt", "ordered", "not reset", "not bypassed"} {
		if strings.HasPrefix(expect, word) {
			return true
		}
	}
	return false
}

func sortedNames[V any](m map[string]V) []string {
	var names []string
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
