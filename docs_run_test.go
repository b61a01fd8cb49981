package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// fence is a block of a page: commands, or what they print.
type fence struct{ lang, text string }

// fences are the blocks of one section of a page, in order.
func fences(t *testing.T, file, section string) (list []fence) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(data), "\n## "+section+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", file, section)
	}
	open := -1
	for i, line := range strings.Split(text, "\n") {
		lang, fenced := strings.CutPrefix(line, "```")
		switch {
		case fenced && open < 0:
			open = i
			list = append(list, fence{lang: lang})
		case fenced:
			open = -1
		case open >= 0:
			list[len(list)-1].text += line + "\n"
		case strings.HasPrefix(line, "## "):
			return list
		}
	}
	return list
}

// reader follows a page's commands in a folder of its own.
type reader struct {
	t    *testing.T
	dir  string
	said string // by the last block of commands
	run  string // the id of the last run
}

// newReader makes a folder with ./labgate in it, the test binary itself, and
// with those folders of the repository that the commands name.
func newReader(t *testing.T) *reader {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\n%s=1 exec %q \"$@\"\n", asLabgate, self)
	if err := os.WriteFile(filepath.Join(dir, "labgate"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"configs", "protocols", "safety"} {
		here, err := filepath.Abs(folder)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(here, filepath.Join(dir, folder)); err != nil {
			t.Fatal(err)
		}
	}
	return &reader{t: t, dir: dir}
}

// follow carries out the blocks of a section, and compares what they print
// with what the page shows. Numbers and ids may differ, and … stands for any
// lines.
func (r *reader) follow(list []fence) {
	r.t.Helper()
	for _, f := range list {
		switch f.lang {
		case "sh":
			r.do(f.text)
		case "":
			r.compare(f.text)
		}
	}
}

func (r *reader) do(commands string) {
	r.t.Helper()
	switch line := strings.TrimSpace(commands); line {
	case "./labgate sim", "./labgate serve":
		r.background(strings.Fields(line)[1])
		return
	}
	commands = strings.ReplaceAll(commands, "go build -o labgate .\n", "") // it is there
	if r.run != "" {
		commands = regexp.MustCompile(`\bRUN\b`).ReplaceAllString(commands, r.run)
	}
	cmd := exec.CommandContext(r.t.Context(), "sh", "-c", commands)
	cmd.Dir, cmd.WaitDelay = r.dir, time.Second
	out, _ := cmd.CombinedOutput() // some are meant to be refused: what they say is compared
	r.said = string(out)
	if strings.Contains(r.said, "wrong use") || strings.Contains(r.said, "try: labgate --help") || strings.Contains(r.said, "not found") {
		r.t.Errorf("%s\n%s", commands, r.said)
	}
	if m := regexp.MustCompile(`accepted as run (\w+)`).FindStringSubmatch(r.said); m != nil {
		r.run = m[1]
	}
}

// background starts a part that goes on until the test ends.
func (r *reader) background(verb string) {
	r.t.Helper()
	self, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	p := launchIn(r.t, r.dir, self, nil, verb)
	ready := map[string]string{"sim": "simulated instruments of lab", "serve": "every instrument of lab"}[verb]
	eventually(r.t, verb+" is ready", func() bool { return strings.Contains(p.out.String()+p.err.String(), ready) })
	r.said = p.out.String() + p.err.String()
}

var changing = regexp.MustCompile(`\b01[0-9A-HJKMNP-TV-Z]{24}\b|[0-9a-f]{16,}|[-+]?\d+(\.\d+)?`)

func (r *reader) compare(shown string) {
	r.t.Helper()
	plain := func(s string) string { return strings.TrimSpace(changing.ReplaceAllString(s, "#")) }
	rest := strings.Split(plain(r.said), "\n")
	for _, line := range strings.Split(strings.TrimSpace(shown), "\n") {
		line = plain(line)
		if line == "…" {
			continue
		}
		at := -1
		for i, s := range rest {
			head, _, cut := strings.Cut(line, "…")
			if s = plain(s); s == line || cut && strings.HasPrefix(s, head) {
				at = i
				break
			}
		}
		if at < 0 {
			r.t.Errorf("the page shows %q; what came is\n%s", line, r.said)
			return
		}
		rest = rest[at+1:]
	}
}

// Every command of the tutorial runs as it is written, and prints what the
// page shows.
func TestTutorial(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	list := fences(t, "docs/protocols.md", "Ten minutes")
	if len(list) < 15 {
		t.Fatalf("only %d blocks", len(list))
	}
	r.follow(list)
	if r.run == "" {
		t.Error("no run was accepted")
	}
}

// What the README shows without a station runs as it is written.
func TestReadmeOffline(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	for _, f := range fences(t, "README.md", "Look before anything moves") {
		for _, line := range strings.Split(strings.TrimSpace(f.text), "\n") {
			if !heavy && (strings.Contains(line, "interlocks test") || strings.Contains(line, "interlocks verify")) {
				continue // seconds of work; others test them
			}
			r.do(strings.ReplaceAll(line, "go run . ", "./labgate "))
			if strings.Contains(r.said, "labgate: ") || r.said == "" {
				t.Errorf("%s\n%s", line, r.said)
			}
		}
	}
}

// The parts of Getting started that need no station.
func TestGettingStartedOffline(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	r.follow(fences(t, "docs/getting-started.md", "Check a file"))
	own := fences(t, "docs/getting-started.md", "A protocol of your own")
	if r.follow(own[:2]); !strings.Contains(r.said, "focus.yaml: protocol, no issues") || !strings.Contains(r.said, "my-lab: lab, no issues") {
		t.Errorf("a lab and a protocol of one's own: %s", r.said)
	}
}
