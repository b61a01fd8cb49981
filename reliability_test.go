package main

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every test and benchmark that docs/reliability.md names is there.
func TestReliabilityNamesTests(t *testing.T) {
	have := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark)\w+)\(`)
	err := fs.WalkDir(os.DirFS("."), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
			have[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Benchmark)\\w+)`").FindAllStringSubmatch(string(readFile(t, "docs/reliability.md")), -1)
	if len(named) < 20 {
		t.Errorf("only %d are named", len(named))
	}
	for _, n := range named {
		if !have[n[1]] {
			t.Errorf("there is no %s", n[1])
		}
	}
}
