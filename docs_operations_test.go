package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// sources reads what the given folders' programs are made of, without tests.
func sources(t *testing.T, folders ...string) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range folders {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(data)
		}
	}
	return b.String()
}

// TestAlarmDocs: every alarm that the station itself can raise is in the
// operator's table, and nothing else is.
func TestAlarmDocs(t *testing.T) {
	code := sources(t, "gateway", "gateway/service")
	have := map[string]bool{}
	for _, re := range []string{`\.alarm\("([a-z]+)"`, `What: messages\.SafetyAlarm, Rule: "([a-z]+)"`, `rulesAlarm = "([a-z]+)"`} {
		found := regexp.MustCompile(re).FindAllStringSubmatch(code, -1)
		if len(found) == 0 {
			t.Errorf("no alarm is raised by %s any more", re)
		}
		for _, m := range found {
			have[m[1]] = true
		}
	}
	data, err := os.ReadFile("docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(data), "| alarm | means | do |")
	table, _, _ = strings.Cut(table, "\n\n")
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z]+)` \\|").FindAllStringSubmatch(table, -1) {
		if !have[m[1]] {
			t.Errorf("docs/operations.md has the alarm %s, which nothing raises", m[1])
		}
		delete(have, m[1])
	}
	for name := range have {
		t.Errorf("docs/operations.md does not say what the alarm %s means", name)
	}
}

// TestKindDocs: every kind of entry and message is in a reference.
func TestKindDocs(t *testing.T) {
	code := sources(t, "gateway", "gateway/service", "runner", "runner/service", "internal/journal", "messages", ".")
	var docs strings.Builder
	for _, f := range []string{"docs/journal.md", "docs/messages.md"} {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		docs.Write(data)
	}
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`"([a-z_]+/v1)"`).FindAllStringSubmatch(code, -1) {
		if kind := m[1]; !seen[kind] && !strings.Contains(docs.String(), kind) {
			t.Errorf("neither docs/journal.md nor docs/messages.md has the kind %s", kind)
		}
		seen[m[1]] = true
	}
	if len(seen) < 40 {
		t.Errorf("only %d kinds were found", len(seen))
	}
}
