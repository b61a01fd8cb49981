package protocols_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"labgate/protocols"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Each file in testdata/bad has beside it exactly what is said about it: all
// issues, with position, code and hint.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 85 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	library := protocols.Files(folder(t, "testdata/library"))
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, issues := protocols.Parse(filepath.Base(file), data, demoLab(t).Classes, library)
			if p != nil || len(issues) == 0 {
				t.Fatalf("it passes: %v", issues)
			}
			var b strings.Builder
			for _, i := range issues {
				fmt.Fprintf(&b, "[%s] %s\n", i.Code, i.Error())
				if i.Code == "" || i.Line == 0 || i.Say == "" {
					t.Errorf("an issue without code, line or text: %+v", i)
				}
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got := b.String(); got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// folder is the files of a folder: name to bytes.
func folder(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(names) == 0 {
		t.Fatalf("nothing in %s: %v", dir, err)
	}
	files := map[string][]byte{}
	for _, n := range names {
		if files[filepath.Base(n)], err = os.ReadFile(n); err != nil {
			t.Fatal(err)
		}
	}
	return files
}
