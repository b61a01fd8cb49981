package dst

import (
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// promisesList are the promises that planted bugs have to cover.
var promisesList = strings.Fields("S1 S2 S3 S4 S5 S6 S7 S8 S9 S10 S11 D1 D2 D3 O1 O2 O3 O4 A1 A2 A3 L1")

// root is the folder of the module.
func root(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// patched are the files of a bug, by their path in the module.
func (p planted) patched(t testing.TB) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for _, h := range p.hunks {
		text, ok := files[h.file]
		if !ok {
			var err error
			if text, err = os.ReadFile(filepath.Join(root(t), h.file)); err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(string(text), h.old); n != 1 || h.old == "" {
			t.Fatalf("%s: its place is there %d times in %s; mend the table: %q", p.name, n, h.file, h.old)
		}
		files[h.file] = []byte(strings.Replace(string(text), h.old, h.new, 1))
	}
	return files
}

// Every planted bug has its place in the source as it is now, and every promise
// has a bug.
func TestPlantedBugsFit(t *testing.T) {
	names, covered := map[string]bool{}, map[string]bool{}
	for _, p := range plantedBugs {
		if names[p.name] {
			t.Errorf("%s is there twice", p.name)
		}
		names[p.name] = true
		for _, x := range strings.Fields(p.promises) {
			covered[x] = true
		}
		t.Run(p.name, func(t *testing.T) {
			for file, text := range p.patched(t) {
				if _, err := parser.ParseFile(token.NewFileSet(), file, text, parser.SkipObjectResolution); err != nil {
					t.Errorf("%v", err)
				}
			}
		})
	}
	for _, x := range promisesList {
		if !covered[x] {
			t.Errorf("no bug breaks %s", x)
		}
	}
	if len(plantedBugs) < 40 {
		t.Errorf("only %d bugs", len(plantedBugs))
	}
}

// catch is what became of one planted bug.
type catch struct {
	planted
	promise string // that was seen to be broken; empty: none
	seed    string
	say     string
	took    time.Duration
}

// plant builds the simulation with a bug in it, and runs seeds until a promise
// breaks.
func plant(t *testing.T, p planted, seeds int) catch {
	t.Helper()
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for file, text := range p.patched(t) {
		to := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(to, text, 0o644); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(root(t), file)] = to
	}
	data, err := json.Marshal(overlay)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	mutant := filepath.Join(dir, "mutant")
	build := exec.Command("go", "test", "-c", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-o", mutant, "./internal/dst")
	build.Dir = root(t)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s does not compile: %v\n%s", p.name, err, out)
	}
	begun := time.Now()
	run := exec.Command(mutant, "-test.run", "^TestSeeds$", "-test.timeout", "20m", "-dst.first", "-dst.seeds", fmt.Sprint(seeds))
	run.Dir, run.Env = filepath.Join(root(t), "internal/dst"), append(os.Environ(), "GOMAXPROCS=1")
	out, err := run.CombinedOutput()
	c := catch{planted: p, took: time.Since(begun)}
	switch m := violation.FindStringSubmatch(string(out)); {
	case m != nil:
		c.seed, c.promise, c.say = m[1], m[2], m[3]
	case err != nil: // a core that breaks down, or never ends: that is noticed too
		c.promise, c.say = "breaks down", clipped(string(out))
		if m := seedOf.FindStringSubmatch(string(out)); m != nil {
			c.seed = m[1]
		}
	}
	return c
}

var (
	violation = regexp.MustCompile(`VIOLATION seed=(\d+) promise=(\S+) (.*)`)
	seedOf    = regexp.MustCompile(`seed (\d+)`)
)

func clipped(s string) string { return s[:min(len(s), 200)] }

// Planted bugs prove that the simulation would notice: each is compiled in by
// an overlay, and seeds are run until a promise breaks.
func TestPlanted(t *testing.T) {
	only := os.Getenv("LABGATE_PLANTED")
	if only == "" {
		t.Skip("it builds and runs a simulation for each planted bug, for some minutes: LABGATE_PLANTED=all, or names with commas")
	}
	n := 20_000
	if *seeds > 0 {
		n = int(*seeds)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	list := make([]catch, len(plantedBugs))
	for i, p := range plantedBugs {
		if only != "all" && !strings.Contains(","+only+",", ","+p.name+",") {
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			slots <- struct{}{}
			defer func() { <-slots }()
			t.Run(p.name, func(t *testing.T) {
				c := plant(t, p, n)
				mu.Lock()
				list[i] = c
				mu.Unlock()
				t.Logf("%s at seed %s after %s: %s", c.promise, c.seed, c.took.Round(time.Millisecond), c.say)
			})
		}()
	}
	wg.Wait()
	caught := 0
	var b strings.Builder
	b.WriteString("| planted bug | breaks | what it does | noticed as | at seed |\n|---|---|---|---|---|\n")
	for _, c := range list {
		if c.promise != "" {
			caught++
		}
		if c.name != "" {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", c.name, c.promises, c.does, or(c.promise, "not at all"), or(c.seed, "–"))
		}
	}
	t.Logf("%d noticed\n%s", caught, &b)
	if only != "all" {
		return
	}
	if caught < 38 {
		t.Errorf("only %d of %d were noticed", caught, len(plantedBugs))
	}
	if *update {
		page(t, "planted", b.String())
	}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// page writes a table between its marks in docs/simulation.md.
func page(t *testing.T, name, table string) {
	t.Helper()
	path := filepath.Join(root(t), "docs", "simulation.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), "<!-- "+name+" -->\n")
	_, after, ok2 := strings.Cut(rest, "<!-- /"+name+" -->")
	if !ok || !ok2 {
		t.Fatalf("%s has no place for %s", path, name)
	}
	all := before + "<!-- " + name + " -->\n" + table + "<!-- /" + name + " -->" + after
	if err := os.WriteFile(path, []byte(all), 0o644); err != nil {
		t.Fatal(err)
	}
}
