package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"labgate/lab"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// check says everything that is wrong with a file, each with file, line, column
// and a hint, and connects to nothing.
func TestCheck(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/check/*")
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, file := range append(files, "testdata/check/missing.yaml") {
		if filepath.Ext(file) == ".golden" {
			continue
		}
		cases++
		t.Run(filepath.Base(file), func(t *testing.T) {
			var out, errs bytes.Buffer
			code := execute(t.Context(), []string{"check", file}, &out, &errs)
			got := fmt.Sprintf("exit %d\n%s%s", code, &out, &errs)
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("- want, + got (go test -run TestCheck -update . writes them anew):\n%s", d)
			}
			if code != exitRefused || errs.Len() > 0 {
				t.Errorf("exit %d, %s", code, &errs)
			}
			checkJSON(t, file, strings.Count(out.String(), "\n"))
		})
	}
	if cases < 10 {
		t.Errorf("%d cases", cases)
	}
}

// checkJSON: for machines it says the same on one line.
func checkJSON(t *testing.T, file string, issues int) {
	t.Helper()
	var out, errs bytes.Buffer
	if code := execute(t.Context(), []string{"check", file, "--json"}, &out, &errs); code != exitRefused {
		t.Errorf("--json: exit %d", code)
	}
	lines := jsonLines(t, out.String())
	var v struct {
		Kind, Decision, File string
		Issues               []lab.Issue
	}
	if err := json.Unmarshal(lines[0], &v); err != nil || len(lines) != 1 {
		t.Fatalf("%v: %s", err, &out)
	}
	if v.Kind != "verdict/v1" || v.Decision != "rejected" || v.File != file || len(v.Issues) != issues {
		t.Errorf("%d lines of issues, but --json says %s", issues, &out)
	}
	for _, i := range v.Issues {
		if missing := i.Code == "unreadable"; i.Say == "" || i.File == "" || !missing && (i.Line < 1 || i.Column < 1) {
			t.Errorf("an issue without its place: %+v", i)
		}
	}
}

// What is shipped has no issues, and says what a run costs.
func TestCheckOfWhatIsShipped(t *testing.T) {
	t.Parallel()
	args := []string{"check", "configs/labs/demo", "configs/labs/demo/interlocks.yaml"}
	for _, pattern := range []string{"protocols/library/*.yaml", "configs/classes/*.yaml", "configs/profiles/*/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		args = append(args, files...)
	}
	var out, errs bytes.Buffer
	if code := execute(t.Context(), args, &out, &errs); code != exitDone {
		t.Errorf("exit %d\n%s%s", code, &out, &errs)
	}
	wantIn(t, "check", out.String(), "gold-nanoparticles.yaml: protocol, no issues; about ", "37 exposures, 0.15 mL of HAuCl4", "dosing-needs-hood")
	for _, c := range []struct{ args, say string }{
		{"protocols/library/gold-nanoparticles.yaml -i temperature=200degC", "input temperature: 200 degC is out of bounds"},
		{"protocols/library/gold-nanoparticles.yaml --lab testdata/check/lab", `testdata/check/lab/lab.yaml:4:1: "colour" is no key of a lab file`},
		{"protocols/library/gold-nanoparticles.yaml --lab testdata", "testdata is no lab folder"},
		{os.DevNull, "the file is empty"},
		{"/dev/zero", "more than 1048576 bytes"},
	} {
		out.Reset()
		if code := execute(t.Context(), append([]string{"check"}, strings.Fields(c.args)...), &out, &errs); code != exitRefused {
			t.Errorf("%s: exit %d", c.args, code)
		}
		wantIn(t, c.args, out.String(), c.say)
	}
}
