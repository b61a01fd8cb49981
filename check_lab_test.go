package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"labgate/protocols"
)

// A lab's own protocols are checked with it: one with the name and version of a
// built-in one, and other content, is told at once, by check as by serve.
func TestCheckLabsProtocols(t *testing.T) {
	dir := filepath.Join(tempDir(t), "demo")
	if err := os.CopyFS(dir, os.DirFS("configs/labs/demo")); err != nil {
		t.Fatal(err)
	}
	write := func(text string) string {
		if err := os.MkdirAll(filepath.Join(dir, "protocols"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "protocols", "mine.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		execute(t.Context(), []string{"check", dir}, &out, &errs)
		return out.String() + errs.String()
	}
	text := string(protocols.Library()["coat-films.yaml"])
	if said := write(text); !strings.Contains(said, "no issues") {
		t.Errorf("a copy: %s", said)
	}
	changed := strings.Replace(text, "about: >-\n", "about: >-\n  Changed.\n", 1)
	if said := write(changed); changed == text || !strings.Contains(said, "mine.yaml:2:1: coat-films@") || !strings.Contains(said, "is there already with other content, at coat-films.yaml:2:1 (give it a new version)") {
		t.Errorf("another content: %s", said)
	}
	if said := write(strings.Replace(text, "steps:", "stepps:", 1)); !strings.Contains(said, `mine.yaml:`) || !strings.Contains(said, "did you mean steps?") {
		t.Errorf("a broken one: %s", said)
	}
}
